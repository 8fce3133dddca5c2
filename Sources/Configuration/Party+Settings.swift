import Broker
public import Capacity
import IO

extension Settings {
    /// Describes the broker with these settings for the capacity check.
    ///
    /// - Parameters:
    ///   - ringIsAvailable: the self-test of io_uring passed. If not, `auto` means epoll.
    ///   - ringIsPlain: sockets are plain descriptors.
    public func party(
        connectionCount: Int, ringIsAvailable: Bool, ringIsPlain: Bool = false, availableCPUCount: Int
    ) -> Party {
        let usesRing = driver == .uring || driver == .auto && ringIsAvailable
        var party = Party(.broker, connectionCount: connectionCount, driver: usesRing ? .uring : .epoll)
        let workerCount = resolvedWorkerCount(availableCPUCount: availableCPUCount)
        let limits = broker.limits
        party.insistsOnRing = driver == .uring
        party.hasDirectDescriptors = usesRing && !ringIsPlain
        party.workerCount = workerCount
        party.workerCountMax = Self.workerCountMax
        let bounds = [usesRing ? driverOptions.connectionCountMax : 0, limits.connectionCountMax].filter { $0 > 0 }
        party.connectionsPerWorkerMax = bounds.min() ?? 0
        party.ring.submissionEntries = driverOptions.submissionEntryCount
        party.ring.completionEntries = driverOptions.completionEntryCount
        party.ring.buffers = driverOptions.receiveBufferCount
        party.ring.bufferBytes = driverOptions.receiveBufferByteCount
        party.ring.largeBuffers = driverOptions.largeReceiveBufferCount
        party.ring.largeBufferBytes = driverOptions.largeReceiveBufferByteCount
        party.listenerCount = listeners.count
        party.listensOnEveryAddress = listeners.contains { $0.isUnspecified }
        party.ownLimits = [
            .init(
                name: "limits.subscriptions-max", total: limits.subscriptionCountMax * workerCount, isPerWorker: true)
        ]
        if limits.connectionCountMax > 0 {
            party.ownLimits.append(
                .init(
                    name: "limits.connections-max", total: limits.connectionCountMax * workerCount, isPerWorker: true))
        }
        return party
    }
}
