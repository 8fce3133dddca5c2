import CProcess
import Load

/// Tells how fast the server's core is, and how fast it has ever been.
///
/// CPUs of a virtual machine are hyperthreads of a host that others use. A busy sibling makes what keeps the execution units
/// busy up to 1.8 times as slow, comes and goes within seconds, and shows neither as steal nor as waiting.
final class Calibrator {
    private let cpu: Int32?
    /// Milliseconds of the fastest one of all; infinite before the first.
    private(set) var fastest = Double.infinity
    /// An interrupt in the loop is no busy sibling: the fastest of so many loops counts.
    private static let loopsPerCalibration = 3
    private static let calibrationsAtStart = 5

    /// - Parameter cpu: the server's. Nil: it is not bound, and nothing is calibrated.
    init(cpu: Int32?) { self.cpu = cpu }

    /// So that the first runs have something to be compared with.
    func begin() {
        for _ in 0..<Self.calibrationsAtStart { _ = measure() }
    }

    /// Milliseconds; nil where there is no CPU to calibrate.
    func measure() -> Double? {
        guard let cpu else { return nil }
        let loops = (0..<Self.loopsPerCalibration).map { _ in process_calibrate(cpu) }
        guard let least = loops.min(), least > 0 else { return nil }
        let milliseconds = Double(least) / 1e6
        fastest = min(fastest, milliseconds)
        return milliseconds
    }

    /// Calibrates until the core is as fast as it can be, for `seconds` at the most.
    func awaitQuiet(seconds: Double) -> Double? {
        let watch = Stopwatch(nil)
        while true {
            guard let milliseconds = measure() else { return nil }
            let isQuiet = milliseconds <= fastest * RunSelection.slownessMax
            if isQuiet || watch.wallSeconds >= seconds { return milliseconds }
        }
    }
}
