import Journal

/// What `stampede storage verify` says of a directory.
public struct StorageReport: Encodable, Sendable {
    public struct Queue: Encodable, Sendable {
        public var name: String
        public var messages: Int
        /// It was made with arguments.
        public var hasArguments: Bool
    }

    public struct DurableSubscription: Encodable, Sendable {
        /// Of the queue that keeps its messages.
        public var name: String
        /// The topic or pattern.
        public var topic: String
        public var messages: Int
        /// When its last consumer left it (wall-clock milliseconds). nil: it had one.
        public var lastUsed: UInt64?
    }

    public struct Segment: Encodable, Sendable {
        public var name: String
        public var bytes: Int
        /// Messages in it that live.
        public var messages: Int
    }

    public struct Finding: Encodable, Sendable {
        public var kind: String
        public var segment: String
        public var byte: Int
        public var damage: String
        /// The broker does not start.
        public var isFatal: Bool
        public var intactMessagesBehind: Int
        public var intactAcknowledgementsBehind: Int
        public var text: String
    }

    public var directory: String
    /// No finding is fatal: a broker starts.
    public var isUsable: Bool
    public var messages: Int
    public var queues: [Queue]
    public var subscriptions: [DurableSubscription]
    public var segments: [Segment]
    public var findings: [Finding]

    init(_ state: RecoveredState, _ path: String) {
        directory = path
        isUsable = !state.findings.contains(where: \.isFatal)
        messages = state.liveMessageCount
        subscriptions = state.queues.compactMap { queue in
            var found: DurableSubscription?
            queue.withSubscription {
                found = DurableSubscription(
                    name: StoredName($0.name).description, topic: StoredName($0.topic).description,
                    messages: queue.messageCount, lastUsed: $0.lastUsed == .max ? nil : $0.lastUsed)
            }
            return found
        }.sorted { $0.name < $1.name }
        queues = state.queues.filter { !$0.isDurableSubscription && ($0.messageCount > 0 || $0.isMade) }.map {
            Queue(
                name: StoredName($0.name).description, messages: $0.messageCount, hasArguments: $0.isMade)
        }.sorted { $0.name < $1.name }
        segments = state.segments.map {
            Segment(name: $0.name.description, bytes: $0.byteCount, messages: $0.liveMessageCount)
        }
        findings = state.findings.map {
            Finding(
                kind: $0.kind.rawValue, segment: $0.segment.description, byte: $0.damagedOffset,
                damage: $0.damage.description, isFatal: $0.isFatal, intactMessagesBehind: $0.behind.messageCount,
                intactAcknowledgementsBehind: $0.behind.acknowledgedCount, text: $0.description)
        }
    }
}

extension StorageDirectory {
    /// Reads everything, as a broker does when it starts.
    public borrowing func verify() throws(StorageError) -> StorageReport {
        let state = try StorageRecovery.read(self, syncs: false)!
        return StorageReport(state, path)
    }
}
