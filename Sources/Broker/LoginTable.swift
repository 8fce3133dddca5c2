import Glibc
import Slabs

/// Finds the block of a login that other connections have named too. Most clients of a broker share a few logins, which are
/// kept for the log alone: a block for each connection would take half as much memory as all the rest of it.
///
/// A place for each hash holds the last login that came there, and owns no reference. Where two logins share a place, or
/// there are more logins than places, a connection has a block of its own.
struct LoginTable: ~Copyable {
    static var placeCount: Int { 1024 }
    private let places: UnsafeMutablePointer<BlockIndex>
    private let hasher: HashIndex

    init(seed: UInt64) {
        hasher = HashIndex(seed: seed)
        places = .allocate(capacity: Self.placeCount)
        places.initialize(repeating: 0, count: Self.placeCount)
    }

    deinit { places.deallocate() }

    func hash(of login: UnsafeRawBufferPointer) -> UInt32 { hasher.hash(0, login.baseAddress!, login.count) }

    /// The block that was last entered at the place of the hash. 0: none.
    subscript(hash: UInt32) -> BlockIndex {
        get { places[Int(hash) & (Self.placeCount - 1)] }
        nonmutating set { places[Int(hash) & (Self.placeCount - 1)] = newValue }
    }
}
