/// What an operator may set of a driver. Defaults, units and reasons: Config/stampede.yaml, section `io`.
public struct DriverOptions: Sendable, Equatable {
    /// How the io_uring driver waits for the next bytes of a connection.
    public enum ReceiveMode: String, Sendable, CaseIterable {
        /// Every connection is parked on a multishot POLL (256 B of kernel memory) and read when it fires.
        case poll
        /// Every connection keeps a multishot RECV armed (864 B of kernel memory): the least CPU per message.
        case multishot
        /// Parked on POLL; promoted to multishot RECV while busy, demoted when quiet.
        case adaptive
    }

    /// How the io_uring driver holds its sockets.
    public enum Descriptors: String, Sendable, CaseIterable {
        /// Direct where the kernel lets go of them when they are closed, else plain.
        case auto
        /// In the ring's table: they do not count against RLIMIT_NOFILE, and a request finds its socket sooner.
        case direct
        /// As any file of the process: the only way before Linux 6.13.
        case plain
    }

    /// Slots of the ring's table of direct descriptors, and the most connections a worker holds. 0: as many as
    /// RLIMIT_NOFILE allows.
    public var connectionCountMax = 0

    // io_uring
    public var descriptors = Descriptors.auto
    public var submissionEntryCount = 4096
    public var completionEntryCount = 32768
    /// The buffers that POLL-parked connections are read into.
    public var receiveBufferCount = 256
    public var receiveBufferByteCount = 8192
    /// The buffers that floods are read into. Beyond 512 KiB together they let a turn receive more.
    public var largeReceiveBufferCount = 8
    public var largeReceiveBufferByteCount = 65536
    public var receiveMode = ReceiveMode.adaptive
    /// Adaptive: a connection whose POLL fired this many times within `promotionWindowMilliseconds` is promoted...
    public var promotionCount = 8
    public var promotionWindowMilliseconds = 100
    /// ... up to this many at a time, and demoted after this much silence.
    public var promotedCountMax = 1024
    public var demotionMilliseconds = 1000
    /// Submissions per `io_uring_enter` while sending.
    public var sendBatchCount = 256
    /// Sends of at least so many bytes use SEND_ZC. 0: never.
    public var zeroCopyByteCountMin = 0
    /// Completions to wait for while under load, and how long at most (`min-wait`, kernel 6.12 and later).
    public var completionsToWaitFor = 32
    public var minWaitMicroseconds = 50
    /// Restrict the ring to the operations in use before it is enabled.
    public var isRestricted = true

    // epoll
    /// Bytes that are received in a turn. Who has more goes on in the next one.
    public static let epollByteCountPerTurnMax = 512 << 10
    public var eventsPerWait = 512

    /// Silence of a connection after which the kernel asks whether its peer is still there, in milliseconds, whole
    /// seconds at least (tcp(7), TCP_KEEPIDLE). 0: never.
    public var keepaliveMilliseconds = 60_000
    /// How long a peer may leave probes, and bytes that were sent to it, unanswered (tcp(7), TCP_USER_TIMEOUT). A
    /// consumer may be busy and leave its socket unread for a while, so this is generous: it is there for peers that
    /// have vanished.
    public var userTimeoutMilliseconds = 120_000
    /// Between probes that are not answered (tcp(7), TCP_KEEPINTVL).
    public static let keepaliveIntervalMilliseconds = 10_000

    /// Bytes that the kernel takes for a connection beyond what the peer's window and the network hold (TCP_NOTSENT_LOWAT;
    /// Linux, ip-sysctl, `tcp_notsent_lowat`). 0: what the send buffer holds, which grows to 4 MiB (`tcp_wmem`). What a slow
    /// reader leaves there is counted by no limit of ours, and to free 4 MiB takes the kernel a millisecond.
    public var unsentByteCountMax = 1 << 20

    /// Find the peer's address of each accepted connection (only needed by a limit per address).
    public var findsPeerAddress = false
    /// The core submits `.connect` (a load generator; the broker never does): a restricted ring allows what that takes.
    public var opensConnections = false
    /// The core submits file operations (`.openDirectory` and what follows it): a restricted ring allows what they
    /// take.
    public var usesFiles = false

    public init() {}
}
