/// How well a server kept its heart-beat interval, over all clients.
public struct Silences: Codable, Sendable, Equatable {
    /// The number of heart-beats that clients sent, and the longest time without a byte from the server, in
    /// milliseconds.
    public var sent = 0
    public var longest = 0
    /// Silences longer than 1.25 intervals.
    public var late = 0
    /// Silences longer than two intervals, after which a client would close the connection.
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
