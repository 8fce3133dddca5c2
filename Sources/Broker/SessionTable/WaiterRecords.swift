import Slabs

/// Whether a connection that was accepted may stay.
enum AcceptOutcome: BitwiseCopyable {
    case admitted(Index<Session>)
    /// `connections`, `connectionsPerAddress` or `connectionsPerSecond`.
    case refused(LimitKind)
}

/// A session whose frame waits for memory.
struct RoomWaiter: BitwiseCopyable {
    var session: Handle<Session>
    /// The worker that has to have room.
    var owner: UInt16
    /// Its message passes through.
    var isTopic: Bool

    static var noOwner: UInt16 { .max }
}

/// Who among those that wait for room may go on.
struct Room: BitwiseCopyable {
    /// Messages to queues, and others that stay, may be taken.
    var isForQueues: Bool
    /// Messages that pass through may be taken.
    var isForTopics: Bool
    /// Other workers that cannot take more for their queues.
    var fullWorkers = PeerSet()
}

/// A session that is cut at the end of the turn, and what for.
struct SlowSession: BitwiseCopyable {
    var session: Handle<Session>
    var limit: LimitKind
    /// The encoding of the subscription whose message was too much. None: no single one.
    var encoding: Index<SharedEncoding>
}

/// A client that sends a large frame too slowly while memory is short for them.
struct SlowFrame: BitwiseCopyable {
    var session: Index<Session>
    /// The time that it had.
    var milliseconds: UInt32
}
