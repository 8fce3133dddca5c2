public import IO
public import Slabs

/// The layer between a worker's core and its driver: it puts what the core sends into the frames of WebSocket, takes them
/// off what is received, and reads the headers of proxies.
///
///     core --submissions--> lower --> driver --completions--> raise --> core
///
/// The worker calls `lower` with the core's submissions before each poll and `raise` with the driver's completions after
/// it. Connections of plain listeners pass untouched; each of the others has a record of 56 bytes. The layer makes no
/// system call and reads no clock. A broker that has only plain listeners makes no layer.
///
/// For the core a transported connection is a sequence of bytes like any other, with the contract of
/// `Submission.Kind.send`: a send of N bytes is answered by nothing, if all of them are on their way, or by
/// `.sendIncomplete` with k, and the core repeats from byte k on. The layer puts headers between the bytes, which stay
/// where they are, and remembers how many of the next ones belong to the frame under way.
///
/// Its files, in the order in which a byte meets them: `+Raising` (what is received), `+Handshakes`, `+Inflating`,
/// `+Lowering` (what is sent), `+Framing`, `+Deflating`, `+Output` (what the layer itself sends, and what the kernel took of
/// it), `+Closing`.
public struct TransportLayer: ~Copyable {
    /// What is needed of a listener at each chunk.
    struct Facts: BitwiseCopyable {
        var usesWebSocket: Bool
        var expectsProxyHeader: Bool
        var checksProxy: Bool
        var messageByteCountMax: UInt32
        var compressedByteCountMin: Int
        /// See `InflateLimits`.
        var inflatedByteCountMin: UInt32

        var isPlain: Bool { !usesWebSocket && !expectsProxyHeader }
    }

    let listeners: [ListenerTransport]
    let facts: UnsafeMutablePointer<Facts>
    let factCount: Int

    var records: Slab<TransportRecord>
    let places: PlaceTable
    /// Beginnings of headers, answers, control frames: what has to outlive a poll.
    var blocks: BlockPool
    /// Of connections whose messages may be compressed.
    var compression: CompressionStates
    let usesCompression: Bool

    // The poll that comes, or is under way
    var arena: SendArena
    var sends = Batch<LoweredSend>(capacity: 1024)
    /// Where the search for the send of the next `.sendIncomplete` begins: they come in the order of the sends, mostly.
    var sendCursor = 0
    var hasSentPending = false
    var zeroCopySends = Batch<ZeroCopySend>(capacity: 16)
    /// What the layer submits besides.
    var extras = Batch<Submission>(capacity: 256)
    /// What it reports besides, in the next `raise`.
    var reports = Batch<Completion>(capacity: 64)
    var raised = Batch<Completion>(capacity: 4096)

    /// Connections for which the next `lower` has something to do, and those for the one after it.
    var listed = Batch<Handle<TransportRecord>>(capacity: 256)
    var later = Batch<Handle<TransportRecord>>(capacity: 256)
    var lingering = WaitingQueue<Lingerer>()
    /// Connections that were accepted in the last poll and are not plain: the core adopts, refuses or hands them on before
    /// the next one.
    var arrivals = Batch<Arrival>(capacity: 64)
    /// Where the search for the next one to be adopted begins: they are adopted in their order.
    var arrivalCursor = 0
    /// Arrivals whose peer is not known yet to be a proxy: those before this one have been asked for.
    var verifyCursor = 0

    var checkedText = CheckedText()
    var trim = BurstTrim()
    var now: UInt64
    var isDraining = false
    var noticeSecond: UInt64 = 0
    var noticeCount = 0
    var notices: [TransportNotice] = []

    /// `takeNotices` has something to tell. Stored: a computed property that another module reads would copy the layer.
    public internal(set) var hasNotices = false
    /// `nextUnverified` has somebody to ask for.
    public internal(set) var hasUnverified = false
    var counters = TransportCounters()

    /// How long a peer may take, after the last byte that it is sent, to end its side. Then the connection is closed.
    static var lingerNanoseconds: UInt64 { 3_000_000_000 }

    /// - Parameters:
    ///   - listeners: by `ListenerID`.
    ///   - connectionCountMax: the size of the core's table of connections: indices from 1 to it.
    ///   - now: monotonic nanoseconds.
    public init(
        listeners: [ListenerTransport], connectionCountMax: Int, now: UInt64 = 0
    ) throws(SlabError) {
        let records = try Slab<TransportRecord>(recordCountMax: connectionCountMax)
        let places = try PlaceTable(countMax: connectionCountMax + 1)
        let arena = try SendArena()
        let compression = try CompressionStates(listeners, connectionCountMax: connectionCountMax)
        let blocks = try BlockPool(
            byteCountMax: Self.blockByteCountMax(connectionCountMax) + compression.backlogByteCountMax)
        self.compression = compression
        usesCompression = listeners.contains { $0.compression.isOn }
        self.records = records
        self.places = places
        self.blocks = blocks
        self.arena = arena
        self.listeners = listeners
        self.now = now
        factCount = listeners.count
        facts = .allocate(capacity: max(listeners.count, 1))
        for (place, listener) in listeners.enumerated() {
            facts[place] = Facts(
                usesWebSocket: listener.kind.usesWebSocket, expectsProxyHeader: listener.expectsProxyHeader,
                checksProxy: listener.expectsProxyHeader && !listener.proxies.isEmpty,
                messageByteCountMax: UInt32(clamping: listener.messageByteCountMax),
                compressedByteCountMin: listener.compression.messageByteCountMin,
                inflatedByteCountMin: UInt32(clamping: listener.compression.smallByteCount))
        }
    }

    deinit { facts.deallocate() }

    /// As much as all connections together take at most: in its handshake one may keep the longest head. So those who
    /// fill the pool keep nobody out whom they do not keep out of the table of connections too. Backlogs of compressed
    /// input have room besides.
    private static func blockByteCountMax(_ connectionCountMax: Int) -> Int {
        min(max(connectionCountMax * (HTTPUpgrade.headByteCountMax + 2048), 16 << 20), 1 << 30)
    }

    /// The counters, by a call: a property that another module reads would copy the layer.
    public mutating func currentCounters() -> TransportCounters { counters }

    // MARK: Records

    /// The record of a connection. nil: it is plain.
    @inline(__always)
    func find(_ connection: Slot) -> UnsafeMutablePointer<TransportRecord>? {
        let place = places[connection.index]
        if _fastPath(place == 0) { return nil }
        let record = records[Index<TransportRecord>(place)]
        return record.pointee.connectionGeneration >> 8 == connection.generation ? record : nil
    }

    @inline(__always)
    func handle(_ record: UnsafeMutablePointer<TransportRecord>) -> Handle<TransportRecord> {
        Handle(index: Index(places[record.pointee.connectionIndex]), generation: record.pointee.generation)
    }

    @inline(__always)
    func facts(of record: UnsafeMutablePointer<TransportRecord>) -> Facts { facts[record.pointee.listener] }

    /// Transported connections.
    public var connectionCount: Int { records.liveCount }

    /// Bytes of the blocks that hold what has to outlive a poll: none when there are no connections.
    package mutating func heldByteCount() -> Int { blocks.byteCountInUse }

    /// The next `lower` looks at the connection.
    mutating func list(_ record: UnsafeMutablePointer<TransportRecord>) {
        if record.pointee.flags.contains(.isListed) { return }
        record.pointee.flags.insert(.isListed)
        listed.append(handle(record))
    }

    /// The broker shuts down: clients are told so by the code of their close frames.
    public mutating func beginDrain() { isDraining = true }

    /// A connection was adopted by the core.
    mutating func adopt(_ submission: Submission) {
        guard let arrival = takeArrival(submission.value) else { return }
        let listener = Int(arrival.listener.rawValue)
        let handle: Handle<TransportRecord> = records.allocate()
        invariant(!handle.isNone, "there is a record for each of the core's connections")
        invariant(places[submission.connection.index] == 0, "a slot was adopted twice without a close between")
        places[submission.connection.index] = handle.index.rawValue
        let record = records[handle.index]
        record.pointee.name(submission.connection, UInt8(listener))
        record.pointee.closeAnswer = .normal
        record.pointee.stage =
            facts[listener].expectsProxyHeader ? .proxy : facts[listener].usesWebSocket ? .request : .plain
        if arrival.isStranger {
            // Without an address the connection is reset already, as by the health checks of haproxy. A line for each
            // of them would say that the proxy is refused.
            if arrival.hasAddress {
                notice(record, "a PROXY header is not accepted from this address (listeners[].proxy-protocol)")
                counters.handshakesRefused &+= 1
            }
            end(record, isRaising: false)
        }
    }

    /// The driver has closed the connection.
    mutating func remove(_ record: UnsafeMutablePointer<TransportRecord>) {
        if record.pointee.pending != 0 { blocks.release(record.pointee.pending) }
        if record.pointee.kept != 0 { blocks.release(record.pointee.kept) }
        dropIdentity(record, keepsAddress: false)
        if record.pointee.compression.isOn { removeCompression(record) }
        let index = record.pointee.connectionIndex
        records.free(Index<TransportRecord>(places[index]))
        places[index] = 0
    }
}

/// A zero-copy send of the core, which the layer carries out as a plain one.
struct ZeroCopySend: BitwiseCopyable {
    var connection: Slot
    /// Bytes of the core that were taken, or -errno.
    var result: Int32
}

/// A connection that waits for its peer's end.
struct Lingerer: BitwiseCopyable {
    var record: Handle<TransportRecord>
    var deadline: UInt64
}

/// The counters of a layer since it was made.
public struct TransportCounters: Equatable, Sendable, BitwiseCopyable {
    /// Handshakes that led to a WebSocket.
    public var webSocketsOpened: UInt64 = 0
    /// Handshakes and PROXY headers that were refused.
    public var handshakesRefused: UInt64 = 0
    /// WebSockets that were closed because the peer did not keep to RFC 6455.
    public var protocolErrors: UInt64 = 0
    public var pings: UInt64 = 0
    /// Bytes of compressed messages as clients have sent them, and as they were inflated.
    public var inflatedInput: UInt64 = 0
    public var inflatedOutput: UInt64 = 0
    /// Bytes of messages that were compressed for clients, before and after. What many clients got counts for each.
    public var deflatedInput: UInt64 = 0
    public var deflatedOutput: UInt64 = 0
    /// WebSockets that were closed because there was no memory to inflate a message.
    public var inflationsRefused: UInt64 = 0

    public init() {}

    public mutating func add(_ other: TransportCounters) {
        webSocketsOpened &+= other.webSocketsOpened
        handshakesRefused &+= other.handshakesRefused
        protocolErrors &+= other.protocolErrors
        pings &+= other.pings
        inflatedInput &+= other.inflatedInput
        inflatedOutput &+= other.inflatedOutput
        deflatedInput &+= other.deflatedInput
        deflatedOutput &+= other.deflatedOutput
        inflationsRefused &+= other.inflationsRefused
    }

    /// By the names that the log gives them. Those that are 0 are left out.
    public var named: [(String, UInt64)] {
        [
            ("websockets", webSocketsOpened), ("handshakes-refused", handshakesRefused),
            ("websocket-errors", protocolErrors), ("websocket-pings", pings),
            ("inflated-from-bytes", inflatedInput), ("inflated-to-bytes", inflatedOutput),
            ("deflated-from-bytes", deflatedInput), ("deflated-to-bytes", deflatedOutput),
            ("inflations-refused", inflationsRefused),
        ].filter { $0.1 > 0 }
    }
}

/// A line for the log: what was wrong with a connection.
public struct TransportNotice: Sendable {
    public var connection: Slot
    public var listener: ListenerID
    public var text: String
}

extension TransportLayer {
    /// Lines that are logged in a second at most. Others are counted (`TransportCounters`), not told.
    private static var noticesPerSecond: Int { 20 }

    mutating func notice(_ record: UnsafeMutablePointer<TransportRecord>, _ text: @autoclosure () -> String) {
        let second = now / 1_000_000_000
        if second != noticeSecond {
            noticeSecond = second
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
