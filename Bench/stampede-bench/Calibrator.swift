import CProcess
import Load

/// Measures the speed of the server's core, and keeps the fastest value.
///
/// The CPUs of a virtual machine are hyperthreads of a host with other users. A busy sibling makes code up to 1.8 times
/// slower. It comes and goes within seconds, and is visible neither as steal time nor as waiting.
final class Calibrator {
    private let cpu: Int32?
    /// Milliseconds of the fastest calibration. Infinite before the first one.
    private(set) var fastest = Double.infinity
    /// The fastest of this many loops counts, so that an interrupt in one loop does not look like a busy sibling.
    private static let loopsPerCalibration = 3
    private static let calibrationsAtStart = 5

    /// - Parameter cpu: the CPU of the server. nil: the server is not bound, and nothing is calibrated.
    init(cpu: Int32?) { self.cpu = cpu }

    /// Calibrates several times, so that the first runs can be compared with a fast value.
    func begin() {
        for _ in 0..<Self.calibrationsAtStart { _ = measure() }
    }

    /// Milliseconds. nil: there is no CPU to calibrate.
    func measure() -> Double? {
        guard let cpu else { return nil }
        let loops = (0..<Self.loopsPerCalibration).map { _ in process_calibrate(cpu) }
        guard let least = loops.min(), least > 0 else { return nil }
        let milliseconds = Double(least) / 1e6
        fastest = min(fastest, milliseconds)
        return milliseconds
    }

    /// Calibrates until the core is as fast as its fastest value, for at most `seconds`.
    func awaitQuiet(seconds: Double) -> Double? {
        let watch = Stopwatch(nil)
        while true {
            guard let milliseconds = measure() else { return nil }
            let isQuiet = milliseconds <= fastest * RunSelection.slownessMax
            if isQuiet || watch.wallSeconds >= seconds { return milliseconds }
        }
    }
}
