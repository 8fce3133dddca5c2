import Slabs

/// A destination's ids that are known.
struct DeduplicationWindow: SlabRecord {
    var generation: UInt32
    /// The destination's canonical name.
    var name: BlockIndex
    var nameByteCount: UInt32
    var idCount: UInt32
    /// The oldest first.
    var ids: List<DeduplicationLink>
    /// How long an id is known, in milliseconds, and how many are.
    var milliseconds: UInt64
    var idCountMax: UInt32
}

/// The id of a message that was taken.
struct DeduplicationID: SlabRecord {
    var generation: UInt32
    /// Among its window's.
    var link: DoubleLink<DeduplicationID>
    /// Among those that are in the log, by the segment that says so.
    var storedLink: DoubleLink<DeduplicationID>
    var window: Index<DeduplicationWindow>
    /// The window's number in four bytes, then the id.
    var key: BlockIndex
    var keyByteCount: UInt32
    /// Wall-clock milliseconds.
    var acceptedAt: UInt64
    /// Ids are numbered as they become known.
    var number: UInt64
    var isStored: Bool
    /// A segment of this life's log: the record that says so is there or behind.
    var segment: UInt32
}

enum DeduplicationLink: DoublyLinked {
    static func link(of id: UnsafeMutablePointer<DeduplicationID>) -> DoubleLink<DeduplicationID> { id.pointee.link }
    static func setLink(_ link: DoubleLink<DeduplicationID>, of id: UnsafeMutablePointer<DeduplicationID>) {
        id.pointee.link = link
    }
}

enum StoredDeduplicationLink: DoublyLinked {
    static func link(of id: UnsafeMutablePointer<DeduplicationID>) -> DoubleLink<DeduplicationID> {
        id.pointee.storedLink
    }
    static func setLink(_ link: DoubleLink<DeduplicationID>, of id: UnsafeMutablePointer<DeduplicationID>) {
        id.pointee.storedLink = link
    }
}

/// The ids of messages that were taken, of the queues of one worker, while another with the same id is not to be.
///
/// Ids are compared as they are, and not by a hash of them: nobody can choose one that passes for another's.
///
/// An id is known for the time of its window, unless the window has as many as it may: then the oldest is forgotten. There are
/// as many ids in all as the limit says, and then a message that brings another is not taken, but for those of a COMMIT that
/// was admitted. An id takes about 200 bytes, and its block counts as message memory.
struct DeduplicationTable: ~Copyable {
    private var windows: Slab<DeduplicationWindow>
    private var ids: Slab<DeduplicationID>
    private var windowsByName: NameTable
    private var idsByKey: NameTable
    /// The oldest segment first.
    private var stored = List<StoredDeduplicationLink>()
    /// Room for one key.
    private let key: UnsafeMutableRawPointer
    /// Of all destinations.
    private let idCountMax: Int
    /// Beyond the limit, for transactions that reach it at once.
    private static var excessMax: Int { 65_536 }
    /// Of the blocks of names and ids.
    private(set) var blockByteCount = 0
    /// Of the next id that becomes known.
    private(set) var nextNumber: UInt64 = 0

    /// Bytes of an id as clients send it, and as it is here, with the escapes of STOMP 1.2.
    static var valueByteCountMax: Int { 256 }
    static var idByteCountMax: Int { 2 * valueByteCountMax }
    private static var prefixByteCount: Int { 4 }

    init(_ limits: Limits, seed: UInt64) throws(SlabError) {
        idCountMax = limits.deduplicationIDCountMax
        let ids = try Slab<DeduplicationID>(recordCountMax: idCountMax + Self.excessMax)
        let windows = try Slab<DeduplicationWindow>(recordCountMax: idCountMax + Self.excessMax)
        self.ids = ids
        self.windows = windows
        windowsByName = NameTable(seed: seed)
        idsByKey = NameTable(seed: seed &+ 1)
        key = .allocate(byteCount: Self.prefixByteCount + Self.idByteCountMax, alignment: 8)
    }

    deinit { key.deallocate() }

    var count: Int { ids.liveCount }
    var isEmpty: Bool { ids.liveCount == 0 }
    /// About so many bytes the ids take in a log.
    var recordByteCount: Int { blockByteCount + 64 * ids.liveCount }

    // MARK: Windows

    private func window(_ name: UnsafeRawBufferPointer) -> Index<DeduplicationWindow> {
        Index(windowsByName.find(name.baseAddress!, name.count))
    }

    private mutating func makeWindow(
        _ name: UnsafeRawBufferPointer, _ memory: inout MemoryBudget
    ) -> Index<DeduplicationWindow> {
        let found = window(name)
        if !found.isNone { return found }
        let made: Index<DeduplicationWindow> = windows.allocate().index
        if made.isNone { return .none }
        let block = memory.allocateBulk(byteCount: name.count)
        guard block != 0 else {
            windows.free(made)
            return .none
        }
        let base = memory.blocks.base(block)
        base.copyMemory(from: name.baseAddress!, byteCount: name.count)
        blockByteCount += memory.blocks.capacity(block)
        windowsByName.insert(base, name.count, value: made.rawValue)
        let window = windows[made]
        window.pointee.name = block
        window.pointee.nameByteCount = UInt32(name.count)
        window.pointee.idCount = 0
        window.pointee.ids = List()
        return made
    }

    private mutating func removeWindow(_ index: Index<DeduplicationWindow>, _ memory: inout MemoryBudget) {
        let window = windows[index]
        _ = windowsByName.remove(memory.blocks.base(window.pointee.name), Int(window.pointee.nameByteCount))
        blockByteCount -= memory.blocks.capacity(window.pointee.name)
        memory.blocks.release(window.pointee.name)
        windows.free(index)
    }

    /// Writes a key to `key`. Returns its length.
    private func writeKey(_ window: Index<DeduplicationWindow>, _ id: UnsafeRawBufferPointer) -> Int {
        invariant(id.count <= Self.idByteCountMax, "an id is no longer than the longest that is taken")
        key.storeBytes(of: window.rawValue, as: UInt32.self)
        (key + Self.prefixByteCount).copyMemory(from: id.baseAddress!, byteCount: id.count)
        return Self.prefixByteCount + id.count
    }

    // MARK: Ids

    private func find(_ window: Index<DeduplicationWindow>, _ id: UnsafeRawBufferPointer) -> Index<DeduplicationID> {
        Index(idsByKey.find(key, writeKey(window, id)))
    }

    /// A message with that id was taken for the destination, and its time is not over.
    func contains(_ id: UnsafeRawBufferPointer, of destination: UnsafeRawBufferPointer, now: UInt64) -> Bool {
        let window = window(destination)
        if window.isNone || id.count > Self.idByteCountMax { return false }
        let found = find(window, id)
        return !found.isNone && isKnown(found, now: now)
    }

    private func isKnown(_ index: Index<DeduplicationID>, now: UInt64) -> Bool {
        let id = ids[index]
        return id.pointee.acceptedAt &+ windows[id.pointee.window].pointee.milliseconds > now
    }

    /// There is room for another id of the destination, with the oldest of its window forgotten if need be.
    func hasRoom(of destination: UnsafeRawBufferPointer) -> Bool {
        if ids.liveCount < idCountMax { return true }
        let window = window(destination)
        return !window.isNone && windows[window].pointee.idCount > 0
    }

    /// A message with that id is taken. False: no memory.
    ///
    /// - Parameters:
    ///   - milliseconds: how long the id is known.
    ///   - countMax: how many ids of the destination are.
    ///   - segment: the segment of the log that says so, or one before it. nil: the log does not.
    mutating func add(
        _ id: UnsafeRawBufferPointer, of destination: UnsafeRawBufferPointer, acceptedAt: UInt64, milliseconds: UInt64,
        countMax: Int, segment: UInt32?, _ memory: inout MemoryBudget
    ) -> Bool {
        let window = makeWindow(destination, &memory)
        if window.isNone { return false }
        windows[window].pointee.milliseconds = milliseconds
        windows[window].pointee.idCountMax = UInt32(clamping: max(countMax, 1))
        let known = find(window, id)
        if !known.isNone { remove(known, &memory, keepsWindow: true) }
        while windows[window].pointee.idCount >= windows[window].pointee.idCountMax
            || ids.liveCount >= idCountMax && windows[window].pointee.idCount > 0
        {
            remove(windows[window].pointee.ids.first, &memory, keepsWindow: true)
        }
        let byteCount = writeKey(window, id)
        let block = memory.allocateBulk(byteCount: byteCount)
        let made: Index<DeduplicationID> = block == 0 ? .none : ids.allocate().index
        guard !made.isNone else {
            if block != 0 { memory.blocks.release(block) }
            if windows[window].pointee.idCount == 0 { removeWindow(window, &memory) }
            return false
        }
        let base = memory.blocks.base(block)
        base.copyMemory(from: key, byteCount: byteCount)
        blockByteCount += memory.blocks.capacity(block)
        idsByKey.insert(base, byteCount, value: made.rawValue)
        let record = ids[made]
        record.pointee.link = DoubleLink()
        record.pointee.storedLink = DoubleLink()
        record.pointee.window = window
        record.pointee.key = block
        record.pointee.keyByteCount = UInt32(byteCount)
        record.pointee.acceptedAt = acceptedAt
        record.pointee.number = nextNumber
        nextNumber += 1
        record.pointee.isStored = segment != nil
        record.pointee.segment = segment ?? 0
        windows[window].pointee.ids.append(made, in: ids)
        windows[window].pointee.idCount += 1
        if segment != nil { stored.append(made, in: ids) }
        return true
    }

    /// The message was not taken after all: its id was the last that was added.
    mutating func forget(
        _ id: UnsafeRawBufferPointer, of destination: UnsafeRawBufferPointer, _ memory: inout MemoryBudget
    ) {
        let window = window(destination)
        if window.isNone { return }
        let found = find(window, id)
        if !found.isNone { remove(found, &memory) }
    }

    /// The next life will not know these: what brought them is in no log that counts.
    mutating func forgetStored(_ numbers: Range<UInt64>, _ memory: inout MemoryBudget) {
        var index = ids.nextLive(after: .none)
        while !index.isNone {
            let next = ids.nextLive(after: index)
            if ids[index].pointee.isStored, numbers.contains(ids[index].pointee.number) { remove(index, &memory) }
            index = next
        }
    }

    private mutating func remove(
        _ index: Index<DeduplicationID>, _ memory: inout MemoryBudget, keepsWindow: Bool = false
    ) {
        let id = ids[index]
        let window = id.pointee.window
        windows[window].pointee.ids.remove(index, in: ids)
        windows[window].pointee.idCount -= 1
        if id.pointee.isStored { stored.remove(index, in: ids) }
        _ = idsByKey.remove(memory.blocks.base(id.pointee.key), Int(id.pointee.keyByteCount))
        blockByteCount -= memory.blocks.capacity(id.pointee.key)
        memory.blocks.release(id.pointee.key)
        ids.free(index)
        if windows[window].pointee.idCount == 0, !keepsWindow { removeWindow(window, &memory) }
    }

    /// Forgets ids whose time is over, at most so many. True: there may be more of them.
    mutating func forgetOld(now: UInt64, countMax: Int, _ memory: inout MemoryBudget) -> Bool {
        var count = 0
        var index = windows.nextLive(after: .none)
        while !index.isNone, count < countMax {
            let next = windows.nextLive(after: index)
            while windows[index].pointee.idCount > 0, count < countMax {
                let oldest = windows[index].pointee.ids.first
                if isKnown(oldest, now: now) { break }
                remove(oldest, &memory, keepsWindow: true)
                count += 1
            }
            if windows[index].pointee.idCount == 0 { removeWindow(index, &memory) }
            count += 1
            index = next
        }
        if ids.liveCount == 0 {
            ids.trim()
            windows.trim()
        }
        return !index.isNone
    }

    // MARK: In the log

    /// The oldest segment whose records say something that is still to be known. nil: none does.
    var firstSegment: UInt32? { stored.isEmpty ? nil : ids[stored.first].pointee.segment }

    /// The id that the oldest segment speaks of: the destination, the id, and when it was taken. nil: there is none.
    func oldestStored(
        _ memory: borrowing MemoryBudget
    ) -> (destination: UnsafeRawBufferPointer, id: UnsafeRawBufferPointer, acceptedAt: UInt64)? {
        if stored.isEmpty { return nil }
        let id = ids[stored.first]
        let window = windows[id.pointee.window]
        let name = UnsafeRawBufferPointer(
            start: memory.blocks.base(window.pointee.name), count: Int(window.pointee.nameByteCount))
        let text = UnsafeRawBufferPointer(
            start: memory.blocks.base(id.pointee.key) + Self.prefixByteCount,
            count: Int(id.pointee.keyByteCount) - Self.prefixByteCount)
        return (name, text, id.pointee.acceptedAt)
    }

    /// The oldest segment's id is said again in this one.
    mutating func moveOldestStored(to segment: UInt32) {
        let index = stored.first
        stored.remove(index, in: ids)
        ids[index].pointee.segment = segment
        stored.append(index, in: ids)
    }
}
