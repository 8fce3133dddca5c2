extension Simulation {
    /// What runs are made of.
    public enum Mode: String, CaseIterable, Sendable {
        /// Every client may do anything.
        case plain
        /// Clients have names and permissions, which change now and then.
        case permissions
        /// Some topics keep logs, which clients read, and some messages are retained.
        case logs
        /// Messages wait for their time, and some are sent again with the id of one that was taken.
        case delays
        /// Clients have durable subscriptions to topics.
        case durable
        /// Clients have durable subscriptions to topics that keep logs, retain and delay messages.
        case mixed
        /// Clients are with virtual hosts, which have destinations of the same names.
        case hosts
        /// Connections come by PROXY, a cipher, WebSockets, and what can be made of them.
        case transports
    }

    /// What a run found.
    public struct Outcome: Sendable {
        public var seed: UInt64
        /// nil: none.
        public var violation: String?
        public var traceHash: UInt64
        public var faultCounts: [Int]
        public var storageFaultCounts = [Int](repeating: 0, count: StorageFault.allCases.count)
        public var transportCounts = [Int](repeating: 0, count: TransportEvent.allCases.count)
        public var turnCount = 0
        public var frameCount = 0
        public var messageCount = 0
    }
}
