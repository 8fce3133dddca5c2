internal import CDeflate
internal import IO
internal import Slabs

/// What a connection needs between two polls because its messages are compressed: a part of a message has come, or
/// contexts are taken over. Others have none.
struct CompressionState: SlabRecord {
    var generation: UInt32
    /// The index of its connection's slot.
    var connectionIndex: UInt32
    /// In `CompressionStates.waiting`.
    var link: DoubleLink<CompressionState>
    /// What was received is inflated by it. nil: nothing was yet.
    var reader: OpaquePointer?
    /// What is sent is deflated by it, if its context is taken over. nil: nothing was yet.
    var writer: OpaquePointer?
    var progress: InflateProgress
    /// Bytes from the wire, behind `backlogOffset`, that were received and are not decoded yet. 0: none.
    var backlog: BlockIndex
    var backlogOffset: UInt32
    /// What it counts in `CompressionStates.byteCount`.
    var countedByteCount: UInt32
    /// It is in `CompressionStates.waiting`.
    var isWaiting: Bool
}

enum WaitingLink: DoublyLinked {
    @inline(__always)
    static func link(of record: UnsafeMutablePointer<CompressionState>) -> DoubleLink<CompressionState> {
        record.pointee.link
    }

    @inline(__always)
    static func setLink(
        _ link: DoubleLink<CompressionState>, of record: UnsafeMutablePointer<CompressionState>
    ) { record.pointee.link = link }
}

/// The states of a layer's connections, and what they share: zlib's streams of the worker.
struct CompressionStates: ~Copyable {
    var slab: Slab<CompressionState>
    /// The state of each connection, by the index of its slot.
    let places: PlaceTable
    /// States with a part of a message whose reader goes back when the message is whole: the one that has waited longest
    /// is the first.
    var waiting = List<WaitingLink>()
    /// Memory of states: of those that wait, and of contexts, which count as soon as they are agreed on.
    private(set) var byteCount = 0
    private(set) var contextByteCount = 0
    let byteCountMax: Int
    /// Memory of backlogs. They may take as much again, or what drivers receive in some polls if that is more: where many
    /// clients send at once, their backlogs are done soon.
    private(set) var backlogByteCount = 0
    let backlogByteCountMax: Int
    /// Readers that are free, each with the largest window.
    private var spares = Batch<OpaquePointer>(capacity: 16)
    /// What deflates for all connections that take over no context, by their window.
    private let writers: UnsafeMutablePointer<OpaquePointer?>

    /// Connections with a backlog.
    var backlogged = Batch<Handle<TransportRecord>>(capacity: 16)
    /// Those that this poll has served, and that are not done.
    var served = Batch<Handle<TransportRecord>>(capacity: 16)
    var cappedSends = Batch<CappedSend>(capacity: 16)
    /// What was inflated in this poll.
    var inflated = PlaintextArena()
    var inflatedByteCount = 0
    /// What was deflated in this poll.
    var pieces = DeflatedPieces()

    private static var backlogByteCountMin: Int { 16 << 20 }
    private static var spareCountMax: Int { 16 }
    private static var largestWindowBits: Int { 15 }

    init(_ listeners: [ListenerTransport], connectionCountMax: Int) throws(SlabError) {
        let users = listeners.filter { $0.compression.isOn }
        let count = users.isEmpty ? 1 : connectionCountMax
        let slab = try Slab<CompressionState>(recordCountMax: count)
        let places = try PlaceTable(countMax: count + 1)
        self.slab = slab
        self.places = places
        byteCountMax = users.map(\.compression.memoryByteCountMax).max() ?? 0
        backlogByteCountMax = users.isEmpty ? 0 : min(max(byteCountMax, Self.backlogByteCountMin), 1 << 30)
        writers = .allocate(capacity: Self.largestWindowBits + 1)
        writers.initialize(repeating: nil, count: Self.largestWindowBits + 1)
    }

    deinit {
        var index = slab.nextLive(after: Index<CompressionState>.none)
        while !index.isNone {
            if let reader = slab[index].pointee.reader { inflate_stream_free(reader) }
            if let writer = slab[index].pointee.writer { deflate_stream_free(writer) }
            index = slab.nextLive(after: index)
        }
        for place in 0..<spares.count { inflate_stream_free(spares[place]) }
        for bits in 0...Self.largestWindowBits { if let writer = writers[bits] { deflate_stream_free(writer) } }
        writers.deallocate()
    }

    /// nil: the connection has none.
    @inline(__always)
    func find(_ connectionIndex: UInt32) -> UnsafeMutablePointer<CompressionState>? {
        let place = places[connectionIndex]
        return place == 0 ? nil : slab[Index<CompressionState>(place)]
    }

    /// The state of a connection, which is made if it has none.
    mutating func state(_ connectionIndex: UInt32) -> UnsafeMutablePointer<CompressionState> {
        if let state = find(connectionIndex) { return state }
        let handle: Handle<CompressionState> = slab.allocate()
        invariant(!handle.isNone, "there is a state for each connection")
        places[connectionIndex] = handle.index.rawValue
        let state = slab[handle.index]
        state.pointee.connectionIndex = connectionIndex
        state.pointee.progress = InflateProgress()
        return state
    }

    // MARK: Contexts

    private static func contextByteCount(_ agreement: CompressionAgreement) -> Int {
        (agreement.clientTakesOver ? inflate_stream_byte_count(Int32(agreement.clientWindowBits)) : 0)
            + (agreement.serverTakesOver
                ? deflate_stream_byte_count(Int32(agreement.serverWindowBits), CompressionOptions.memoryLevel) : 0)
    }

    /// Contexts may take half of the memory: the other half is for messages of which a part has come.
    func hasRoom(for agreement: CompressionAgreement) -> Bool {
        contextByteCount + Self.contextByteCount(agreement) <= byteCountMax / 2
    }

    /// A connection has agreed to take over contexts. Their memory is counted from now on, though it is taken later.
    mutating func addContexts(_ connectionIndex: UInt32, _ agreement: CompressionAgreement) {
        let added = Self.contextByteCount(agreement)
        guard added > 0 else { return }
        let state = state(connectionIndex)
        state.pointee.countedByteCount = UInt32(added)
        contextByteCount += added
        byteCount += added
    }

    /// The connection's own. nil: there is no memory.
    func writer(
        of state: UnsafeMutablePointer<CompressionState>, _ agreement: CompressionAgreement
    ) -> OpaquePointer? {
        if state.pointee.writer == nil {
            state.pointee.writer = deflate_stream_make(
                Int32(agreement.serverWindowBits), CompressionOptions.memoryLevel, CompressionOptions.level)
        }
        return state.pointee.writer
    }

    /// That of all connections with this window. It remembers nothing of what it has deflated before. nil: there is no
    /// memory.
    func sharedWriter(windowBits: Int) -> OpaquePointer? {
        if let writer = writers[windowBits] {
            deflate_stream_reset(writer)
            return writer
        }
        writers[windowBits] = deflate_stream_make(
            Int32(windowBits), CompressionOptions.memoryLevel, CompressionOptions.level)
        return writers[windowBits]
    }

    // MARK: Readers

    /// What inflates for a connection, at the beginning of a message or within one. nil: there is no memory.
    mutating func reader(
        of state: UnsafeMutablePointer<CompressionState>, _ agreement: CompressionAgreement
    ) -> OpaquePointer? {
        if let reader = state.pointee.reader { return reader }
        if agreement.clientTakesOver {
            state.pointee.reader = inflate_stream_make(Int32(agreement.clientWindowBits))
        } else {
            state.pointee.reader =
                spares.isEmpty ? inflate_stream_make(Int32(Self.largestWindowBits)) : spares.removeLast()
        }
        return state.pointee.reader
    }

    /// A message is whole.
    mutating func didReadMessage(
        _ state: UnsafeMutablePointer<CompressionState>, _ agreement: CompressionAgreement
    ) {
        state.pointee.progress = InflateProgress()
        if !agreement.clientTakesOver { returnReader(state) }
    }

    private mutating func returnReader(_ state: UnsafeMutablePointer<CompressionState>) {
        stopWaiting(state)
        guard let reader = state.pointee.reader else { return }
        state.pointee.reader = nil
        guard spares.count < Self.spareCountMax else { return inflate_stream_free(reader) }
        inflate_stream_reset(reader)
        spares.append(reader)
    }

    /// The reader is kept until the rest of its message comes.
    mutating func startWaiting(_ state: UnsafeMutablePointer<CompressionState>) {
        guard !state.pointee.isWaiting else { return }
        state.pointee.isWaiting = true
        waiting.append(index(of: state), in: slab)
        byteCount += Self.waitingByteCount
    }

    private mutating func stopWaiting(_ state: UnsafeMutablePointer<CompressionState>) {
        guard state.pointee.isWaiting else { return }
        state.pointee.isWaiting = false
        waiting.remove(index(of: state), in: slab)
        byteCount -= Self.waitingByteCount
    }

    private func index(of state: UnsafeMutablePointer<CompressionState>) -> Index<CompressionState> {
        Index(places[state.pointee.connectionIndex])
    }

    private static var waitingByteCount: Int {
        inflate_stream_byte_count(Int32(largestWindowBits)) + MemoryLayout<CompressionState>.stride
    }

    // MARK: Backlogs

    func hasRoom(forBacklog added: Int) -> Bool { backlogByteCount + added <= backlogByteCountMax }

    /// Takes a block in the place of the one that the connection has, and counts its memory. 0: nothing of it is left.
    mutating func setBacklog(
        _ state: UnsafeMutablePointer<CompressionState>, _ block: BlockIndex, _ blocks: inout BlockPool
    ) {
        let old = state.pointee.backlog
        backlogByteCount += (block == 0 ? 0 : blocks.capacity(block)) - (old == 0 ? 0 : blocks.capacity(old))
        if old != 0 { blocks.release(old) }
        state.pointee.backlog = block
        state.pointee.backlogOffset = 0
    }

    // MARK: Ends

    /// Nothing more of the connection is inflated.
    mutating func endReading(_ connectionIndex: UInt32, _ agreement: CompressionAgreement, _ blocks: inout BlockPool) {
        guard let state = find(connectionIndex) else { return }
        if agreement.clientTakesOver {
            if let reader = state.pointee.reader { inflate_stream_free(reader) }
            state.pointee.reader = nil
        } else {
            returnReader(state)
        }
        setBacklog(state, 0, &blocks)
        freeIfUnused(connectionIndex)
    }

    /// The connection is closed.
    mutating func remove(_ connectionIndex: UInt32, _ agreement: CompressionAgreement, _ blocks: inout BlockPool) {
        endReading(connectionIndex, agreement, &blocks)
        guard let state = find(connectionIndex) else { return }
        if let writer = state.pointee.writer { deflate_stream_free(writer) }
        state.pointee.writer = nil
        let counted = Int(state.pointee.countedByteCount)
        contextByteCount -= counted
        byteCount -= counted
        state.pointee.countedByteCount = 0
        freeIfUnused(connectionIndex)
    }

    /// A state that holds nothing goes.
    mutating func freeIfUnused(_ connectionIndex: UInt32) {
        guard let state = find(connectionIndex), state.pointee.reader == nil, state.pointee.writer == nil,
            state.pointee.backlog == 0, state.pointee.countedByteCount == 0
        else { return }
        slab.free(Index<CompressionState>(places[connectionIndex]))
        places[connectionIndex] = 0
    }
}

/// A send of the core of which only the first bytes were put into frames.
struct CappedSend: BitwiseCopyable {
    var connection: Slot
    /// Bytes of the core.
    var byteCount: Int32
    /// Its report, in what is raised.
    var place: Int
}
