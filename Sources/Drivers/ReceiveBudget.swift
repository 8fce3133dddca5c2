internal import CURing

/// The number of bytes that a driver receives in a turn, adjusted so that a turn takes about half a millisecond.
///
/// The driver cannot know in advance how long the core needs for the received bytes: a SEND without subscribers takes a
/// tenth of a microsecond, one to a thousand subscribers takes milliseconds. All other connections wait meanwhile. So
/// after a turn that took too long, the next turns receive proportionally fewer bytes. After a turn that used its
/// budget up quickly, the budget doubles. Turns that received few bytes are not measured, which saves reading the
/// clock.
struct ReceiveBudget {
    let byteCountMin: Int
    let byteCountMax: Int
    private(set) var byteCount: Int
    private var receivedByteCount = 0
    /// When the budget returns to its maximum after a turn that took too long (coarse monotonic milliseconds). 0: no
    /// such turn, or the time has passed.
    var calmAtMilliseconds: UInt64 = 0
    /// When the core got the bytes of this turn (monotonic nanoseconds). 0: this turn is not measured.
    private var receivedAt: UInt64 = 0

    /// The longest time from the core getting the bytes to the end of the sends that they caused. A turn that takes
    /// longer makes the budget smaller.
    static let nanosecondsMax: UInt64 = 400_000
    /// The smallest budget. Copying 32 KiB takes about as long as the system call itself.
    static let leastByteCount = 32 << 10
    private static let divisorMax = 8
    /// How long a turn that took too long has an effect. A quick turn in between does not mean that the load is over:
    /// the sockets of the subscribers may have been full, or the publishers that were read had no subscribers.
    private static let calmAfterMilliseconds: UInt64 = 1_000
    /// Turns with fewer bytes than this are not measured.
    private static let measuredByteCountMin = 128 << 10

    init(byteCountMax: Int) {
        self.byteCountMax = byteCountMax
        byteCountMin = min(Self.leastByteCount, byteCountMax)
        byteCount = byteCountMax
    }

    /// Whether the end of this turn must be reported by `turnEnds`.
    var isMeasuring: Bool { receivedAt != 0 }

    /// Whether a turn took too long within the last second.
    var isTight: Bool { calmAtMilliseconds != 0 }

    /// The core gets the received bytes.
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

    /// The sends of the core have been passed to the kernel.
    mutating func turnEnds() {
        guard receivedAt != 0 else { return }
        turnEnds(after: clock_monotonic_nanoseconds() &- receivedAt)
    }

    mutating func turnEnds(after nanoseconds: UInt64) {
        receivedAt = 0
        if nanoseconds > Self.nanosecondsMax {
            calmAtMilliseconds = clock_coarse_milliseconds() + Self.calmAfterMilliseconds
            // The divisor is bounded: a single long turn may have been caused by other load on the machine.
            let divisor = min(max(Int(nanoseconds / Self.nanosecondsMax), 2), Self.divisorMax)
            byteCount = max(min(byteCount, receivedByteCount) / divisor, byteCountMin)
        } else if nanoseconds < Self.nanosecondsMax / 3, receivedByteCount >= byteCount / 2 {
            byteCount = min(byteCount * 2, byteCountMax)
        }
    }
}
