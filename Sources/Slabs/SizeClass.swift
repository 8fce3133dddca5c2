/// The sizes of blocks: 64, 128, 256, then 384, 512, 768, 1024, ... to 128 MiB.
///
/// The sizes halfway between two powers of two keep the unused part of a block above 256 bytes under a third.
@frozen @usableFromInline
enum SizeClass {
    /// The largest block, in bytes.
    @inlinable static var byteCountMax: Int { 128 << 20 }
    @inlinable static var count: Int { 41 }
    /// Blocks of classes below this one (up to 64 KiB) come from arenas. Larger blocks are mapped one by one.
    @inlinable static var arenaClassCount: Int { 19 }

    /// The smallest class that holds `byteCount` bytes (0 ... `byteCountMax`).
    @inlinable @inline(__always)
    static func holding(_ byteCount: Int) -> Int {
        if byteCount <= 256 { return byteCount <= 64 ? 0 : byteCount <= 128 ? 1 : 2 }
        // 2^exponent < byteCount <= 2^(exponent + 1)
        let exponent = Int.bitWidth &- 1 &- (byteCount &- 1).leadingZeroBitCount
        let halfway = 3 &<< (exponent &- 1)
        return 3 &+ (exponent &- 8) &* 2 &+ (byteCount > halfway ? 1 : 0)
    }

    @inlinable @inline(__always)
    static func byteCount(_ sizeClass: Int) -> Int {
        if sizeClass < 3 { return 64 &<< sizeClass }
        // Alternately 3/2 and 4/2 of a power of two, from 256 on.
        return (3 &+ (sizeClass &- 3) & 1) &<< (7 &+ (sizeClass &- 3) &>> 1)
    }
}
