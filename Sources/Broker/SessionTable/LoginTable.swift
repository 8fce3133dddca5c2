import Glibc
import Slabs

/// The logins that connections have named. Most clients of a broker share a few, which are kept for the log alone: a block
/// for each connection would take half as much memory as all the rest of it.
///
/// A place for each hash holds the last login that came there, and owns no reference. Where two logins share a place, or
/// there are more logins than places, a connection has a block of its own.
struct LoginTable: ~Copyable {
    static var placeCount: Int { 1024 }
    /// A login is cut to so many bytes: it is kept while its connection lasts.
    static var byteCountMax: Int { 128 }
    private let places: UnsafeMutablePointer<BlockIndex>
    private let hasher: HashIndex

    init(seed: UInt64) {
        hasher = HashIndex(seed: seed)
        places = .allocate(capacity: Self.placeCount)
        places.initialize(repeating: 0, count: Self.placeCount)
    }

    deinit { places.deallocate() }

    /// Where the block is entered that holds the same login, or another that came there last.
    private func place(of login: UnsafeRawBufferPointer) -> UnsafeMutablePointer<BlockIndex> {
        places + Int(hasher.hash(0, login.baseAddress!, login.count)) & (Self.placeCount - 1)
    }

    /// The bytes that are kept of a login.
    static func text(_ login: BlockIndex, in memory: borrowing MemoryBudget) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: UnsafeRawPointer(memory.blocks.base(login)), count: memory.blocks.used(login))
    }

    /// A block with the login, cut to `byteCountMax`, which the caller owns one reference to. 0: it is empty, or there is
    /// no memory.
    mutating func keep(_ text: UnsafeRawBufferPointer, memory: inout MemoryBudget) -> BlockIndex {
        guard text.count > 0 else { return 0 }
        let login = UnsafeRawBufferPointer(rebasing: text.prefix(Self.byteCountMax))
        let place = place(of: login)
        let known = place.pointee
        if known != 0, memory.blocks.used(known) == login.count,
            memcmp(memory.blocks.base(known), login.baseAddress!, login.count) == 0
        {
            memory.blocks.retain(known)
            return known
        }
        let block = memory.allocateBulk(byteCount: login.count)
        guard block != 0 else { return 0 }
        memory.blocks.base(block).copyMemory(from: login.baseAddress!, byteCount: login.count)
        memory.blocks.setUsed(block, login.count)
        place.pointee = block
        return block
    }

    /// Gives up one reference. The last one's login is not found any more.
    mutating func drop(_ login: BlockIndex, memory: inout MemoryBudget) {
        if memory.blocks.referenceCount(login) == 1 {
            let place = place(of: Self.text(login, in: memory))
            if place.pointee == login { place.pointee = 0 }
        }
        memory.blocks.release(login)
    }
}
