import Glibc
import IO
import STOMP
import Slabs

/// The encodings that subscribers of topics share, and the MESSAGEs that are encoded for them in a turn.
///
/// Subscribers whose MESSAGEs are the same bytes share an encoding and are its members. A message is encoded once for each
/// encoding, in a block behind the messages of the same turn. At the end of the turn the members are given the block by
/// reference. The caller gives it out, and asks for that where:
///
/// - a member joins or leaves: what was published before goes to those who were there;
/// - the block has no room for the next message (`EncodingOutcome.isFull`);
/// - something else is written to a session, which its earlier messages precede.
///
/// A key (destination, version, kind, subscription id) leads to at most one encoding. An encoding is on its destination's
/// chain, and lives as long as it has members or others that use it. It holds a block only while it is dirty.
struct TopicRouter: ~Copyable {
    private var records: Slab<SharedEncoding>
    private var keys: NameTable
    /// Encodings that gained messages since all were given out; some of them may be gone.
    private var dirty: Batch<Handle<SharedEncoding>>
    /// The encoding whose messages its members are being given. None: none.
    private(set) var flushed = Index<SharedEncoding>.none
    /// Room for the key that is looked for.
    private let key: UnsafeMutableRawPointer
    private let idByteCountMax: Int

    /// A block is at least as large as what the encoding needed lately, and at most this, or one message.
    private static var byteCountMax: Int { 256 * 1024 }
    /// Destination, version and kind: what precedes the id in a key.
    private static var keyHeadByteCount: Int { 8 }

    init(_ limits: Limits, seed: UInt64) throws(SlabError) {
        records = try Slab(recordCountMax: limits.subscriptionCountMax + 1)
        keys = NameTable(seed: seed)
        dirty = Batch(capacity: 256)
        // Without an id, the destination as it was written is the id.
        idByteCountMax = max(limits.headerByteCountMax, limits.destinationNameByteCountMax)
        key = .allocate(byteCount: Self.keyHeadByteCount + idByteCountMax, alignment: 8)
    }

    deinit { key.deallocate() }

    // MARK: Records

    /// Where a live record is: to be read, for only this part changes it.
    subscript(_ index: Index<SharedEncoding>) -> UnsafePointer<SharedEncoding> {
        @inline(__always) get { UnsafePointer(records[index]) }
    }

    /// The encoding after one on its destination's chain; none after the last.
    @inline(__always)
    func next(after index: Index<SharedEncoding>) -> Index<SharedEncoding> {
        EncodingChain.next(after: index, in: records)
    }

    var liveCount: Int { records.liveCount }
    /// Encodings that can be found by their key.
    var keyCount: Int { keys.count }

    mutating func trim() { records.trim() }

    /// The subscription id of an encoding, unescaped. Valid until the encoding is removed.
    @inline(__always)
    func id(of index: Index<SharedEncoding>, in memory: borrowing MemoryBudget) -> UnsafeRawBufferPointer {
        let encoding = records[index]
        return UnsafeRawBufferPointer(
            start: memory.blocks.base(encoding.pointee.prefix) + Self.keyHeadByteCount,
            count: Int(encoding.pointee.keyByteCount) - Self.keyHeadByteCount)
    }

    // MARK: Making and removing

    /// The encoding for `id` in a destination, made if there is none. None: no memory.
    ///
    /// - Parameters:
    ///   - isNamed: SUBSCRIBE gave the id, so that MESSAGE repeats it.
    ///   - consumes: the encoding encodes a queue's deliveries; topic and queue encodings do not mix.
    mutating func findOrMake(
        _ destination: Index<Destination>, id: UnsafeRawBufferPointer, isNamed: Bool, version: Version,
        consumes: Bool, destinations: inout DestinationDirectory, memory: inout MemoryBudget
    ) -> Index<SharedEncoding> {
        invariant(id.count <= idByteCountMax, "a subscription id is no longer than a header value")
        let kind: UInt32 = (consumes ? 0x100 : 0) | (isNamed ? 0x200 : 0)
        key.storeBytes(of: destination.rawValue, as: UInt32.self)
        key.storeBytes(of: UInt32(version.rawValue) | kind, toByteOffset: 4, as: UInt32.self)
        memcpy(key + Self.keyHeadByteCount, id.baseAddress!, id.count)
        let keyByteCount = Self.keyHeadByteCount + id.count
        let found = keys.find(key, keyByteCount)
        if found != 0 { return Index(found) }

        let index: Index<SharedEncoding> = records.allocate().index
        if index.isNone { return .none }
        let name = visible(destinations.name(of: destination, in: memory))
        let block = memory.blocks.allocate(
            byteCount: keyByteCount + 64 + FrameWriter.escapedByteCountMax(id.count)
                + FrameWriter.escapedByteCountMax(name.count))
        guard block != 0 else {
            records.free(index)
            return .none
        }
        let base = memory.blocks.base(block)
        memcpy(base, key, keyByteCount)
        let encoding = records[index]
        encoding.pointee.destination = destination
        encoding.pointee.prefix = block
        encoding.pointee.keyByteCount = UInt32(keyByteCount)
        encoding.pointee.version = version
        let hasName = destinations[destination].pointee.kind != .pattern
        writePrefix(of: encoding, at: base + keyByteCount, id: isNamed ? id : nil, name: hasName ? name : nil)
        destinations[encodingsOf: destination].prepend(index, in: records)
        keys.insert(base, keyByteCount, value: index.rawValue)
        return index
    }

    /// The first bytes of each MESSAGE: see `SharedEncoding`.
    private mutating func writePrefix(
        of encoding: UnsafeMutablePointer<SharedEncoding>, at start: UnsafeMutableRawPointer,
        id: UnsafeRawBufferPointer?,
        name: UnsafeRawBufferPointer?
    ) {
        let version = encoding.pointee.version
        var writer = FrameWriter(at: start)
        writer.write("MESSAGE\n")
        if let id {
            writer.write("subscription:")
            writer.writeEscaped(id.baseAddress!, id.count, version: version)
            writer.write("\n")
        }
        writer.write("message-id:")
        let prefixEnd = writer.cursor
        if let name {
            writer.write("\ndestination:")
            writer.writeEscaped(name.baseAddress!, name.count, version: version)
        }
        encoding.pointee.prefixByteCount = UInt32(prefixEnd - start)
        encoding.pointee.nameByteCount = UInt16(writer.cursor - prefixEnd)
    }

    /// Gives up an encoding that has neither members nor others that use it.
    mutating func removeIfEmpty(
        _ index: Index<SharedEncoding>, destinations: inout DestinationDirectory, memory: inout MemoryBudget
    ) {
        let encoding = records[index]
        guard encoding.pointee.members.count == 0, encoding.pointee.nonMemberCount == 0 else { return }
        invariant(!encoding.pointee.isDirty, "an encoding without members has no messages for them")
        destinations[encodingsOf: encoding.pointee.destination].remove(index, in: records)
        _ = keys.remove(memory.blocks.base(encoding.pointee.prefix), Int(encoding.pointee.keyByteCount))
        memory.blocks.release(encoding.pointee.prefix)
        encoding.pointee.members.deallocate()
        records.free(index)
    }

    // MARK: Members

    /// A subscription uses the encoding without being a member: one that is pending, or that consumes.
    mutating func addNonMember(to index: Index<SharedEncoding>) { records[index].pointee.nonMemberCount += 1 }

    mutating func removeNonMember(from index: Index<SharedEncoding>) { records[index].pointee.nonMemberCount -= 1 }

    /// A subscription that was no member yet becomes one. Returns its place.
    mutating func join(_ index: Index<SharedEncoding>, _ member: Member) -> UInt32 {
        let encoding = records[index]
        invariant(!encoding.pointee.isDirty, "who joins does not get what was published before")
        encoding.pointee.nonMemberCount -= 1
        return encoding.pointee.members.append(member)
    }

    /// A member leaves. Returns the one that has come to its place; nil: none has.
    mutating func leave(_ index: Index<SharedEncoding>, at place: UInt32) -> Member? {
        let encoding = records[index]
        invariant(!encoding.pointee.isDirty, "who leaves gets what was published before")
        return encoding.pointee.members.swapRemove(at: place)
    }

    // MARK: Messages

    /// Appends a MESSAGE to the encoding's block.
    ///
    ///     MESSAGE\nsubscription:ID\nmessage-id:HEX\ndestination:NAME\ncontent-length:N\nHEADERS\n\nBODY\0\n
    ///
    /// - Parameter name: the topic's, as its clients see it, where the encoding is a pattern's.
    mutating func encode(
        _ index: Index<SharedEncoding>, _ message: Message, name: UnsafeRawBufferPointer?, memory: inout MemoryBudget
    ) -> EncodingOutcome {
        let encoding = records[index]
        let needed = headByteCountMax(index, nameByteCount: name?.count ?? 0) &+ message.contentByteCountMax
        var block = encoding.pointee.block
        if block != 0, memory.blocks.capacity(block) &- memory.blocks.used(block) < needed {
            encoding.pointee.byteCountExpected = UInt32(min(memory.blocks.capacity(block) * 4, Self.byteCountMax))
            return .isFull
        }
        if block == 0 {
            block = memory.allocateBulk(byteCount: max(needed, Int(encoding.pointee.byteCountExpected)))
            if block == 0 { return .noMemory }
            memory.blocks.setUsed(block, 0)
            encoding.pointee.block = block
            encoding.pointee.flags.insert(.dirty)
            dirty.append(records.handle(index))
        }
        let used = memory.blocks.used(block)
        let start = memory.blocks.base(block) + used
        var writer = FrameWriter(at: start)
        write(message, to: &writer, index, name: name, memory: memory)
        memory.blocks.setUsed(block, used &+ (writer.cursor - start))
        return .written
    }

    /// The most that precedes a message's own header lines.
    @inline(__always)
    func headByteCountMax(_ index: Index<SharedEncoding>, nameByteCount: Int) -> Int {
        let encoding = records[index]
        return Int(encoding.pointee.prefixByteCount) &+ Int(encoding.pointee.nameByteCount) &+ 64
            &+ (nameByteCount == 0 ? 0 : FrameWriter.escapedByteCountMax(nameByteCount) &+ 16)
    }

    /// Writes a MESSAGE as `encode` does, to the caller's room of `headByteCountMax` and `Message.contentByteCountMax`.
    @inline(__always)
    func write(
        _ message: Message, to writer: inout FrameWriter, _ index: Index<SharedEncoding>, name: UnsafeRawBufferPointer?,
        memory: borrowing MemoryBudget
    ) {
        let encoding = records[index]
        let prefixByteCount = Int(encoding.pointee.prefixByteCount)
        let prefix = UnsafeRawPointer(memory.blocks.base(encoding.pointee.prefix)) + Int(encoding.pointee.keyByteCount)
        writer.write(prefix, prefixByteCount)
        writer.writeHex(message.identity)
        if !message.carriesDestination {
            if let name {
                writer.write("\ndestination:")
                writer.writeEscaped(name.baseAddress!, name.count, version: encoding.pointee.version)
            } else {
                writer.write(prefix + prefixByteCount, Int(encoding.pointee.nameByteCount))
            }
        }
        writer.write("\ncontent-length:")
        writer.writeDecimal(UInt64(message.bodyByteCount))
        writer.write(UInt8(ascii: "\n"))
        message.writeContent(&writer, version: encoding.pointee.version)
    }

    // MARK: Giving out

    /// Takes an encoding's messages, to be given to its members until `endFlush`: an idle encoding holds no memory. nil: it
    /// has none.
    mutating func beginFlush(_ index: Index<SharedEncoding>, in memory: borrowing MemoryBudget) -> EncodedBytes? {
        let encoding = records[index]
        guard encoding.pointee.isDirty else { return nil }
        encoding.pointee.flags.remove(.dirty)
        let encoded = EncodedBytes(block: encoding.pointee.block, byteCount: memory.blocks.used(encoding.pointee.block))
        encoding.pointee.block = 0
        let expected = Int(encoding.pointee.byteCountExpected)
        encoding.pointee.byteCountExpected = UInt32(min(max(encoded.byteCount, expected / 2), Self.byteCountMax))
        flushed = index
        return encoded
    }

    /// All members have references to the bytes, or copies.
    mutating func endFlush(_ encoded: EncodedBytes, memory: inout MemoryBudget) {
        flushed = .none
        memory.blocks.release(encoded.block)
    }

    /// Encodings that may be dirty: the bound of the argument of `dirtyEncoding(at:)`.
    @inline(__always)
    var dirtyCount: Int { dirty.count }

    /// None: it is gone.
    @inline(__always)
    func dirtyEncoding(at place: Int) -> Index<SharedEncoding> {
        records.isLive(dirty[place]) ? dirty[place].index : .none
    }

    /// All of them have been flushed.
    mutating func forgetDirty() { dirty.removeAll() }
}
