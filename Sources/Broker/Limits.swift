public import IO
public import Permissions
public import Slabs

/// Every bound of the broker, with its default, its unit and what happens at it.
///
/// Limits are per worker where they bound a worker's table and per connection or destination where their name says so;
/// `Config/stampede.yaml` documents each under `limits`.
public struct Limits: Sendable, Equatable, BitwiseCopyable {
    // Before a connection is CONNECTED
    /// Bytes a connection may send before it is CONNECTED. At the limit: ERROR, close.
    public var preConnectByteCountMax = 8 * 1024
    /// From accept to CONNECTED. At the limit: close.
    public var connectMillisecondsMax = 5_000

    // Frames. At the limit: ERROR, close.
    public var commandByteCountMax = 64
    public var headerCountMax = 64
    public var headerByteCountMax = 8 * 1024
    public var headersByteCountMax = 32 * 1024
    public var bodyByteCountMax = 1024 * 1024
    /// From the first byte of a frame to its last, plus one second per `frameBytesPerSecondMin` bytes received.
    public var frameMillisecondsMax = 30_000
    public var frameBytesPerSecondMin = 1024

    // Connections
    /// Connections of one worker. 0: as many as the driver's table holds. At the limit: another worker takes the
    /// newcomer, or it is refused.
    public var connectionCountMax = 0
    /// Connections of one worker from one address. 0: off. At the limit: refuse.
    public var connectionsPerAddressMax = 0
    /// Accepted connections per second and worker. 0: off. At the limit: refuse.
    public var connectionsPerSecondMax = 0
    /// Subscriptions of a connection (at most 65,535), and as many temporary destinations. At the limit: ERROR.
    public var subscriptionsPerConnectionMax = 1_000
    /// A subscription's id. Each is kept some five times over, escaped, with what a MESSAGE begins with. At the limit:
    /// ERROR.
    public var subscriptionIdByteCountMax = 256
    public var transactionsPerConnectionMax = 16
    public var framesPerTransactionMax = 1_000
    public var transactionByteCountMax = 8 * 1024 * 1024
    public var transactionMillisecondsMax = 60_000

    // Output
    /// Bytes that wait for a connection. At the limit: a topic's subscriber is disconnected; a queue stops dispatching.
    public var outputByteCountMax = 8 * 1024 * 1024
    /// Time without a byte taken while output waits. At the limit: a topic's subscriber is disconnected; a consumer of queues
    /// may leave its socket unread.
    public var outputStallMillisecondsMax = 10_000
    /// After ERROR or DISCONNECT: how long the peer may take to read the rest and close. Then: close.
    public var lingerMillisecondsMax = 3_000

    // Subscriptions
    /// Messages that a subscription holds unacknowledged, unless it asks for less. At the limit: stop dispatching.
    public var prefetchCountMax = 1_000
    public var prefetchByteCountMax = 8 * 1024 * 1024

    // Destinations
    /// Queues of one worker, and as many topics, patterns and queues of other workers: those that somebody needs. At the
    /// limit: ERROR.
    public var destinationCountMax = 10_000
    /// Queues of one worker that hold messages, have no consumer, and whose first message one connection sent. 0: no
    /// limit. At the limit: ERROR to the SEND that would make another.
    public var destinationsPerConnectionMax = 1_000
    /// The same of all connections from one address. 0: no limit.
    public var destinationsPerAddressMax = 0
    public var destinationNameByteCountMax = 256
    /// Levels of a destination or pattern, behind its prefix: what it takes to compare the two grows with both. At the
    /// limit: ERROR.
    public var destinationLevelCountMax = 32
    /// Different wildcard patterns that a worker knows, those of other workers included: a topic that is new to it is
    /// compared with each. At the limit: ERROR.
    public var patternCountMax = 1_000
    /// Durable topic subscriptions that a worker holds, used or not. They count as queues, too. At the limit: ERROR.
    public var durableSubscriptionCountMax = 1_000
    /// Pairs of a topic and a pattern that matches it, as a multiple of `destinationCountMax`. At the limit: ERROR.
    static let matchesPerDestinationMax = 100
    /// Topics that retain a message for new subscribers (`retain:set`), of all workers together. At the limit: ERROR.
    public var retainedMessageCountMax = 10_000

    // Heart-beats
    /// The shortest interval at which the server offers to send and asks to receive, in milliseconds; the client's own
    /// wish decides above it (STOMP 1.2, section Heart-beating: the larger of the two counts). 0: none.
    public var heartBeatSendMilliseconds = 100
    public var heartBeatReceiveMilliseconds = 100
    /// A peer is dead after so many percent of its interval in silence.
    public var heartBeatTolerancePercent = 200

    // Memory
    /// Bytes of all messages and buffers of one worker. At 100 %: stop reading from publishers. At 125 %: ERROR to frames
    /// that are cut short. At 150 %: the end, even of what consumers are sent.
    public var messageMemoryByteCountMax = 512 * 1024 * 1024
    /// Bytes waiting in a worker's mailbox. At the limit: the senders stop reading from their connections.
    public var mailboxByteCountMax = 16 * 1024 * 1024
    /// Records (queued messages, deliveries) of one worker: their tables' size.
    public var queuedMessageCountMax = 4_000_000
    /// Messages of one worker that are in the store alone, and not in memory: 8 bytes of memory each, and 4 KiB for each
    /// queue that has some. At the limit: what comes stays in memory.
    public var coldMessageCountMax = 100_000_000
    public var subscriptionCountMax = 2_000_000
    /// Messages of one worker that wait for their time; and they take half of the messages' memory at most. At the limit:
    /// ERROR.
    public var delayedMessageCountMax = 1_000_000
    /// How far away the time of a message may be, and how long a period. At the limit: ERROR.
    public var delayMillisecondsMax = 366 * 86_400_000
    /// Ids of one worker that are known so that another message with the same is not taken. At the limit: ERROR to a
    /// message that brings the first of a queue.
    public var deduplicationIDCountMax = 1_000_000

    // Drain
    /// After SIGTERM: how long consumers may take to empty queues and outputs. Then: report and exit.
    public var drainMillisecondsMax = 5_000

    public init() {}

    /// A limit counts by address: the driver has to find it out.
    public var needsAddresses: Bool { connectionsPerAddressMax > 0 || destinationsPerAddressMax > 0 }
}

/// What happens to a SEND at a queue's limit.
public enum OverflowPolicy: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    /// The SEND is answered with ERROR and its connection closed.
    case reject
    /// The oldest ready message makes room (and goes to the dead-letter queue where one is configured).
    case dropOldest
    /// The publisher's socket is not read until there is room.
    case block
}

/// The policy of the destinations that match a name or pattern.
public struct DestinationPolicy: Sendable, Equatable {
    /// A destination as clients write it, or a pattern with `*` and `#`: "/queue/orders", "/queue/orders.#", "/topic/#".
    public var pattern: String
    public var queueMessageCountMax = 100_000
    public var queueByteCountMax = 64 * 1024 * 1024
    public var overflow = OverflowPolicy.reject
    /// Life of a message that brings no expiry of its own, in milliseconds. 0: for ever.
    public var messageMillisecondsMax = 0
    /// Deliveries of one message before it goes to the dead-letter destination. 0: no limit.
    public var deliveryCountMax = 10
    /// Where messages go that were delivered too often, refused for good, or expired. Empty: they are dropped, counted.
    public var deadLetterDestination = "/queue/DLQ"
    /// Which messages of a queue, or of those that a topic keeps, are stored, if the broker has a store.
    public var storage = StoragePolicy.byHeader
    /// Messages that the log of a topic keeps. 0: topics have no log. At the limit: the oldest goes, here and below.
    public var logMessageCountMax = 0
    /// Bytes of memory that the log of a topic takes.
    public var logByteCountMax = 64 * 1024 * 1024
    /// How long the log of a topic keeps a message, in milliseconds. 0: as long as there is room.
    public var logMillisecondsMax = 0
    /// How long the `x-deduplication-id` of a message is known, in milliseconds. 0: the header means nothing.
    public var deduplicationMilliseconds = 120_000
    /// Ids of a queue that are known: then the oldest is forgotten before its time.
    public var deduplicationCountMax = 100_000
    /// Expired messages go to the dead-letter destination too.
    public var deadLettersExpired = false
    /// How long a queue without messages, consumers and waiting publishers is remembered, with what its first user asked of
    /// it. 0: until its worker has no room for another.
    public var idleMillisecondsMax = 300_000
    /// How long a queue that has messages and no consumer, and gets no more of them, is kept. Then it goes, and its
    /// messages are dropped, counted. 0: for ever.
    public var idleWithMessagesMillisecondsMax = 0
    /// How long a durable subscription to a topic or pattern that matches is kept while nobody consumes from it. Then it goes,
    /// and its messages are dropped, counted. 0: for ever.
    public var durableMillisecondsMax = 0

    public init(pattern: String) { self.pattern = pattern }
}

/// What the core knows of a listener.
public struct ListenerOptions: Sendable, Equatable {
    /// As it is bound, for the log: "127.0.0.1:61613", "ws://127.0.0.1:15674", "unix:/run/stampede.sock".
    public var address: String
    /// How the frames travel.
    public var transport = TransportKind.stomp
    /// It is a Unix socket.
    ///
    /// Its workers accept from one socket, and the kernel tends to wake the same one, so a connection goes on to the
    /// worker that has the fewest. It has no zero-copy sends, and its peers have credentials instead of addresses.
    public var isUnix = false
    /// Connections of the listener, of all workers together. At the limit: a new one is refused. 0: no such limit.
    public var connectionCountMax = 0
    /// A heart-beat a minute suffices, whatever interval was agreed: browsers run the timers of hidden pages no more
    /// often.
    public var hasLenientHeartBeats = false

    public init(address: String) { self.address = address }
}

/// What the core needs to know besides its limits.
public struct BrokerOptions: Sendable {
    public var limits = Limits()
    public var authentication = Authentication.none
    /// What clients may do, who are who the answers to `Authentication.external` say. nil: anything.
    public var access: AccessTable?
    public var receiptConditions = ReceiptConditions.none
    /// nil: nothing is stored.
    public var storage: StorageOptions?
    /// None: the header `host` of CONNECT is not looked at, and all clients are with the standard host.
    public var hosts: [HostOptions] = []
    /// The host of clients that name none: one of `hosts`, or the standard one.
    public var defaultHost = HostOptions.standardName
    /// By `ListenerID`.
    public var listeners: [ListenerOptions] = []
    /// In order of precedence: the first whose pattern matches applies. None: the defaults of `DestinationPolicy`.
    public var destinationPolicies: [DestinationPolicy] = []
    /// Clients may use destinations that no policy names. false: such a frame is answered with ERROR.
    public var clientsCreateDestinations = true
    /// What a bare name (no leading slash) means. Empty: it is an error.
    public var bareNamePrefix = "/topic/"
    /// The `server` header of CONNECTED.
    public var serverName = "stampede/0.1.0"
    /// The version in `serverName`.
    public var version: String { String(serverName.drop { $0 != "/" }.dropFirst()) }
    /// Sends of at least so many bytes leave by zero-copy. 0: never. (Set from `DriverOptions`.)
    public var zeroCopyByteCountMin = 0
    /// Seed of hash tables.
    public var seed: UInt64 = 0
    /// A limit counts by address, or logins do: the driver has to find it out.
    public var needsAddresses: Bool { limits.needsAddresses || access != nil }
    /// Makes session ids and the names of temporary destinations unguessable.
    public var identityKey = KeyedHash(low: 0, high: 0)

    public init() {}
}
