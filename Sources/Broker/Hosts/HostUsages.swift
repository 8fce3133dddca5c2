import Slabs
import Synchronization

/// What hosts use, in all shards together, by the number of the host.
final class HostUsages: Sendable {
    private let hosts: [HostUsage]

    /// One more is for what is stored of hosts that are not there any more.
    init(hostCount: Int) { hosts = (0...hostCount).map { _ in HostUsage() } }

    subscript(number: Int) -> HostUsage { hosts[number] }
}

/// What one host and its clients have, of all workers together.
public struct HostFigures: Sendable, Equatable {
    public var name: String
    public var connectionCount: Int
    public var subscriptionCount: Int
    /// Of its stored messages. 0 without a store.
    public var storedByteCount: Int
}

/// What one host uses.
final class HostUsage: Sendable {
    private let connections = Atomic<Int>(0)
    private let subscriptions = Atomic<Int>(0)
    private let storedBytes = Atomic<Int>(0)
    let frames = RateClock()
    let bytes = RateClock()

    var connectionCount: Int { connections.load(ordering: .relaxed) }
    var subscriptionCount: Int { subscriptions.load(ordering: .relaxed) }
    var storedByteCount: Int { storedBytes.load(ordering: .relaxed) }

    /// Returns how many connections it has then, with this one.
    func enter() -> Int { connections.add(1, ordering: .relaxed).newValue }

    func leave() {
        let count = connections.subtract(1, ordering: .relaxed).newValue
        invariant(count >= 0, "a host has lost more connections than it had")
    }

    func addSubscription() { subscriptions.add(1, ordering: .relaxed) }

    func removeSubscription() {
        let count = subscriptions.subtract(1, ordering: .relaxed).newValue
        invariant(count >= 0, "a host has lost more subscriptions than it had")
    }

    func store(_ byteCount: Int) { storedBytes.add(byteCount, ordering: .relaxed) }

    func release(_ byteCount: Int) {
        let count = storedBytes.subtract(byteCount, ordering: .relaxed).newValue
        invariant(count >= 0, "a host has lost more stored bytes than it had")
    }
}
