/// Want of space: from the first operation that is refused for it until what was refused has gone through.
///
/// What is refused is tried again five times a second. The operator hears of it when it begins and when it is over, and once
/// a minute in between.
struct DiskShortage: BitwiseCopyable {
    /// What the operator should hear.
    enum Word: BitwiseCopyable { case began, lasts, ended }

    private static var reminderNanoseconds: UInt64 { 60_000_000_000 }
    /// What waits for room is refused its RECEIPT after so many attempts in a row: two seconds.
    private static var attemptCountMax: Int { 10 }

    var refusesAppend = false
    var refusesSegment = false
    /// A message was refused because `StorageOptions.byteCountMax` permits no further segment.
    var isAtLimit = false
    private var attemptCount = 0
    private var isTold = false
    /// When the operator was last told that it began, or lasts (monotonic nanoseconds). 0: never.
    private var toldAt: UInt64 = 0

    var isOver: Bool { !refusesAppend && !refusesSegment && !isAtLimit }

    /// Those who wait have waited long enough.
    var isLong: Bool { attemptCount >= Self.attemptCountMax }

    mutating func countAttempt() { attemptCount = min(attemptCount + 1, Self.attemptCountMax) }

    /// To be asked whenever something was refused or has gone through. nil: there is nothing to tell.
    mutating func word(_ now: UInt64) -> Word? {
        guard isOver else {
            // Near the limit it comes and goes.
            if toldAt != 0, now &- toldAt < Self.reminderNanoseconds { return nil }
            toldAt = now
            defer { isTold = true }
            return isTold ? .lasts : .began
        }
        attemptCount = 0
        guard isTold else { return nil }
        isTold = false
        return .ended
    }
}
