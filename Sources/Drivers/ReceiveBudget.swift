internal import CURing

/// How many bytes a driver receives in a turn: so many that it is over after about half a millisecond.
///
/// What bytes cost shows only when the core has them: a SEND to nobody a tenth of a microsecond, one to a thousand
/// subscribers milliseconds. Whoever has something to say meanwhile waits. So after a turn that took too long the next ones
/// receive in proportion less than it did, and after one that used its budget up in little time twice as much. Turns that
/// received little are not measured: they cost no look at the clock.
struct ReceiveBudget {
    let byteCountMin: Int
    let byteCountMax: Int
    private(set) var byteCount: Int
    private var receivedByteCount = 0
    /// When the last turn that took too long is forgotten (coarse monotonic milliseconds). 0: it is.
    var calmAtMilliseconds: UInt64 = 0
    /// When the core was given this turn's bytes (monotonic nanoseconds). 0: they were few.
    private var receivedAt: UInt64 = 0

    /// From being given its bytes to the end of the sends that came of them.
    static let nanosecondsMax: UInt64 = 400_000
    /// At least so much at a time: to copy 32 KiB takes about as long as the system call that does it.
    static let leastByteCount = 32 << 10
    private static let divisorMax = 8
    /// Bytes that cost little now may be followed by some of the same flood that cost much: its subscribers' sockets were full,
    /// or its publishers were read whom nobody hears.
    private static let calmAfterMilliseconds: UInt64 = 1_000
    /// What is little.
    private static let measuredByteCountMin = 128 << 10

    init(byteCountMax: Int) {
        self.byteCountMax = byteCountMax
        byteCountMin = min(Self.leastByteCount, byteCountMax)
        byteCount = byteCountMax
    }

    /// This turn's end has to be told of.
    var isMeasuring: Bool { receivedAt != 0 }

    /// A flood is under way that takes more time than there is, or was until a moment ago.
    var isTight: Bool { calmAtMilliseconds != 0 }

    /// The core is given what was received.
    mutating func turnBegins(byteCount received: Int) {
        if isTight, clock_coarse_milliseconds() >= calmAtMilliseconds {
            calmAtMilliseconds = 0
            byteCount = byteCountMax
        }
        guard received >= min(byteCount / 2, Self.measuredByteCountMin) else {
            receivedAt = 0
            return
        }
        receivedByteCount = received
        receivedAt = clock_monotonic_nanoseconds()
    }

    /// What the core has to say of it is with the kernel.
    mutating func turnEnds() {
        guard receivedAt != 0 else { return }
        turnEnds(after: clock_monotonic_nanoseconds() &- receivedAt)
    }

    mutating func turnEnds(after nanoseconds: UInt64) {
        receivedAt = 0
        if nanoseconds > Self.nanosecondsMax {
            calmAtMilliseconds = clock_coarse_milliseconds() + Self.calmAfterMilliseconds
            // Not by more at once than the machine could be to blame for.
            let divisor = min(max(Int(nanoseconds / Self.nanosecondsMax), 2), Self.divisorMax)
            byteCount = max(min(byteCount, receivedByteCount) / divisor, byteCountMin)
        } else if nanoseconds < Self.nanosecondsMax / 3, receivedByteCount >= byteCount / 2 {
            byteCount = min(byteCount * 2, byteCountMax)
        }
    }
}
