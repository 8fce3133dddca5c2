/// A process with one end of many connections, and its needs.
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
    /// Connections are slots of the file tables of rings. Otherwise each is a descriptor of the process, as with epoll.
    public var hasDirectDescriptors: Bool
    /// The operator asked for io_uring, so epoll is no alternative.
    public var insistsOnRing = false
    /// The number of threads, each with its own ring.
    public var workerCount = 1
    public var workerCountMax = 128
    /// The name of the setting of the worker count: "io.workers".
    public var workerSetting = "io.workers"
    /// The configured limit of connections of a ring. 0: as many as its file table holds.
    public var connectionsPerWorkerMax = 0
    /// The kernel distributes connections over the listeners of the workers by a hash.
    public var spreadsByHash = true
    /// Slots of a file table that are kept free.
    public var reservedSlotCount = 64
    public var ring = RingSize()
    /// The number of listening sockets of each worker.
    public var listenerCount = 1
    /// The process listens on every address.
    public var listensOnEveryAddress = true
    /// Limits of the configuration that must have room for N connections with one subscription each: the name, and the
    /// sum over all workers.
    public var ownLimits: [OwnLimit] = []
    public var userBytesPerConnection = Footprint.brokerBytesPerConnection

    public struct OwnLimit: Sendable, Equatable {
        public var name: String
        public var total: Int
        /// The setting is per worker.
        public var isPerWorker: Bool
        /// It limits some of the connections: those of one listener, or of one virtual host, of several.
        public var isPartial: Bool

        public init(name: String, total: Int, isPerWorker: Bool, isPartial: Bool = false) {
            self.name = name
            self.total = total
            self.isPerWorker = isPerWorker
            self.isPartial = isPartial
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
    /// The load generator. It has as many threads as it needs rings.
    ///
    /// - Parameter descriptorMax: RLIMIT_NOFILE, which is also the number of slots of each file table.
    public static func loadGenerator(connectionCount: Int, usesRing: Bool, descriptorMax: Int) -> Party {
        var party = Party(.clients, connectionCount: connectionCount, driver: usesRing ? .uring : .epoll)
        let slots = max(min(descriptorMax, 1 << 20) - clientDescriptorReserve, 1)
        party.workerCount = (connectionCount + slots - 1) / slots
        party.workerCountMax = 1 << 16
        party.workerSetting = "threads"
        // The load generator itself distributes its clients, evenly.
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

    /// Descriptors of each thread that are not connections.
    private static var clientDescriptorReserve: Int { 500 }
}

/// The size of a ring and its buffers: what a worker takes independent of its connections.
public struct RingSize: Sendable, Equatable {
    public var submissionEntries = 4096
    public var completionEntries = 32768
    public var buffers = 256
    public var bufferBytes = 8192
    public var largeBuffers = 32
    public var largeBufferBytes = 65536

    public init() {}

    /// The size of the queues, in whole pages. Some kernels count it against RLIMIT_MEMLOCK. A submission has 64 bytes,
    /// a completion 16, an index 4, the entry of a provided buffer 16. The heads of the queues fit a page.
    func queueByteCount(pageByteCount: Int) -> Int {
        func pages(_ byteCount: Int) -> Int { (byteCount + pageByteCount - 1) / pageByteCount * pageByteCount }
        return pages(submissionEntries * 64) + pages(completionEntries * 16 + submissionEntries * 4 + 320)
            + pages(buffers * 16) + pages(largeBuffers * 16)
    }

    var bufferByteCount: Int { buffers * bufferBytes + largeBuffers * largeBufferBytes }
}

/// Bytes and mappings, measured on Linux 6.18 (x86-64) with the release build. See README, section "Many connections".
public enum Footprint {
    /// The growth of the broker's resident memory: session, subscription, tables.
    public static let brokerBytesPerConnection = 256
    /// The record of a client in the load generator, and its share of the buffers.
    public static let clientBytesPerConnection = 128
    /// One end of an idle TCP connection: socket, inode, file, directory entry, and their unused space.
    public static let socketBytes = 4096
    /// The request that waits for the next byte.
    public static let ringPollBytes = 256
    public static let epollItemBytes = 208
    /// A slot of a file table.
    public static let fileSlotBytes = 8
    /// A record of connection tracking, with its part of the hash table.
    public static let trackedBytes = 320
    /// Each worker: stack, tables, batches, and the memory of a ring in the kernel.
    public static let workerBytes = 1 << 20
    /// The process itself: code, libraries, heap.
    public static let processBytes = 16 << 20
    public static let processMappings = 200
    public static let mappingsPerWorker = 64
    /// Descriptors of each worker besides its listeners (ring, eventfd), and other descriptors of the process.
    public static let descriptorsPerWorker = 3
    public static let descriptorReserve = 64
}
