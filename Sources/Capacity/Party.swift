/// A process that will hold one end of many connections, and what of the machine that takes.
public struct Party: Sendable, Equatable {
    public enum Role: String, Sendable, Codable {
        case broker
        case clients
    }

    public enum Driver: String, Sendable, Codable {
        case uring, epoll
    }

    public var role: Role
    public var connectionCount: Int
    public var driver: Driver
    /// Connections are slots of the rings' tables; else each is a descriptor of the process, as with epoll.
    public var hasDirectDescriptors: Bool
    /// io_uring was asked for by name: epoll will not do.
    public var insistsOnRing = false
    /// Threads, each with a ring of its own.
    public var workerCount = 1
    public var workerCountMax = 128
    /// Where the worker count is set, and to what: "io.workers".
    public var workerSetting = "io.workers"
    /// The most connections of a worker as configured; 0: as many as its ring's table holds.
    public var connectionsPerWorkerMax = 0
    /// The kernel spreads connections over the workers' listeners, by a hash.
    public var spreadsByHash = true
    /// Slots of a ring's table that are kept free.
    public var reservedSlotCount = 64
    public var ring = RingSize()
    /// Listening sockets of each worker.
    public var listenerCount = 1
    /// The process can be told to listen on every address.
    public var listensOnEveryAddress = true
    /// Limits of its own configuration that N connections with a subscription each have to fit: name, and how many
    /// there are in all workers together.
    public var ownLimits: [OwnLimit] = []
    public var userBytesPerConnection = Footprint.brokerBytesPerConnection

    public struct OwnLimit: Sendable, Equatable {
        public var name: String
        public var total: Int
        /// Where it is set for each worker apart.
        public var isPerWorker: Bool

        public init(name: String, total: Int, isPerWorker: Bool) {
            self.name = name
            self.total = total
            self.isPerWorker = isPerWorker
        }
    }

    public init(_ role: Role, connectionCount: Int, driver: Driver) {
        self.role = role
        self.connectionCount = connectionCount
        self.driver = driver
        hasDirectDescriptors = driver == .uring
        if role == .clients { userBytesPerConnection = Footprint.clientBytesPerConnection }
    }
}

extension Party {
    /// The load generator: as many threads as rings are needed.
    ///
    /// - Parameter descriptorMax: RLIMIT_NOFILE, the slots of each ring's table.
    public static func loadGenerator(connectionCount: Int, usesRing: Bool, descriptorMax: Int) -> Party {
        var party = Party(.clients, connectionCount: connectionCount, driver: usesRing ? .uring : .epoll)
        let slots = max(min(descriptorMax, 1 << 20) - clientDescriptorReserve, 1)
        party.workerCount = (connectionCount + slots - 1) / slots
        party.workerCountMax = 1 << 16
        party.workerSetting = "threads"
        // It deals its clients out itself: nothing is spread by chance.
        party.spreadsByHash = false
        party.listenerCount = 0
        if connectionCount > 4096 {
            party.ring.submissionEntries = 1024
            party.ring.completionEntries = 4096
            party.ring.buffers = 256
            party.ring.bufferBytes = 512
            party.ring.largeBuffers = 2
        }
        return party
    }

    /// Of each thread's descriptors, those that are no connections.
    private static var clientDescriptorReserve: Int { 500 }
}

/// Entries of a ring and its buffers: what one worker takes, however few connections it has.
public struct RingSize: Sendable, Equatable {
    public var submissionEntries = 4096
    public var completionEntries = 32768
    public var buffers = 256
    public var bufferBytes = 8192
    public var largeBuffers = 32
    public var largeBufferBytes = 65536

    public init() {}

    /// The queues, in whole pages: what io_uring counts against RLIMIT_MEMLOCK where it counts. A submission has 64
    /// bytes, a completion 16, an index 4, a provided buffer's entry 16; the rings' heads fit a page.
    func queueByteCount(pageByteCount: Int) -> Int {
        func pages(_ byteCount: Int) -> Int { (byteCount + pageByteCount - 1) / pageByteCount * pageByteCount }
        return pages(submissionEntries * 64) + pages(completionEntries * 16 + submissionEntries * 4 + 320)
            + pages(buffers * 16) + pages(largeBuffers * 16)
    }

    var bufferByteCount: Int { buffers * bufferBytes + largeBuffers * largeBufferBytes }
}

/// Bytes and mappings, as measured on Linux 6.18 (x86-64) with the release build; README, section "Many connections".
public enum Footprint {
    /// Growth of the broker's resident memory: session, subscription, tables.
    public static let brokerBytesPerConnection = 256
    /// The load generator's record, its client's share of buffers.
    public static let clientBytesPerConnection = 128
    /// One end of an idle TCP connection: socket, inode, file, directory entry, and their slack.
    public static let socketBytes = 4096
    /// What waits for its next byte.
    public static let ringPollBytes = 256
    public static let epollItemBytes = 208
    /// A slot of a ring's table.
    public static let fileSlotBytes = 8
    /// An entry of connection tracking, with its place in the hash table.
    public static let trackedBytes = 320
    /// Each worker: stack, tables, batches, what the kernel keeps of a ring.
    public static let workerBytes = 1 << 20
    /// The process itself: code, libraries, heap.
    public static let processBytes = 16 << 20
    public static let processMappings = 200
    public static let mappingsPerWorker = 64
    /// Descriptors of each worker besides its listeners (ring, eventfd), and of the process.
    public static let descriptorsPerWorker = 3
    public static let descriptorReserve = 64
}
