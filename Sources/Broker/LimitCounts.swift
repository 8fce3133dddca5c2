import STOMP

/// A limit that acts, named as its key under `limits` is; `queue` stands for those of a destination.
public enum LimitKind: UInt8, CaseIterable, Sendable, BitwiseCopyable {
    case preConnectBytes
    case connectTimeout
    case commandBytes
    case headers
    case headerBytes
    case headersBytes
    case bodyBytes
    /// `frame-bytes-per-second-min` too: the time grows with what has arrived.
    case frameTimeout
    case connections
    case connectionsPerAddress
    case connectionsPerSecond
    case subscriptionsPerConnection
    case subscriptionIdBytes
    case transactionsPerConnection
    /// The frames of a transaction, or their bytes.
    case transactionSize
    case transactionTimeout
    /// A topic's subscriber that was cut, or a queue's consumer that gets no more for now.
    case outputBytes
    case outputStall
    case destinations
    case destinationsPerConnection
    case destinationsPerAddress
    case destinationName
    case destinationLevels
    /// Patterns, or what they match.
    case patterns
    case retainedMessages
    case durableSubscriptions
    case queue
    /// A publisher that was not read for a while, or who found no memory at all.
    case messageMemory
    /// A sender that was not read because another worker has enough to read.
    case mailbox
    case subscriptions
    /// A publisher that was not read for a while.
    case queuedMessages
    case linger
    case delayedMessages
    case deduplicationIDs
    /// Of an entry of `hosts`, as the next.
    case hostConnections
    case hostSubscriptions
    case hostStorage

    /// As in the configuration, without `limits.`.
    public var key: String {
        switch self {
        case .preConnectBytes: "pre-connect-bytes"
        case .connectTimeout: "connect-timeout-ms"
        case .commandBytes: "command-bytes"
        case .headers: "headers-max"
        case .headerBytes: "header-bytes"
        case .headersBytes: "headers-bytes"
        case .bodyBytes: "body-bytes"
        case .frameTimeout: "frame-timeout-ms"
        case .connections: "connections-max"
        case .connectionsPerAddress: "connections-per-address-max"
        case .connectionsPerSecond: "connections-per-second-max"
        case .subscriptionsPerConnection: "subscriptions-per-connection-max"
        case .subscriptionIdBytes: "subscription-id-bytes"
        case .transactionsPerConnection: "transactions-per-connection-max"
        case .transactionSize: "transaction-bytes"
        case .transactionTimeout: "transaction-timeout-ms"
        case .outputBytes: "output-bytes"
        case .outputStall: "output-stall-ms"
        case .destinations: "destinations-max"
        case .destinationsPerConnection: "destinations-per-connection-max"
        case .destinationsPerAddress: "destinations-per-address-max"
        case .destinationName: "destination-name-bytes"
        case .destinationLevels: "destination-levels-max"
        case .patterns: "patterns-max"
        case .retainedMessages: "retained-messages-max"
        case .durableSubscriptions: "durable-subscriptions-max"
        case .queue: "queue"
        case .messageMemory: "message-memory-bytes"
        case .mailbox: "mailbox-bytes"
        case .subscriptions: "subscriptions-max"
        case .queuedMessages: "queued-messages-max"
        case .linger: "linger-ms"
        case .delayedMessages: "delayed-messages-max"
        case .deduplicationIDs: "deduplication-ids-max"
        case .hostConnections: "hosts.connections-max"
        case .hostSubscriptions: "hosts.subscriptions-max"
        case .hostStorage: "hosts.storage-bytes-max"
        }
    }
}

/// How often each limit has acted.
public struct LimitCounts: Sendable, BitwiseCopyable {
    /// By raw value.
    private var counts = InlineArray<48, UInt64>(repeating: 0)

    public subscript(_ limit: LimitKind) -> UInt64 { counts[Int(limit.rawValue)] }

    mutating func count(_ limit: LimitKind) { counts[Int(limit.rawValue)] &+= 1 }

    /// Adds another worker's figures.
    mutating func add(_ other: LimitCounts) {
        for place in counts.indices { counts[place] &+= other.counts[place] }
    }
}

extension LimitKind {
    /// The limit that a frame broke; nil: it was malformed in another way.
    init?(_ code: FrameError.Code) {
        switch code {
        case .commandTooLong: self = .commandBytes
        case .tooManyHeaders: self = .headers
        case .headerTooLong: self = .headerBytes
        case .headersTooLong: self = .headersBytes
        case .bodyTooLong: self = .bodyBytes
        case .none, .unknownCommand, .commandBeforeConnect, .lineEndNotInVersion, .headerWithoutColon,
            .headerWithoutName, .nulInHeaders, .undefinedEscape, .carriageReturnInHeader, .contentLengthMalformed,
            .bodyNotTerminated, .bodyNotAllowed:
            return nil
        }
    }
}
