extension Schema {
    /// The keys of the section `io`.
    static let io: [Setting<Settings>] = [
        .choice(
            "io.driver", \.driver,
            "auto takes io_uring where the kernel passes the self-test, else epoll; uring fails to start instead."),
        .count(
            "io.workers", \.workerCount, 1...Settings.workerCountMax, zero: "one per available CPU",
            "Worker threads. More than CPUs only where each may hold few connections (a low descriptor limit)."),

        .milliseconds(
            "io.keepalive-ms", \.driverOptions.keepaliveMilliseconds, 1000...32_767_000, zero: "never",
            "Silence after which the kernel asks a peer for a sign of life, then every 10 s. Costs about 10 us each."),
        .milliseconds(
            "io.user-timeout-ms", \.driverOptions.userTimeoutMilliseconds, 1000...86_400_000,
            "How long a peer may leave those questions, or what it was sent, unanswered before it is cut."),
        .bytes(
            "io.unsent-bytes", \.driverOptions.unsentByteCountMax, 16 << 10...1 << 30,
            zero: "what its send buffer holds",
            "What the kernel holds back for a connection that does not read; more waits in limits.output-bytes."),

        .count(
            "io.uring.sq-entries", \.driverOptions.submissionEntryCount, 64...32768, powerOfTwo: true,
            "Submission queue of a ring. Raise it where messages fan out to more connections of a worker."),
        .count(
            "io.uring.cq-entries", \.driverOptions.completionEntryCount, 128...65536, powerOfTwo: true,
            "Completion queue of a ring, at least sq-entries. Raise it when completion-queue-overflows grows."),
        .count(
            "io.uring.connections-per-ring", \.driverOptions.connectionCountMax, 16...1 << 20,
            zero: "as many as RLIMIT_NOFILE allows",
            "Connections of one worker (8 bytes of kernel table each). Lower it to spread them over workers."),
        .count(
            "io.uring.receive-buffers.count", \.driverOptions.receiveBufferCount, 16...32768, powerOfTwo: true,
            "Buffers that parked connections are read into. Raise it when receive-buffers-exhausted grows."),
        .bytes(
            "io.uring.receive-buffers.bytes", \.driverOptions.receiveBufferByteCount, 256...1 << 20,
            "Size of one such buffer. Larger wastes cache on small frames; smaller costs publishers more receives."),
        .count(
            "io.uring.large-receive-buffers.count", \.driverOptions.largeReceiveBufferCount, 2...32768,
            powerOfTwo: true,
            "Buffers that floods are read into. Beyond 512 KiB together, more of them make turns longer."),
        .bytes(
            "io.uring.large-receive-buffers.bytes", \.driverOptions.largeReceiveBufferByteCount, 4096...16 << 20,
            "Size of one such buffer, at least receive-buffers.bytes. Raise it for large bodies on fast networks."),
        .choice(
            "io.uring.receive-mode", \.driverOptions.receiveMode,
            "poll costs 256 B of kernel memory a connection, multishot 864 B and least CPU; adaptive chooses."),
        .count(
            "io.uring.promotion-polls", \.driverOptions.promotionCount, 1...1000,
            "Adaptive: a connection readable so often within promotion-window-ms gets multishot receive."),
        .milliseconds(
            "io.uring.promotion-window-ms", \.driverOptions.promotionWindowMilliseconds, 1...60_000,
            "Adaptive: the window of promotion-polls. Longer promotes slower publishers."),
        .count(
            "io.uring.promoted-max", \.driverOptions.promotedCountMax, 1...1 << 20,
            "Adaptive: connections of a worker on multishot receive at a time (864 B of kernel memory each)."),
        .milliseconds(
            "io.uring.demotion-ms", \.driverOptions.demotionMilliseconds, 1...3_600_000,
            "Adaptive: silence after which a connection is parked again."),
        .count(
            "io.uring.send-batch", \.driverOptions.sendBatchCount, 1...32768,
            "Sends per io_uring_enter, at most sq-entries. Fewer lets receiving in sooner during a fan-out."),
        .bytes(
            "io.uring.zero-copy-bytes", \.driverOptions.zeroCopyByteCountMin, 1024...64 << 20, zero: "never",
            "Sends from this size on are zero-copy. Helps large messages on network cards; loopback copies."),
        .count(
            "io.uring.wait-completions", \.driverOptions.completionsToWaitFor, 1...1024,
            "Completions to wait for under load, at most cq-entries. More saves system calls and costs latency."),
        .integer(
            "io.uring.min-wait-microseconds", \.driverOptions.minWaitMicroseconds,
            Quantity(unit: .microseconds, range: 1...10_000, zeroMeaning: "do not wait"),
            "How long at most to wait for them (kernel 6.12 and later): the latency that batching may cost."),
        .flag(
            "io.uring.restrict", \.driverOptions.isRestricted,
            "Restrict the ring to the operations in use: a hijacked worker cannot open files through it."),

        .count(
            "io.epoll.events-per-wait", \.driverOptions.eventsPerWait, 1...65536,
            "Events that one epoll_wait takes. More saves system calls, fewer turns around sooner."),
    ]
}
