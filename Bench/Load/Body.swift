import Glibc

/// The body of a message. It holds the publisher, the sequence number and the time of sending. Its bytes differ from
/// those of the messages before and after it.
///
/// ```
/// | "stampede": 8 | publisher (20 bits), sequence (36 bits): 8 | nanoseconds: 8 | pattern, shifted by the sequence |
/// ```
///
/// Numbers are encoded in bytes of seven bits with the top bit set. So a body contains no NUL and no line feed, and
/// servers that search for the end of a frame find the right one.
struct Body: ~Copyable {
    static let leadByteCount = 24
    static let magic = UInt64(littleEndian: 0x6564_6570_6D61_7473)
    static let publisherMax = 1 << 20
    private static let shiftMask: UInt64 = 63

    let byteCount: Int
    private let pattern: UnsafeMutablePointer<UInt8>
    private let patternByteCount: Int

    /// - Parameter byteCount: at least `leadByteCount`.
    init(byteCount: Int) {
        self.byteCount = byteCount
        patternByteCount = byteCount - Self.leadByteCount
        let count = patternByteCount + Int(Self.shiftMask) + 1
        pattern = .allocate(capacity: count)
        // Printable bytes without a period, so that every shift by less than 64 changes them.
        for place in 0..<count { pattern[place] = 33 + UInt8((place * 37 + place / 89 * 11) % 89) }
    }

    deinit { pattern.deallocate() }

    func write(to bytes: UnsafeMutableRawPointer, publisher: Int, sequence: UInt64, stamp: UInt64) {
        bytes.storeBytes(of: Self.magic, as: UInt64.self)
        bytes.storeBytes(of: Self.spread(UInt64(publisher) << 36 | sequence), toByteOffset: 8, as: UInt64.self)
        bytes.storeBytes(of: Self.spread(stamp), toByteOffset: 16, as: UInt64.self)
        memcpy(bytes + Self.leadByteCount, pattern + Int(sequence & Self.shiftMask), patternByteCount)
    }

    /// The contents of a body. nil: it is not from this program, or damaged.
    @inline(__always)
    func read(_ bytes: UnsafeRawPointer) -> (publisher: Int, sequence: UInt64, stamp: UInt64)? {
        let identity = Self.gather(bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        let sequence = identity & 0xF_FFFF_FFFF
        guard bytes.loadUnaligned(as: UInt64.self) == Self.magic,
            memcmp(bytes + Self.leadByteCount, pattern + Int(sequence & Self.shiftMask), patternByteCount) == 0
        else { return nil }
        return (Int(identity >> 36), sequence, Self.gather(bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
    }

    /// 56 bits to eight bytes of seven bits, the lowest first.
    static func spread(_ value: UInt64) -> UInt64 {
        var bits = (value & 0xFF_FFFF_F000_0000) << 4 | value & 0xFFF_FFFF
        bits = (bits & 0x0FFF_C000_0FFF_C000) << 2 | bits & 0x0000_3FFF_0000_3FFF
        bits = (bits & 0x3F80_3F80_3F80_3F80) << 1 | bits & 0x007F_007F_007F_007F
        return (bits | 0x8080_8080_8080_8080).littleEndian
    }

    static func gather(_ bytes: UInt64) -> UInt64 {
        var bits = UInt64(littleEndian: bytes) & 0x7F7F_7F7F_7F7F_7F7F
        bits = (bits & 0x7F00_7F00_7F00_7F00) >> 1 | bits & 0x007F_007F_007F_007F
        bits = (bits & 0x3FFF_0000_3FFF_0000) >> 2 | bits & 0x0000_3FFF_0000_3FFF
        return (bits & 0x0FFF_FFFF_0000_0000) >> 4 | bits & 0x0FFF_FFFF
    }
}
