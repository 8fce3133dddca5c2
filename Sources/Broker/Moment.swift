/// The time of a turn, as its caller gives it.
struct Moment: BitwiseCopyable {
    /// Monotonic nanoseconds.
    var now: UInt64
    /// `now` in milliseconds, wrapping.
    var clock: UInt32
    /// Milliseconds since the epoch.
    var wallMilliseconds: UInt64
}
