import Broker
public import Capacity
import IO

extension Settings {
    /// Describes the broker with these settings for the capacity check.
    ///
    /// - Parameters:
    ///   - ringIsAvailable: the self-test of io_uring passed. If not, `auto` means epoll.
    ///   - ringIsPlain: sockets are plain descriptors.
    ///   - hasLocalClients: the clients are on this machine too, and connect from one address.
    public func party(
        connectionCount: Int, ringIsAvailable: Bool, ringIsPlain: Bool = false, availableCPUCount: Int,
        hasLocalClients: Bool = false
    ) -> Party {
        let usesRing = driver == .uring || driver == .auto && ringIsAvailable
        var party = Party(.broker, connectionCount: connectionCount, driver: usesRing ? .uring : .epoll)
        let workerCount = resolvedWorkerCount(availableCPUCount: availableCPUCount)
        let limits = broker.limits
        party.insistsOnRing = driver == .uring
        party.hasDirectDescriptors = usesRing && !ringIsPlain
        party.workerCount = workerCount
        party.workerCountMax = Self.workerCountMax
        party.connectionsPerWorkerMax = usesRing ? driverOptions.connectionCountMax : 0
        party.ring.submissionEntries = driverOptions.submissionEntryCount
        party.ring.completionEntries = driverOptions.completionEntryCount
        party.ring.buffers = driverOptions.receiveBufferCount
        party.ring.bufferBytes = driverOptions.receiveBufferByteCount
        party.ring.largeBuffers = driverOptions.largeReceiveBufferCount
        party.ring.largeBufferBytes = driverOptions.largeReceiveBufferByteCount
        party.listenerCount = listeners.count
        party.listensOnEveryAddress = listeners.contains { $0.isUnspecified }
        party.ownLimits = ownLimits(workerCount: workerCount, hasLocalClients: hasLocalClients)
        return party
    }

    /// The keys that limit connections, or subscriptions, of which each connection has one. Those of users are not among
    /// them: nobody knows which users will come.
    private func ownLimits(workerCount: Int, hasLocalClients: Bool) -> [Party.OwnLimit] {
        let limits = broker.limits
        var all: [Party.OwnLimit] = []
        func add(_ name: String, perWorker count: Int) {
            if count > 0 { all.append(.init(name: name, total: count * workerCount, isPerWorker: true)) }
        }
        add("limits.subscriptions-max", perWorker: limits.subscriptionCountMax)
        add("limits.connections-max", perWorker: limits.connectionCountMax)
        if hasLocalClients { add("limits.connections-per-address-max", perWorker: limits.connectionsPerAddressMax) }
        all += Self.limits(Schema.listenersPath, "connections-max", listeners.map(\.connectionCountMax))
        if !broker.hosts.isEmpty {
            // The standard host is always there.
            let hasStandard = broker.hosts.contains { $0.name == HostOptions.standardName }
            let others = hasStandard ? [] : [HostOptions(name: HostOptions.standardName)]
            let hosts = broker.hosts + others
            all += Self.limits(Schema.hosts, "connections-max", hosts.map(\.connectionCountMax))
            all += Self.limits(Schema.hosts, "subscriptions-max", hosts.map(\.subscriptionCountMax))
        }
        return all
    }

    /// Of the entries of a list. 0: no limit.
    private static func limits(_ list: String, _ key: String, _ counts: [Int]) -> [Party.OwnLimit] {
        if counts.allSatisfy({ $0 > 0 }) {
            let name = counts.count == 1 ? "\(list)[0].\(key)" : "\(list)[].\(key)"
            return [.init(name: name, total: counts.reduce(0, +), isPerWorker: false)]
        }
        return counts.enumerated().filter { $0.element > 0 }.map { index, count in
            .init(name: "\(list)[\(index)].\(key)", total: count, isPerWorker: false, isPartial: true)
        }
    }
}
