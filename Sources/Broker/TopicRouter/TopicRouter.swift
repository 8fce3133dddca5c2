import Glibc
import IO
import STOMP
import Slabs

/// The groups of subscribers whose MESSAGEs are the same bytes, and what is encoded for them in a turn.
///
/// A message is encoded once for each group and version, behind those of the same turn in the group's run; at the end of
/// the turn the run is given to all members by reference. The caller gives it out, and asks for that where:
///
/// - a member joins or leaves: what was published before goes to those who were there;
/// - a run has no room for the next message (`EncodingOutcome.runIsFull`);
/// - something else is written to a session, which its earlier messages precede.
///
/// A key (destination, version, kind, subscription id) leads to at most one group. A group is on its destination's chain,
/// and lives as long as it has members or others that use its encoding. It holds a run only while it is dirty.
struct TopicRouter: ~Copyable {
    private var records: Slab<Group>
    private var keys: NameTable
    /// Groups that gained messages since all runs were given out; some of them may be gone.
    private var dirty: Batch<Handle<Group>>
    /// The group whose run its members are being given. None: none.
    private(set) var flushed = Index<Group>.none
    /// Room for the key that is looked for.
    private let key: UnsafeMutableRawPointer
    private let idByteCountMax: Int

    /// A run is at least as large as what the group needed lately, and at most this, or one message.
    private static var runByteCountMax: Int { 256 * 1024 }
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
    subscript(_ index: Index<Group>) -> UnsafePointer<Group> {
        @inline(__always) get { UnsafePointer(records[index]) }
    }

    /// The group after one on its destination's chain; none after the last.
    @inline(__always)
    func next(after index: Index<Group>) -> Index<Group> { GroupChain.next(after: index, in: records) }

    var liveCount: Int { records.liveCount }
    /// Groups that can be found by their key.
    var keyCount: Int { keys.count }

    mutating func trim() { records.trim() }

    /// The subscription id of a group, unescaped. Valid until the group is removed.
    @inline(__always)
    func id(of index: Index<Group>, in memory: borrowing MemoryBudget) -> UnsafeRawBufferPointer {
        let group = records[index]
        return UnsafeRawBufferPointer(
            start: memory.blocks.base(group.pointee.prefix) + Self.keyHeadByteCount,
            count: Int(group.pointee.keyByteCount) - Self.keyHeadByteCount)
    }

    // MARK: Making and removing

    /// The group for `id` in a destination, made if there is none. None: no memory.
    ///
    /// - Parameters:
    ///   - isNamed: SUBSCRIBE gave the id, so that MESSAGE repeats it.
    ///   - consumes: the group encodes a queue's deliveries; topic and queue groups do not mix.
    mutating func findOrMake(
        _ destination: Index<Destination>, id: UnsafeRawBufferPointer, isNamed: Bool, version: Version,
        consumes: Bool, destinations: inout DestinationDirectory, memory: inout MemoryBudget
    ) -> Index<Group> {
        invariant(id.count <= idByteCountMax, "a subscription id is no longer than a header value")
        let kind: UInt32 = (consumes ? 0x100 : 0) | (isNamed ? 0x200 : 0)
        key.storeBytes(of: destination.rawValue, as: UInt32.self)
        key.storeBytes(of: UInt32(version.rawValue) | kind, toByteOffset: 4, as: UInt32.self)
        memcpy(key + Self.keyHeadByteCount, id.baseAddress!, id.count)
        let keyByteCount = Self.keyHeadByteCount + id.count
        let found = keys.find(key, keyByteCount)
        if found != 0 { return Index(found) }

        let index: Index<Group> = records.allocate().index
        if index.isNone { return .none }
        let name = destinations.name(of: destination, in: memory)
        let block = memory.blocks.allocate(
            byteCount: keyByteCount + 64 + FrameWriter.escapedByteCountMax(id.count)
                + FrameWriter.escapedByteCountMax(name.count))
        guard block != 0 else {
            records.free(index)
            return .none
        }
        let base = memory.blocks.base(block)
        memcpy(base, key, keyByteCount)
        let group = records[index]
        group.pointee.destination = destination
        group.pointee.prefix = block
        group.pointee.keyByteCount = UInt32(keyByteCount)
        group.pointee.version = version
        let hasName = destinations[destination].pointee.kind != .pattern
        writePrefix(of: group, at: base + keyByteCount, id: isNamed ? id : nil, name: hasName ? name : nil)
        destinations[groupsOf: destination].prepend(index, in: records)
        keys.insert(base, keyByteCount, value: index.rawValue)
        return index
    }

    /// The first bytes of each MESSAGE: see `Group`.
    private mutating func writePrefix(
        of group: UnsafeMutablePointer<Group>, at start: UnsafeMutableRawPointer, id: UnsafeRawBufferPointer?,
        name: UnsafeRawBufferPointer?
    ) {
        let version = group.pointee.version
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
        group.pointee.prefixByteCount = UInt32(prefixEnd - start)
        group.pointee.nameByteCount = UInt16(writer.cursor - prefixEnd)
    }

    /// Gives up a group that has neither members nor others that use it.
    mutating func removeIfEmpty(
        _ index: Index<Group>, destinations: inout DestinationDirectory, memory: inout MemoryBudget
    ) {
        let group = records[index]
        guard group.pointee.members.count == 0, group.pointee.nonMemberCount == 0 else { return }
        invariant(!group.pointee.isDirty, "a group without members has no messages for them")
        destinations[groupsOf: group.pointee.destination].remove(index, in: records)
        _ = keys.remove(memory.blocks.base(group.pointee.prefix), Int(group.pointee.keyByteCount))
        memory.blocks.release(group.pointee.prefix)
        group.pointee.members.deallocate()
        records.free(index)
    }

    // MARK: Members

    /// A subscription uses the encoding without being a member: one that is pending, or that consumes.
    mutating func addNonMember(to index: Index<Group>) { records[index].pointee.nonMemberCount += 1 }

    mutating func removeNonMember(from index: Index<Group>) { records[index].pointee.nonMemberCount -= 1 }

    /// A subscription that was no member yet becomes one. Returns its place.
    mutating func join(_ index: Index<Group>, _ member: Member) -> UInt32 {
        let group = records[index]
        invariant(!group.pointee.isDirty, "who joins does not get what was published before")
        group.pointee.nonMemberCount -= 1
        return group.pointee.members.append(member)
    }

    /// A member leaves. Returns the one that has come to its place; nil: none has.
    mutating func leave(_ index: Index<Group>, at place: UInt32) -> Member? {
        let group = records[index]
        invariant(!group.pointee.isDirty, "who leaves gets what was published before")
        return group.pointee.members.swapRemove(at: place)
    }

    // MARK: Messages

    /// Appends a MESSAGE to the group's run.
    ///
    ///     MESSAGE\nsubscription:ID\nmessage-id:HEX\ndestination:NAME\ncontent-length:N\nHEADERS\n\nBODY\0\n
    ///
    /// - Parameter name: the topic's, where the group is a pattern's.
    mutating func encode(
        _ index: Index<Group>, _ message: Message, name: UnsafeRawBufferPointer?, memory: inout MemoryBudget
    ) -> EncodingOutcome {
        let group = records[index]
        let prefixByteCount = Int(group.pointee.prefixByteCount)
        var needed = prefixByteCount &+ Int(group.pointee.nameByteCount) &+ 64 &+ message.contentByteCountMax
        if let name { needed &+= FrameWriter.escapedByteCountMax(name.count) &+ 16 }
        var run = group.pointee.run
        if run != 0, memory.blocks.capacity(run) &- memory.blocks.used(run) < needed {
            group.pointee.runByteCountExpected = UInt32(min(memory.blocks.capacity(run) * 4, Self.runByteCountMax))
            return .runIsFull
        }
        if run == 0 {
            run = memory.allocateBulk(byteCount: max(needed, Int(group.pointee.runByteCountExpected)))
            if run == 0 { return .noMemory }
            memory.blocks.setUsed(run, 0)
            group.pointee.run = run
            group.pointee.flags.insert(.dirty)
            dirty.append(records.handle(index))
        }
        let used = memory.blocks.used(run)
        let start = memory.blocks.base(run) + used
        var writer = FrameWriter(at: start)
        let prefix = UnsafeRawPointer(memory.blocks.base(group.pointee.prefix)) + Int(group.pointee.keyByteCount)
        writer.write(prefix, prefixByteCount)
        writer.writeHex(message.identity)
        if !message.carriesDestination {
            if let name {
                writer.write("\ndestination:")
                writer.writeEscaped(name.baseAddress!, name.count, version: group.pointee.version)
            } else {
                writer.write(prefix + prefixByteCount, Int(group.pointee.nameByteCount))
            }
        }
        writer.write("\ncontent-length:")
        writer.writeDecimal(UInt64(message.bodyByteCount))
        writer.write(UInt8(ascii: "\n"))
        message.writeContent(&writer, version: group.pointee.version)
        memory.blocks.setUsed(run, used &+ (writer.cursor - start))
        return .written
    }

    // MARK: Giving out

    /// Takes a group's run, to be given to its members until `endFlush`: an idle group holds no memory. nil: it has none.
    mutating func beginFlush(_ index: Index<Group>, in memory: borrowing MemoryBudget) -> EncodedRun? {
        let group = records[index]
        guard group.pointee.isDirty else { return nil }
        group.pointee.flags.remove(.dirty)
        let run = EncodedRun(block: group.pointee.run, byteCount: memory.blocks.used(group.pointee.run))
        group.pointee.run = 0
        let expected = Int(group.pointee.runByteCountExpected)
        group.pointee.runByteCountExpected = UInt32(min(max(run.byteCount, expected / 2), Self.runByteCountMax))
        flushed = index
        return run
    }

    /// All members have references to the run, or copies.
    mutating func endFlush(_ run: EncodedRun, memory: inout MemoryBudget) {
        flushed = .none
        memory.blocks.release(run.block)
    }

    /// Groups that may be dirty: the bound of the argument of `dirtyGroup(at:)`.
    @inline(__always)
    var dirtyCount: Int { dirty.count }

    /// None: it is gone.
    @inline(__always)
    func dirtyGroup(at place: Int) -> Index<Group> { records.isLive(dirty[place]) ? dirty[place].index : .none }

    /// All of them have been flushed.
    mutating func forgetDirty() { dirty.removeAll() }
}
