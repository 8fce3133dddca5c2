/// What a frame stands for, beside its header in the arena.
struct FrameNote: BitwiseCopyable {
    var coreByteCount: UInt32
    var owedAfter: UInt32
    /// Of the frame, with the header.
    var vectorCount: UInt16
    var isInMessageAfter: Bool
    var endsAtOwedAfter: Bool
    /// The context depends on it.
    var hasToLeave: Bool
}

/// A block of DEFLATE that is not compressed (RFC 1951, section 3.2.4), at the beginning of a byte.
enum StoredBlock {
    static var headerByteCount: Int { 5 }

    static func writeHeader(_ byteCount: Int, to place: UnsafeMutableRawPointer) {
        place.storeBytes(of: 0, as: UInt8.self)
        let count = UInt16(byteCount)
        (place + 1).storeBytes(of: count.littleEndian, as: UInt16.self)
        (place + 3).storeBytes(of: (~count).littleEndian, as: UInt16.self)
    }
}
