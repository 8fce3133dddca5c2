import Glibc

/// The time at which a wait fails. It only bounds failures; no test measures how long something takes.
public struct Deadline: Sendable {
    /// How many times as long as usual everything may take: TEST_PATIENCE (under a sanitizer), else 1.
    public static let patience = getenv("TEST_PATIENCE").flatMap { Int(String(cString: $0)) } ?? 1

    /// What a wait for one event may take on a busy machine with a debug build.
    public static let defaultSeconds = 20 * patience

    private let nanoseconds: UInt64

    public init(seconds: Int = Self.defaultSeconds) {
        nanoseconds = Self.now + UInt64(seconds) * 1_000_000_000
    }

    /// What is left, for poll(2): at least 0, rounded up.
    public var millisecondsLeft: Int32 {
        let now = Self.now
        return now >= nanoseconds ? 0 : Int32(clamping: (nanoseconds - now + 999_999) / 1_000_000)
    }

    public var isOver: Bool { Self.now >= nanoseconds }

    private static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
