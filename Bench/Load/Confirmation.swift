import Glibc

/// What it cost to have each message confirmed.
public struct Confirmation: Codable, Sendable {
    /// Whether they were confirmed as persistent ones.
    public var isPersistent = false
    public var messages = 0
    public var messagesPerSecond = 0.0
    /// Microseconds of server CPU, also that of threads which have ended, per confirmed message.
    public var serverMicrosecondsPerMessage = 0.0
    /// The bytes that the server wrote to storage, as the kernel counts them, per confirmed message.
    public var writtenBytesPerMessage = 0.0
    /// From the time at which a message was made to its confirmation.
    public var latency = Latency()

    public init() {}
}

/// The counters that a `Confirmation` is the difference of.
struct ConfirmationSample {
    var time = monotonicNanoseconds()
    var confirmed: Int
    var processorNanoseconds: UInt64
    var writtenByteCount: Int

    init(_ server: ServerProcess?, _ counts: Counts) {
        confirmed = counts.confirmed
        processorNanoseconds = server?.processorNanoseconds ?? 0
        writtenByteCount = server?.writtenByteCount ?? 0
    }

    func confirmation(until later: ConfirmationSample) -> Confirmation {
        var confirmation = Confirmation()
        let seconds = Double(later.time - time) / 1e9
        confirmation.messages = later.confirmed - confirmed
        let count = Double(max(confirmation.messages, 1))
        confirmation.messagesPerSecond = Double(confirmation.messages) / seconds
        confirmation.serverMicrosecondsPerMessage =
            Double(later.processorNanoseconds &- processorNanoseconds) / 1000 / count
        confirmation.writtenBytesPerMessage = Double(later.writtenByteCount - writtenByteCount) / count
        return confirmation
    }
}

extension ServerProcess {
    /// The time that all threads of the process have had a core, also of those that ended: the clock that
    /// clock_getcpuclockid(3) names. `times` has only threads that exist, and those that write for others come and go.
    public var processorNanoseconds: UInt64 {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(identifier, &clock) == 0, clock_gettime(clock, &time) == 0 else { return 0 }
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// The bytes that the process has caused to be written to storage: write_bytes of proc_pid_io(5).
    public var writtenByteCount: Int {
        let line = Self.text("/proc/\(identifier)/io").split(separator: "\n").first { $0.hasPrefix("write_bytes:") }
        return line.flatMap { $0.split(separator: " ").last.flatMap { Int($0) } } ?? 0
    }

    /// The most memory that the process has had resident so far, in bytes: VmHWM of proc_pid_status(5).
    public var residentByteCountMax: Int { Self.field("VmHWM", in: "/proc/\(identifier)/status") * 1024 }
}
