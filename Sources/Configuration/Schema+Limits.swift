extension Schema {
    /// The keys of the section `limits`: every field of `Limits`.
    static let limits: [Setting<Settings>] =
        beforeConnected + frames + connections + output + destinationLimits
        + heartBeats + memory

    private static let beforeConnected: [Setting<Settings>] = [
        .bytes(
            "limits.pre-connect-bytes", \.broker.limits.preConnectByteCountMax, 256...1 << 20,
            "Bytes that a client may send before CONNECTED. At the limit: ERROR, close. Raise it for long tokens."),
        .milliseconds(
            "limits.connect-timeout-ms", \.broker.limits.connectMillisecondsMax, 100...600_000,
            "From accept to CONNECTED. At the limit: close."),
    ]

    /// `limits.header-bytes` is at most 65,535, because the parser counts the bytes of a header line in 16 bits.
    private static let frames: [Setting<Settings>] = [
        .bytes(
            "limits.command-bytes", \.broker.limits.commandByteCountMax, 16...1024,
            "A frame's command line. Has no effect: any other line is refused at its first wrong byte."),
        .count(
            "limits.headers-max", \.broker.limits.headerCountMax, 8...1024,
            "Headers of a frame. At the limit: ERROR, close, as for all limits of a frame."),
        .bytes(
            "limits.header-bytes", \.broker.limits.headerByteCountMax, 128...65_535,
            "One header line. Raise it for clients that carry tokens in headers."),
        .bytes(
            "limits.headers-bytes", \.broker.limits.headersByteCountMax, 512...4 << 20,
            "All headers of a frame, at least header-bytes."),
        .bytes(
            "limits.body-bytes", \.broker.limits.bodyByteCountMax, 256...64 << 20,
            "A frame's body. Five other limits must hold a largest frame: raise them too (see README)."),
        .milliseconds(
            "limits.frame-timeout-ms", \.broker.limits.frameMillisecondsMax, 1000...3_600_000,
            "Time for a whole frame, plus 1 s for each frame-bytes-per-second-min bytes that have arrived."),
        .integer(
            "limits.frame-bytes-per-second-min", \.broker.limits.frameBytesPerSecondMin,
            Quantity(unit: .bytesPerSecond, range: 1...1 << 30),
            "Minimum upload rate; slower senders are disconnected. Lower it for radio links."),
    ]

    private static let connections: [Setting<Settings>] = [
        .count(
            "limits.connections-max", \.broker.limits.connectionCountMax, 1...1 << 20,
            zero: "as many as the driver's table holds",
            "Connections of a worker. At the limit: another worker takes a new one, or it is refused."),
        .count(
            "limits.connections-per-address-max", \.broker.limits.connectionsPerAddressMax, 1...1 << 20, zero: "off",
            "Connections of a worker from one address. At the limit: refuse. Set it if clients are not trusted."),
        .count(
            "limits.connections-per-second-max", \.broker.limits.connectionsPerSecondMax, 1...1_000_000, zero: "off",
            "New connections of a worker per second. At the limit: refuse. Set it against reconnect storms."),
        .count(
            "limits.subscriptions-per-connection-max", \.broker.limits.subscriptionsPerConnectionMax, 1...65_535,
            "Subscriptions of a connection. At the limit: ERROR."),
        .bytes(
            "limits.subscription-id-bytes", \.broker.limits.subscriptionIdByteCountMax, 16...8192,
            "A subscription's id. It takes about five times as much memory. At the limit: ERROR."),
        .count(
            "limits.transactions-per-connection-max", \.broker.limits.transactionsPerConnectionMax, 1...10_000,
            "Open transactions of a connection. At the limit: ERROR, close; all its transactions are aborted."),
        .count(
            "limits.frames-per-transaction-max", \.broker.limits.framesPerTransactionMax, 1...1_000_000,
            "Frames of a transaction. At the limit: ERROR, close, abort."),
        .bytes(
            "limits.transaction-bytes", \.broker.limits.transactionByteCountMax, 1024...1 << 30,
            "Bytes of a transaction, at least one largest frame. At the limit: ERROR, close, abort."),
        .milliseconds(
            "limits.transaction-timeout-ms", \.broker.limits.transactionMillisecondsMax, 100...86_400_000,
            "Age of a transaction. At the limit: ERROR, close, abort."),
    ]

    private static let output: [Setting<Settings>] = [
        .bytes(
            "limits.output-bytes", \.broker.limits.outputByteCountMax, 1024...1 << 30,
            "Bytes that wait for a client. At the limit: topic subscribers are disconnected, queues send no more."),
        .milliseconds(
            "limits.output-stall-ms", \.broker.limits.outputStallMillisecondsMax, 100...3_600_000,
            "Time without progress while output waits for a client. At the limit: as for output-bytes."),
        .milliseconds(
            "limits.linger-ms", \.broker.limits.lingerMillisecondsMax, 10...60_000,
            "Time for a client to read the rest and close after ERROR or DISCONNECT. At the limit: close."),
        .count(
            "limits.prefetch-max", \.broker.limits.prefetchCountMax, 1...1_000_000,
            "Unacknowledged messages of a subscription, unless it asks for fewer. At the limit: it gets no more."),
        .bytes(
            "limits.prefetch-bytes", \.broker.limits.prefetchByteCountMax, 1024...1 << 30,
            "Bytes of unacknowledged messages of a subscription. At the limit: it gets no more."),
    ]

    private static let destinationLimits: [Setting<Settings>] = [
        .count(
            "limits.destinations-max", \.broker.limits.destinationCountMax, 1...10_000_000,
            "Queues of a worker, and as many topics, that have subscribers or messages. At the limit: ERROR."),
        .count(
            "limits.destinations-per-connection-max", \.broker.limits.destinationsPerConnectionMax, 1...10_000_000,
            zero: "off",
            "Queues of a worker without subscribers whose messages come from one connection. At the limit: ERROR."),
        .count(
            "limits.destinations-per-address-max", \.broker.limits.destinationsPerAddressMax, 1...10_000_000,
            zero: "off",
            "The same for all connections from one address. Set it if clients are not trusted."),
        .bytes(
            "limits.destination-name-bytes", \.broker.limits.destinationNameByteCountMax, 16...1024,
            "A destination, its prefix (/queue/) included; at most header-bytes. At the limit: ERROR."),
        .count(
            "limits.destination-levels-max", \.broker.limits.destinationLevelCountMax, 2...128,
            "Levels of a destination or pattern, separated by '.' or '/', after its prefix. At the limit: ERROR."),
        .count(
            "limits.patterns-max", \.broker.limits.patternCountMax, 1...100_000,
            "Different wildcard patterns: a new topic is compared with each. At the limit: ERROR."),
        .count(
            "limits.retained-messages-max", \.broker.limits.retainedMessageCountMax, 1...1_000_000,
            "Topics that retain a message (SEND retain:set). At the limit: ERROR."),
        .count(
            "limits.durable-subscriptions-max", \.broker.limits.durableSubscriptionCountMax, 1...1_000_000,
            "Durable topic subscriptions of a worker, used or not; they count as queues. At the limit: ERROR."),
    ]

    private static let heartBeats: [Setting<Settings>] = [
        .milliseconds(
            "limits.heart-beat-send-ms", \.broker.limits.heartBeatSendMilliseconds, 1...3_600_000, zero: "none",
            "The shortest interval at which the broker sends heart-beats. Clients can ask for a longer one."),
        .milliseconds(
            "limits.heart-beat-receive-ms", \.broker.limits.heartBeatReceiveMilliseconds, 1...3_600_000, zero: "none",
            "The shortest interval that the broker asks for. Clients can offer a longer one."),
        .integer(
            "limits.heart-beat-tolerance-percent", \.broker.limits.heartBeatTolerancePercent,
            Quantity(unit: .percent, range: 100...1000),
            "A client is disconnected after this percentage of its interval in silence. Raise it if networks stall."),
    ]

    private static let memory: [Setting<Settings>] = [
        .bytes(
            "limits.message-memory-bytes", \.broker.limits.messageMemoryByteCountMax, 1 << 20...1 << 40,
            "Messages and buffers of a worker; 16 largest frames or more. At the limit: publishers wait."),
        .bytes(
            "limits.mailbox-bytes", \.broker.limits.mailboxByteCountMax, 64 << 10...1 << 30,
            "Peer messages to a worker that it has not read yet. At the limit: the publishers wait."),
        .count(
            "limits.queued-messages-max", \.broker.limits.queuedMessageCountMax, 1000...1_000_000_000,
            "Messages in all queues of a worker. Reserves address space. At the limit: publishers wait."),
        .count(
            "limits.cold-messages-max", \.broker.limits.coldMessageCountMax, 1000...10_000_000_000,
            "Messages of a worker that are in the store alone, 8 bytes each. At the limit: more stay in memory."),
        .count(
            "limits.subscriptions-max", \.broker.limits.subscriptionCountMax, 1...100_000_000,
            "Subscriptions of a worker. Reserves address space. At the limit: ERROR."),
        .count(
            "limits.delayed-messages-max", \.broker.limits.delayedMessageCountMax, 1...100_000_000,
            "Delayed messages of a worker; they also take half of message-memory-bytes at most. At the limit: ERROR."),
        .milliseconds(
            "limits.delay-max-ms", \.broker.limits.delayMillisecondsMax, 1000...10 * 365 * 86_400_000,
            "How long a message may be delayed, and how long its period may be. At the limit: ERROR."),
        .count(
            "limits.deduplication-ids-max", \.broker.limits.deduplicationIDCountMax, 1...100_000_000,
            "Known x-deduplication-ids of a worker. At the limit: ERROR to a message with the first of its queue."),
        .milliseconds(
            "limits.drain-timeout-ms", \.broker.limits.drainMillisecondsMax, 1...600_000, zero: "do not wait",
            "Drain: time for clients to empty queues and outputs. Messages that are left are reported."),
    ]
}
