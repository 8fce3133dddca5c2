extension Schema {
    /// The keys of the section `io`.
    static let io: [Setting<Settings>] = [
        .choice(
            "io.driver", \.driver,
            "auto: io_uring if the kernel passes the self-test, else epoll. uring: io_uring, or no start."),
        .count(
            "io.workers", \.workerCount, 1...Settings.workerCountMax, zero: "one per available CPU",
            "Worker threads. More workers than CPUs help only if RLIMIT_NOFILE is low."),

        .milliseconds(
            "io.keepalive-ms", \.driverOptions.keepaliveMilliseconds, 1000...32_767_000, zero: "never",
            "TCP keepalive: idle time before the first probe, then one every 10 s. A probe costs about 10 us."),
        .milliseconds(
            "io.user-timeout-ms", \.driverOptions.userTimeoutMilliseconds, 1000...86_400_000,
            "A peer that acknowledges no probe and no data for this long is disconnected (TCP_USER_TIMEOUT)."),
        .bytes(
            "io.unsent-bytes", \.driverOptions.unsentByteCountMax, 16 << 10...1 << 30,
            zero: "what its send buffer holds",
            "Unsent bytes of a connection in the kernel. More bytes wait in the broker, see limits.output-bytes."),

        .count(
            "io.uring.sq-entries", \.driverOptions.submissionEntryCount, 64...32768, powerOfTwo: true,
            "Submission queue of a ring. Raise it if one message goes to more connections of a worker."),
        .count(
            "io.uring.cq-entries", \.driverOptions.completionEntryCount, 128...65536, powerOfTwo: true,
            "Completion queue of a ring, at least sq-entries. Raise it when completion-queue-overflows grows."),
        .choice(
            "io.uring.descriptors", \.driverOptions.descriptors,
            "direct sockets do not count against RLIMIT_NOFILE (Linux 6.13), plain ones do; auto: direct if it works."),
        .count(
            "io.uring.connections-per-ring", \.driverOptions.connectionCountMax, 16...1 << 20,
            zero: "as many as RLIMIT_NOFILE allows",
            "Connections of one worker (8 bytes of kernel table each). Lower it to spread them over workers."),
        .count(
            "io.uring.receive-buffers.count", \.driverOptions.receiveBufferCount, 16...32768, powerOfTwo: true,
            "Receive buffers for quiet connections. Raise it when receive-buffers-exhausted grows."),
        .bytes(
            "io.uring.receive-buffers.bytes", \.driverOptions.receiveBufferByteCount, 256...1 << 20,
            "Size of each. Larger ones waste cache on small frames; smaller ones need more receives."),
        .count(
            "io.uring.large-receive-buffers.count", \.driverOptions.largeReceiveBufferCount, 2...32768,
            powerOfTwo: true,
            "Receive buffers for busy connections. More than 512 KiB in all delay other connections."),
        .bytes(
            "io.uring.large-receive-buffers.bytes", \.driverOptions.largeReceiveBufferByteCount, 4096...16 << 20,
            "Size of each, at least receive-buffers.bytes. Raise it for large bodies on fast networks."),
        .choice(
            "io.uring.receive-mode", \.driverOptions.receiveMode,
            "poll: 256 B of kernel memory a connection. multishot: 864 B, less CPU. adaptive: both, by traffic."),
        .count(
            "io.uring.promotion-polls", \.driverOptions.promotionCount, 1...1000,
            "adaptive: multishot receive for connections that are readable this often in promotion-window-ms."),
        .milliseconds(
            "io.uring.promotion-window-ms", \.driverOptions.promotionWindowMilliseconds, 1...60_000,
            "adaptive: the window of promotion-polls. A longer one includes slower publishers."),
        .count(
            "io.uring.promoted-max", \.driverOptions.promotedCountMax, 1...1 << 20,
            "adaptive: the most connections of a worker with multishot receive at a time."),
        .milliseconds(
            "io.uring.demotion-ms", \.driverOptions.demotionMilliseconds, 1...3_600_000,
            "adaptive: idle time after which a connection goes back to poll."),
        .count(
            "io.uring.send-batch", \.driverOptions.sendBatchCount, 1...32768,
            "Sends per io_uring_enter, at most sq-entries. Fewer: receives wait less while many are sent."),
        .bytes(
            "io.uring.zero-copy-bytes", \.driverOptions.zeroCopyByteCountMin, 1024...64 << 20, zero: "never",
            "Sends of this size or more are zero-copy. Helps with network cards; loopback copies anyway."),
        .count(
            "io.uring.wait-completions", \.driverOptions.completionsToWaitFor, 1...1024,
            "Completions to wait for under load, at most cq-entries. More: fewer system calls, more latency."),
        .integer(
            "io.uring.min-wait-microseconds", \.driverOptions.minWaitMicroseconds,
            Quantity(unit: .microseconds, range: 1...10_000, zeroMeaning: "do not wait"),
            "The longest wait for wait-completions (Linux 6.12 and later). It can add this much latency."),
        .flag(
            "io.uring.restrict", \.driverOptions.isRestricted,
            "Restrict the ring to the operations in use, so that a hijacked worker cannot open files with it."),

        .count(
            "io.epoll.events-per-wait", \.driverOptions.eventsPerWait, 1...65536,
            "Events per epoll_wait. More: fewer system calls. Fewer: less latency."),
    ]
}
