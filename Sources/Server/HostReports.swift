import Broker
import Logging

extension RecoveredStore {
    /// Tells of messages whose virtual host is not in the configuration any more. They are restored and kept, and nobody
    /// can reach them until it is there again.
    func warnOfUnknownHosts(_ hosts: [HostOptions], _ logger: Logger) {
        let known = Set(hosts.map(\.name))
        var counts: [String: Int] = [:]
        for queue in state.queues {
            guard let host = queue.name.withUnsafeBytes({ HostOptions.host(ofCanonicalName: $0) }) else { continue }
            if !known.contains(host) { counts[host, default: 0] += queue.messageCount }
        }
        for (host, count) in counts.sorted(by: { $0.key < $1.key }) {
            logger.warning(
                """
                the store has queues or topics of the virtual host \(host), which is not among the hosts of the \
                configuration: they are kept, and out of reach until it is there again
                """,
                metadata: ["host": "\(host)", "messages": .stringConvertible(count)])
        }
    }
}

/// A name as it is in the log, in two parts.
struct StoredName {
    /// As clients write it.
    var text: String
    /// nil: the standard one.
    var host: String?

    init(_ canonical: some Sequence<UInt8>) {
        let bytes = Array(canonical)
        host = bytes.withUnsafeBytes { HostOptions.host(ofCanonicalName: $0) }
        // The host is between two bytes.
        let visible = host.map { bytes.dropFirst($0.utf8.count + 2) } ?? bytes[...]
        text = String(decoding: visible, as: UTF8.self)
    }

    /// "/queue/orders", or "/queue/orders (host shop)".
    var description: String { host.map { "\(text) (host \($0))" } ?? text }
}

extension WorkerReport {
    /// Connections, subscriptions and stored bytes of virtual hosts that have some.
    var hostMetadata: Logger.Metadata {
        var metadata: Logger.Metadata = [:]
        for host in hosts {
            let counts = [
                ("connections", host.connectionCount), ("subscriptions", host.subscriptionCount),
                ("stored-bytes", host.storedByteCount),
            ]
            for (what, count) in counts where count > 0 {
                metadata["host.\(host.name).\(what)"] = .stringConvertible(count)
            }
        }
        return metadata
    }
}
