internal import CProcess
import Glibc

/// The cost of one operation.
public struct MicroFigure: Codable, Sendable {
    public var nanoseconds: Double
    /// nil: not counted.
    public var instructions: Double?

    public init(nanoseconds: Double, instructions: Double? = nil) {
        self.nanoseconds = nanoseconds
        self.instructions = instructions
    }
}

public enum MicroMeasurement {
    /// Runs an operation for `milliseconds`, in `rounds` rounds, and takes the time of the fastest round.
    public static func measure(_ micro: MicroCase, milliseconds: Int, rounds: Int) -> MicroFigure {
        let workload = micro.make()
        var count = 64
        var elapsed = time(workload, count)
        // Doubling the count also warms up caches, branch prediction and pages.
        while elapsed < Double(milliseconds) * 1e6 / 2, count < 1 << 40 {
            count *= 2
            elapsed = time(workload, count)
        }
        var figure = MicroFigure(nanoseconds: .infinity)
        let counter = instructions_open()
        for _ in 0..<rounds {
            let before = counter >= 0 ? instructions_read(counter) : -1
            figure.nanoseconds = min(figure.nanoseconds, time(workload, count) / Double(count))
            if before >= 0 {
                let counted = Double(instructions_read(counter) - before) / Double(count)
                figure.instructions = min(figure.instructions ?? .infinity, counted)
            }
        }
        if counter >= 0 { close(counter) }
        return figure
    }

    /// Runs an operation `count` times between two calls of `instructions_mark`, for a tool that counts instructions.
    public static func runBetweenMarks(_ micro: MicroCase, count: Int) {
        let workload = micro.make()
        workload.run(count)
        instructions_mark()
        workload.run(count)
        instructions_mark()
    }

    /// Nanoseconds of CPU time. Other processes on the machine do not add to it.
    private static func time(_ workload: any Workload, _ count: Int) -> Double {
        let start = processorNanoseconds()
        workload.run(count)
        return Double(processorNanoseconds() - start)
    }

    private static func processorNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
