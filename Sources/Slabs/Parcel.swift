import Glibc

/// Letters from one shard to another, as bytes, carried together. Belongs to whoever holds it last: the sender until
/// it is posted, the mailbox until it is taken, then the receiver, who frees it.
public typealias Parcel = UnsafeMutablePointer<ParcelHeader>

/// What goes before the bytes of a parcel.
///
///     0        8           12         16       20            32
///     | next   | byteCount | capacity | sender | letterCount | (padding) | bytes, 16-byte aligned ...
@frozen
public struct ParcelHeader: BitwiseCopyable {
    /// The next parcel of a chain; the sender's to use before posting and the receiver's after taking.
    public var next: Parcel?
    /// Bytes written so far.
    public var byteCount: UInt32
    /// Bytes that there is room for.
    public var capacity: UInt32
    /// The shard that posts it.
    public var sender: UInt32
    /// Letters written so far; the sender's to use.
    public var letterCount: UInt32
}

/// Making and ending parcels. Thread-safe, since a parcel is freed by another thread than made it.
public enum Parcels {
    /// Bytes of a parcel before its letters.
    @inlinable public static var headerByteCount: Int { 32 }

    /// An empty parcel with room for `capacity` bytes (less than 2^32), from sender 0.
    public static func allocate(capacity: Int) -> Parcel {
        invariant(capacity >= 0 && capacity <= Int(UInt32.max), "a parcel's size is told in 32 bits")
        guard let memory = malloc(headerByteCount + capacity) else { fatalError("out of memory for a parcel") }
        let parcel = memory.bindMemory(to: ParcelHeader.self, capacity: 1)
        parcel.initialize(
            to: ParcelHeader(next: nil, byteCount: 0, capacity: UInt32(capacity), sender: 0, letterCount: 0))
        return parcel
    }

    /// Ends a parcel that is in no chain or mailbox. Those that it links to stay.
    public static func free(_ parcel: Parcel) { Glibc.free(parcel) }

    /// The parcel's first byte, 16-byte aligned.
    @inlinable @inline(__always)
    public static func bytes(of parcel: Parcel) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(parcel) + headerByteCount
    }
}
