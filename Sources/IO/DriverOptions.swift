/// The settings of a driver. Defaults, units and reasons: Config/stampede.yaml, section `io`.
public struct DriverOptions: Sendable, Equatable {
    /// How the io_uring driver waits for the next bytes of a connection.
    public enum ReceiveMode: String, Sendable, CaseIterable {
        /// Every connection waits with a multishot POLL (256 B of kernel memory) and is read when the POLL fires.
        case poll
        /// Every connection waits with a multishot RECV (864 B of kernel memory). This takes the least CPU per message.
        case multishot
        /// A connection waits with a POLL. It is promoted to a multishot RECV while it is busy and demoted when it is
        /// silent.
        case adaptive
    }

    /// How the io_uring driver holds its sockets.
    public enum Descriptors: String, Sendable, CaseIterable {
        /// Direct descriptors if the kernel releases them as soon as they are closed, else plain ones.
        case auto
        /// In the ring's file table. They do not count against RLIMIT_NOFILE, and the kernel looks them up faster.
        case direct
        /// As ordinary file descriptors of the process. Before Linux 6.13 this is the only way that works.
        case plain
    }

    /// The most connections that a worker holds; also the size of the ring's table of direct descriptors. 0: as many as
    /// RLIMIT_NOFILE allows.
    public var connectionCountMax = 0

    // io_uring
    public var descriptors = Descriptors.auto
    public var submissionEntryCount = 4096
    public var completionEntryCount = 32768
    /// The buffers for connections that wait with a POLL.
    public var receiveBufferCount = 256
    public var receiveBufferByteCount = 8192
    /// The buffers for connections that fill small buffers. If all of them together hold more than 512 KiB, a turn may
    /// receive more bytes.
    public var largeReceiveBufferCount = 8
    public var largeReceiveBufferByteCount = 65536
    public var receiveMode = ReceiveMode.adaptive
    /// Adaptive: a connection is promoted when its POLL fires this many times within `promotionWindowMilliseconds`.
    public var promotionCount = 8
    public var promotionWindowMilliseconds = 100
    /// Adaptive: the most promoted connections of a worker at a time.
    public var promotedCountMax = 1024
    /// Adaptive: a promoted connection is demoted after this much silence.
    public var demotionMilliseconds = 1000
    /// Submissions per `io_uring_enter` while sending.
    public var sendBatchCount = 256
    /// Sends of at least this many bytes use SEND_ZC. 0: never.
    public var zeroCopyByteCountMin = 0
    /// Completions to wait for under load (`min-wait`, Linux 6.12 and later).
    public var completionsToWaitFor = 32
    /// The longest wait for `completionsToWaitFor`. 0: no min-wait.
    public var minWaitMicroseconds = 50
    /// Restrict the ring to the operations that the driver uses.
    public var isRestricted = true

    // epoll
    /// Bytes that a worker receives in a turn at most. The rest waits for the next turn.
    public static let epollByteCountPerTurnMax = 512 << 10
    public var eventsPerWait = 512

    /// Silence after which the kernel probes whether the peer is still there, in milliseconds; cut to whole seconds, 1
    /// second at least (tcp(7), TCP_KEEPIDLE). 0: never.
    public var keepaliveMilliseconds = 60_000
    /// How long a peer may leave probes and sent bytes unacknowledged, in milliseconds (tcp(7), TCP_USER_TIMEOUT). It
    /// detects peers that have vanished. It is generous because a busy consumer may leave its socket unread for a
    /// while.
    public var userTimeoutMilliseconds = 120_000
    /// Time between probes that are not answered (tcp(7), TCP_KEEPINTVL).
    public static let keepaliveIntervalMilliseconds = 10_000

    /// Bytes of a connection that the kernel holds and has not sent to the network yet, at most (TCP_NOTSENT_LOWAT;
    /// Linux, ip-sysctl, `tcp_notsent_lowat`). 0: no limit but the send buffer, which grows to 4 MiB (`tcp_wmem`). No
    /// limit of the broker counts the bytes that a slow reader leaves there, and freeing 4 MiB takes the kernel a
    /// millisecond.
    public var unsentByteCountMax = 1 << 20

    /// Find the peer's address of each accepted connection. Only a limit per address needs it.
    public var findsPeerAddress = false
    /// The core submits `.connect`, so a restricted ring allows those operations. Load generators do; the broker does
    /// not.
    public var opensConnections = false
    /// The core submits file operations (`.openDirectory` and those after it), so a restricted ring allows them.
    public var usesFiles = false

    public init() {}
}
