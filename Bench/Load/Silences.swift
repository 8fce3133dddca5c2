/// How well a server kept its promise of heart-beats, over all clients.
public struct Silences: Codable, Sendable, Equatable {
    /// Heart-beats that clients sent, and the longest time in which one of them heard nothing, in milliseconds.
    public var sent = 0
    public var longest = 0
    /// Silences that were longer than the interval and a quarter.
    public var late = 0
    /// Silences of more than two intervals, after which a client would take the server for dead.
    public var missed = 0

    public init() {}

    mutating func count(milliseconds: Int, interval: Int) {
        longest = max(longest, milliseconds)
        if milliseconds > 2 * interval {
            missed += 1
        } else if milliseconds > interval + interval / 4 {
            late += 1
        }
    }

    mutating func add(_ other: Silences) {
        sent += other.sent
        longest = max(longest, other.longest)
        late += other.late
        missed += other.missed
    }
}
