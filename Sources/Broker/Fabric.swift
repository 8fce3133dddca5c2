import IO
public import Slabs
import Synchronization

/// What the shards of one broker share: a mailbox each, and how many connections each holds.
///
/// Filled before the workers start; afterwards only mailboxes (lock-free) and the load figures (relaxed atomics, a hint)
/// change.
public final class Fabric: Sendable {
    public let shardCount: Int
    let mailboxes: [Mailbox]
    private let loads: [Load]
    /// By `ListenerID`: connections of all shards, of listeners with a limit.
    private let listeners: [Listener]
    /// What users with limits use.
    let userUsages = UserUsages()
    /// What hosts use.
    let hostUsages: HostUsages

    private final class Listener: Sendable {
        let connectionCount = Atomic<Int>(0)
    }

    private final class Load: Sendable {
        let connectionCount = Atomic<Int>(0)
        let connectionCountMax = Atomic<Int>(0)
        let isQuiet = Atomic<Bool>(false)
        let isIdle = Atomic<Bool>(false)
        let peerMessagesSent = Atomic<UInt64>(0)
        let peerMessagesReceived = Atomic<UInt64>(0)
        /// A `LimitKind`, or `nothing`.
        let fullLimit = Atomic<UInt8>(Load.nothing)
        let topicsFillMemory = Atomic<Bool>(false)
        let storeIsFull = Atomic<Bool>(false)

        static let nothing = UInt8.max
    }

    /// - Parameters:
    ///   - shardCount: 1 to 128.
    ///   - mailboxByteCountMax: bytes of peer messages that wait in one mailbox.
    ///   - listenerCount: of the listeners of `BrokerOptions`.
    ///   - hostCount: of its hosts.
    public init(shardCount: Int, mailboxByteCountMax: Int, listenerCount: Int = 0, hostCount: Int = 0) {
        invariant(shardCount >= 1 && shardCount <= 128, "a fabric has 1 to 128 shards")
        self.shardCount = shardCount
        mailboxes = (0..<shardCount).map { _ in Mailbox(byteCountMax: mailboxByteCountMax) }
        loads = (0..<shardCount).map { _ in Load() }
        listeners = (0..<listenerCount).map { _ in Listener() }
        hostUsages = HostUsages(hostCount: hostCount + 1)
    }

    public func mailbox(_ shard: Int) -> Mailbox { mailboxes[shard] }

    func report(shard: Int, connectionCount: Int, max: Int) {
        loads[shard].connectionCount.store(connectionCount, ordering: .relaxed)
        loads[shard].connectionCountMax.store(max, ordering: .relaxed)
    }

    /// - Parameters:
    ///   - fullLimit: the limit at which messages to its queues have to wait. Nil: they have not.
    ///   - isFullForTopics: messages to topics, which do not stay, would be too much as well.
    func reportMemory(shard: Int, fullLimit: LimitKind?, isFullForTopics: Bool) {
        loads[shard].fullLimit.store(fullLimit?.rawValue ?? Load.nothing, ordering: .relaxed)
        loads[shard].topicsFillMemory.store(isFullForTopics, ordering: .relaxed)
    }

    /// A shard takes no more messages to its queues now: its mailbox or its memory is full.
    func isFull(_ shard: Int) -> Bool {
        mailboxes[shard].isOverfull || loads[shard].fullLimit.load(ordering: .relaxed) != Load.nothing
    }

    /// The limit at which a shard that is full is.
    func fullLimit(_ shard: Int) -> LimitKind {
        LimitKind(rawValue: loads[shard].fullLimit.load(ordering: .relaxed)) ?? .mailbox
    }

    /// So much waits for a shard's disk that no more is to be stored there now.
    func storeIsFull(_ shard: Int) -> Bool { loads[shard].storeIsFull.load(ordering: .relaxed) }

    func reportStore(shard: Int, isFull: Bool) { loads[shard].storeIsFull.store(isFull, ordering: .relaxed) }

    /// A shard takes no more messages to topics now.
    func isFullForTopics(_ shard: Int) -> Bool {
        mailboxes[shard].isOverfull || loads[shard].topicsFillMemory.load(ordering: .relaxed)
    }

    /// One of several shards takes no more messages to topics now.
    func isFullForTopics(anyOf peers: PeerSet) -> Bool {
        if peers.isEmpty { return false }
        for peer in 0..<shardCount where peers.contains(peer) && isFullForTopics(peer) { return true }
        return false
    }

    /// Nothing waits in this shard that a drain should wait for.
    func reportQuiet(shard: Int, _ isQuiet: Bool) { loads[shard].isQuiet.store(isQuiet, ordering: .relaxed) }

    /// No shard has anything that a drain should wait for.
    var isQuiet: Bool { loads.allSatisfy { $0.isQuiet.load(ordering: .relaxed) } }

    // MARK: The end of a drain

    /// A shard that drains has written so many messages to others. Told before they can be read.
    func report(shard: Int, peerMessagesSent: UInt64) {
        loads[shard].peerMessagesSent.store(peerMessagesSent, ordering: .releasing)
    }

    /// A shard has no connections and will have none: it only answers others now. Of the messages that it was sent it has
    /// applied so many, and has told of those that came of them.
    func reportIdle(shard: Int, peerMessagesReceived: UInt64) {
        loads[shard].peerMessagesReceived.store(peerMessagesReceived, ordering: .releasing)
        loads[shard].isIdle.store(true, ordering: .releasing)
    }

    /// Every shard is idle and has applied every message of another: nothing will come to anybody's queues any more.
    ///
    /// All counts of messages received are read before any of messages sent. A message that is among the former was told
    /// of before it was read, so it is among the latter, and so are those that came of it. When both counts are the same,
    /// then so are the messages, and none is left that could bring forth another.
    var isAtRest: Bool {
        var received: UInt64 = 0
        for load in loads {
            guard load.isIdle.load(ordering: .acquiring) else { return false }
            received &+= load.peerMessagesReceived.load(ordering: .acquiring)
        }
        return received == loads.reduce(0) { $0 &+ $1.peerMessagesSent.load(ordering: .relaxed) }
    }

    /// The shard with the most room for connections, other than `shard`. nil when none has any.
    func shardWithRoom(besides shard: Int) -> Int? {
        var best: Int?
        var bestRoom = 0
        for candidate in 0..<shardCount where candidate != shard {
            let room =
                loads[candidate].connectionCountMax.load(ordering: .relaxed)
                - loads[candidate].connectionCount.load(ordering: .relaxed)
            if room > bestRoom {
                best = candidate
                bestRoom = room
            }
        }
        return best
    }

    /// The shard with the fewest connections, if it has fewer than `count` and room. nil: none has.
    func shardWithFewer(than count: Int, besides shard: Int) -> Int? {
        var best: Int?
        var fewest = count
        for candidate in 0..<shardCount where candidate != shard {
            let held = loads[candidate].connectionCount.load(ordering: .relaxed)
            if held < fewest, held < loads[candidate].connectionCountMax.load(ordering: .relaxed) {
                best = candidate
                fewest = held
            }
        }
        return best
    }

    // MARK: Listeners

    /// Counts a connection of a listener. False: it has `max` already.
    func enterListener(_ listener: ListenerID, max: Int) -> Bool {
        let count = listeners[Int(listener.rawValue)].connectionCount.add(1, ordering: .relaxed).newValue
        if count <= max { return true }
        leaveListener(listener)
        return false
    }

    func leaveListener(_ listener: ListenerID) {
        let count = listeners[Int(listener.rawValue)].connectionCount.subtract(1, ordering: .relaxed).newValue
        invariant(count >= 0, "a listener has lost more connections than it had")
    }
}
