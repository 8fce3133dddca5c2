import Slabs

/// Who made a queue hold messages: a connection of any worker.
struct QueueHolder: BitwiseCopyable, Equatable {
    /// With `shard`. None: nobody.
    var session: Handle<Session>
    /// In 32 bits. 0: not known, because no limit counts by address.
    var address: UInt32
    var shard: UInt16

    static var nobody: QueueHolder { QueueHolder(session: .none, address: 0, shard: 0) }
    var isNobody: Bool { session.isNone }
}

/// How many queues of this worker each client has filled that nobody subscribes to.
///
/// Subscriptions have a limit of their own, and a topic nobody subscribes to is forgotten when there are too many. Messages
/// alone would keep a queue for ever: without a limit, one client that sends to ever new names would leave no room for
/// anybody else's. A queue comes here when it gets its first message or loses its last consumer, never with each message, so
/// dictionaries do.
struct QueueHolders {
    private struct Connection: Hashable {
        var session: Handle<Session>
        var shard: UInt16
    }

    private var byConnection: [Connection: Int] = [:]
    private var byAddress: [UInt32: Int] = [:]

    /// Why the client may not fill another queue. nil: it may.
    func refusal(of holder: QueueHolder, _ limits: Limits) -> Refusal? {
        let connection = Connection(session: holder.session, shard: holder.shard)
        if limits.destinationsPerConnectionMax != 0,
            byConnection[connection, default: 0] >= limits.destinationsPerConnectionMax
        {
            return .destinationsOfConnection
        }
        if limits.destinationsPerAddressMax != 0, holder.address != 0,
            byAddress[holder.address, default: 0] >= limits.destinationsPerAddressMax
        {
            return .destinationsOfAddress
        }
        return nil
    }

    mutating func enter(_ holder: QueueHolder) {
        byConnection[Connection(session: holder.session, shard: holder.shard), default: 0] += 1
        if holder.address != 0 { byAddress[holder.address, default: 0] += 1 }
    }

    mutating func leave(_ holder: QueueHolder) {
        let connection = Connection(session: holder.session, shard: holder.shard)
        Self.decrease(&byConnection, connection)
        if holder.address != 0 { Self.decrease(&byAddress, holder.address) }
    }

    private static func decrease<Key: Hashable>(_ counts: inout [Key: Int], _ key: Key) {
        guard let count = counts[key] else { return invariant(false, "what leaves was counted") }
        counts[key] = count > 1 ? count - 1 : nil
    }
}
