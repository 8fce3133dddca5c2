package import CTLS
internal import IO
public import Slabs

/// TLS of a worker's connections, between its driver and what stands above: the layer of WebSockets and proxies, or the
/// core. Both are called the core here.
///
///     core --submissions--> lower --> driver --completions--> raise --> core
///
/// For the core, a connection with TLS is a sequence of plaintext bytes with the contract of `Submission.Kind.send`. The
/// layer encrypts ahead of what the kernel takes: ciphertext that waits is kept in its blocks, and what the core submits
/// again is skipped, because it must not be encrypted twice.
///
/// Connections of other listeners pass untouched. The layer makes no system call. A broker without TLS makes no layer.
///
/// Files: `+Raising` (what is received, and handshakes), `+Lowering` (what is sent), `+Ciphertext` (what waits for the
/// kernel), `+Closing`.
public struct TLSLayer: ~Copyable {
    let listeners: [TLSListener]
    let factCount: Int
    /// By listener.
    let facts: UnsafeMutablePointer<Facts>
    let tickets: TLSTicketKeys

    struct Facts: BitwiseCopyable {
        var usesTLS: Bool
        var expectsProxyHeader: Bool
        /// WebSockets are above. What that layer has not begun to send it may put into other frames when it submits it
        /// again, so bytes count as taken when they are encrypted.
        var isFramedAbove: Bool
    }

    let wire: TLSWire
    var records: Slab<TLSRecord>
    let places: PlaceTable
    var blocks: BlockPool
    var arena: SendArena
    var plaintext = PlaintextArena()
    /// What an engine says besides its answer: handshake messages and alerts.
    let scratch: UnsafeMutableRawBufferPointer

    // The poll that comes, or is under way
    var sends = Batch<LoweredTLSSend>(capacity: 1024)
    var lowered = Batch<Submission>(capacity: 4096)
    /// Reported in the next `raise`, before anything of the driver.
    var reports = Batch<Completion>(capacity: 64)
    /// What the core is to hear.
    var raised = Batch<Completion>(capacity: 4096)
    /// The first of the core's submissions that is not lowered.
    var submissionCursor = 0
    /// Ciphertext of the part under way.
    var partByteCount = 0
    /// Of the driver's completions since the last `raise`: those that were searched for sends.
    var settledCompletionCount = 0

    /// Connections that were accepted by listeners with TLS, for the core's answer. Both come in the same order, mostly.
    var arrivals = Batch<TLSArrival>(capacity: 64)
    var arrivalCursor = 0
    /// Connections for which the next `lower` has something to do.
    var listed = Batch<Handle<TLSRecord>>(capacity: 256)
    /// Handshakes that wait for their turn: those that have begun, and those that have not.
    var begun = WaitingQueue<Handle<TLSRecord>>()
    var newcomers = WaitingQueue<Handle<TLSRecord>>()
    /// Handshakes that have begun and are not done.
    var openHandshakeCount = 0
    /// Connections of the core that wait for memory for their ciphertext.
    var starved = Batch<Handle<TLSRecord>>(capacity: 16)
    /// Connections whose `.close` waits: the next one to be closed though its ciphertext is not sent is the first.
    var closing = WaitingQueue<ClosingTLS>()
    /// One of the sends has something to tell the core, or to go on with, even if the driver takes all of it and so has
    /// nothing to report: the next poll may not wait.
    var settlesAtOnce = false
    /// Steps of handshakes that this turn may still take.
    var stepAllowance = 0

    var noticeSecond: Int64 = 0
    var noticeCount = 0
    var notices: [TransportNotice] = []
    var nowSeconds: Int64
    /// Monotonic nanoseconds, of the last `lower`.
    var now: UInt64 = 0
    var isDraining = false
    var trim = BurstTrim()

    /// `takeNotices` has something to tell. Stored: a computed property that another module reads would copy the layer.
    public internal(set) var hasNotices = false
    public internal(set) var counters = TLSCounters()

    /// Steps of handshakes that a turn takes at most: hellos, key exchanges and proofs, 0.1 to 1 ms each. The others wait,
    /// so that a storm of handshakes does not delay those who are in by more than some milliseconds a turn.
    static var stepsPerTurn: Int { 4 }
    /// Handshakes that have begun, at most. Each takes 44 KiB until it is done, so all take 88 MiB a worker. Others wait;
    /// `limits.connect-timeout-ms` ends those that take too long.
    static var openHandshakeCountMax: Int { 2000 }
    /// Ciphertext of a connection that waits for the kernel at most, plus one record. Without it, one slow reader would
    /// have up to a whole send of the core (1 MiB) encrypted in advance.
    static var pendingByteCountMax: Int { 256 << 10 }
    /// The same where bytes count as taken when they are encrypted: neither limits of the output nor its stalls see them.
    static var framedPendingByteCountMax: Int { 64 << 10 }
    /// Input of a connection that waits for its handshake's turn: a hello and some records around it.
    static var keptByteCountMax: Int { 20 << 10 }
    /// The same for one that has begun: the longest chain of certificates (32 KiB), and what a driver receives at a time.
    static var keptByteCountOfBegunMax: Int { 96 << 10 }

    /// How long the `.close` of the core waits for a client that takes nothing of its ciphertext.
    static var closeNanoseconds: UInt64 { 3_000_000_000 }

    /// More memory than a ticket takes, which holds the client's certificate.
    static var ticketByteCountMax: Int { 64 << 10 }

    /// - Parameters:
    ///   - listeners: by `ListenerID`.
    ///   - connectionCountMax: the size of the core's table of connections: indices from 1 to it.
    ///   - nowSeconds: wall time, in seconds since 1970.
    public init(
        listeners: [TLSListener], tickets: TLSTicketKeys, connectionCountMax: Int, nowSeconds: Int64
    ) throws(SlabError) {
        try self.init(
            listeners: listeners, tickets: tickets, connectionCountMax: connectionCountMax, nowSeconds: nowSeconds,
            blockByteCountMax: Self.blockByteCountMax(connectionCountMax), library: tls_library_openssl())
    }

    /// - Parameters:
    ///   - blockByteCountMax: memory for ciphertext and for handshakes that wait.
    ///   - library: what encrypts. It must outlive the layer.
    package init(
        listeners: [TLSListener], tickets: TLSTicketKeys, connectionCountMax: Int, nowSeconds: Int64,
        blockByteCountMax: Int, library: UnsafePointer<tls_library>
    ) throws(SlabError) {
        let records = try Slab<TLSRecord>(recordCountMax: connectionCountMax)
        let places = try PlaceTable(countMax: connectionCountMax + 1)
        let blocks = try BlockPool(byteCountMax: blockByteCountMax)
        let arena = try SendArena()
        guard let wire = TLSWire(library: library) else { throw .addressSpaceRefused(byteCount: 0, errno: 12) }
        self.records = records
        self.places = places
        self.blocks = blocks
        self.arena = arena
        self.wire = wire
        self.listeners = listeners
        self.tickets = tickets
        self.nowSeconds = nowSeconds
        scratch = .allocate(byteCount: 16 << 10, alignment: 64)
        factCount = listeners.count
        facts = .allocate(capacity: max(listeners.count, 1))
        for (place, listener) in listeners.enumerated() {
            facts[place] = Facts(
                usesTLS: listener.source != nil, expectsProxyHeader: listener.expectsProxyHeader,
                isFramedAbove: listener.hasWebSockets)
        }
    }

    deinit {
        var index: Index<TLSRecord> = records.nextLive(after: Index<TLSRecord>.none)
        while !index.isNone {
            records[index].pointee.engine?.free(wire: wire)
            index = records.nextLive(after: index)
        }
        facts.deallocate()
        scratch.deallocate()
    }

    /// 16 KiB for each connection, within bounds. A connection for which there is no block waits, or is closed if it is in
    /// its handshake.
    private static func blockByteCountMax(_ connectionCountMax: Int) -> Int {
        min(max(connectionCountMax << 14, 32 << 20), 1 << 30)
    }

    // MARK: Records

    /// The record of a connection. nil: it has no TLS.
    @inline(__always)
    func find(_ connection: Slot) -> UnsafeMutablePointer<TLSRecord>? {
        let place = places[connection.index]
        if place == 0 { return nil }
        let record = records[Index<TLSRecord>(place)]
        return record.pointee.connectionGeneration >> 8 == connection.generation ? record : nil
    }

    func handle(_ record: UnsafeMutablePointer<TLSRecord>) -> Handle<TLSRecord> {
        Handle(index: Index(places[record.pointee.connectionIndex]), generation: record.pointee.generation)
    }

    /// The counters, by a call: a property that another module reads would copy the layer.
    public mutating func currentCounters() -> TLSCounters { counters }

    /// Connections with TLS.
    public var connectionCount: Int { records.liveCount }

    /// Bytes of the blocks that hold ciphertext and handshakes: none when there are no connections.
    package mutating func heldByteCount() -> Int { blocks.byteCountInUse }

    /// The next `lower` looks at the connection.
    mutating func list(_ record: UnsafeMutablePointer<TLSRecord>) {
        if record.pointee.flags.contains(.isListed) { return }
        record.pointee.flags.insert(.isListed)
        listed.append(handle(record))
    }

    /// The broker shuts down: clients that take little at a time are not waited for again and again.
    public mutating func beginDrain() { isDraining = true }

    mutating func noteArrival(_ completion: Completion) {
        let listener = Int(completion.origin.listener.rawValue)
        guard listener < factCount, facts[listener].usesTLS else { return }
        arrivals.append(TLSArrival(descriptor: completion.value, listener: listener))
    }

    /// The listener of an accepted connection. nil: it has no TLS.
    private mutating func takeArrival(_ descriptor: Int32) -> Int? {
        for _ in 0..<arrivals.count {
            if arrivalCursor >= arrivals.count { arrivalCursor = 0 }
            let arrival = arrivals[arrivalCursor]
            arrivalCursor += 1
            if arrival.descriptor == descriptor { return arrival.listener }
        }
        return nil
    }

    /// A connection was adopted by the core.
    mutating func adopt(_ submission: Submission) {
        guard let listener = takeArrival(submission.value) else { return }
        let handle: Handle<TLSRecord> = records.allocate()
        invariant(!handle.isNone, "there is a record for each of the core's connections")
        invariant(places[submission.connection.index] == 0, "a slot was adopted twice without a close between")
        places[submission.connection.index] = handle.index.rawValue
        let record = records[handle.index]
        record.pointee.name(submission.connection, UInt8(listener))
        record.pointee.stage = facts[listener].expectsProxyHeader ? .proxy : .waiting
        record.pointee.engine = nil
    }

    /// The driver has closed the connection.
    mutating func remove(_ record: UnsafeMutablePointer<TLSRecord>) {
        if record.pointee.stage == .handshake { openHandshakeCount -= 1 }
        record.pointee.engine?.free(wire: wire)
        dropCiphertext(record)
        forgetKept(record)
        let index = record.pointee.connectionIndex
        records.free(Index<TLSRecord>(places[index]))
        places[index] = 0
    }

    /// What the handshake has found out about a client. nil: the connection has no TLS, or its handshake is not done.
    public mutating func identity(of connection: Slot) -> TLSIdentity? {
        guard let record = find(connection), let engine = record.pointee.engine, engine.isEstablished else {
            return nil
        }
        return engine.identity
    }

    // MARK: Notices

    /// Lines that are logged in a second at most. Others are counted, not told.
    private static var noticesPerSecond: Int { 20 }

    mutating func notice(_ record: UnsafeMutablePointer<TLSRecord>, _ text: @autoclosure () -> String) {
        if nowSeconds != noticeSecond {
            noticeSecond = nowSeconds
            noticeCount = 0
        }
        guard noticeCount < Self.noticesPerSecond else { return }
        noticeCount += 1
        notices.append(
            TransportNotice(
                connection: record.pointee.connection, listener: ListenerID(rawValue: UInt8(record.pointee.listener)),
                text: text()))
        hasNotices = true
    }

    /// What is to be logged since the last call.
    public mutating func takeNotices() -> [TransportNotice] {
        hasNotices = false
        defer { notices.removeAll() }
        return notices
    }
}

/// A listener as the layer of TLS sees it.
public struct TLSListener: Sendable {
    /// Certificates and rules. nil: it has no TLS.
    public var source: TLSContextSource?
    /// A proxy's header comes before TLS.
    public var expectsProxyHeader: Bool
    /// The plaintext is that of WebSockets.
    public var hasWebSockets: Bool

    public init(source: TLSContextSource?, expectsProxyHeader: Bool = false, hasWebSockets: Bool = false) {
        self.source = source
        self.expectsProxyHeader = expectsProxyHeader
        self.hasWebSockets = hasWebSockets
    }
}

/// An accepted connection that the core has not answered yet.
struct TLSArrival: BitwiseCopyable {
    var descriptor: Int32
    var listener: Int
}

/// The counters of a layer since it was made.
public struct TLSCounters: Equatable, Sendable, BitwiseCopyable {
    public var handshakes: UInt64 = 0
    public var handshakesResumed: UInt64 = 0
    /// Handshakes that failed.
    public var handshakesFailed: UInt64 = 0
    /// Handshakes that had to wait for a later turn.
    public var handshakesDelayed: UInt64 = 0
    /// Connections that failed after their handshake.
    public var connectionsFailed: UInt64 = 0

    public init() {}

    public mutating func add(_ other: TLSCounters) {
        handshakes &+= other.handshakes
        handshakesResumed &+= other.handshakesResumed
        handshakesFailed &+= other.handshakesFailed
        handshakesDelayed &+= other.handshakesDelayed
        connectionsFailed &+= other.connectionsFailed
    }

    /// By the names that the log gives them. Those that are 0 are left out.
    public var named: [(String, UInt64)] {
        [
            ("tls-handshakes", handshakes), ("tls-handshakes-resumed", handshakesResumed),
            ("tls-handshakes-failed", handshakesFailed), ("tls-handshakes-delayed", handshakesDelayed),
            ("tls-connections-failed", connectionsFailed),
        ].filter { $0.1 > 0 }
    }
}
