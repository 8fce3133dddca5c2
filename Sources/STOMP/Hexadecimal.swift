/// Hexadecimal numbers of a fixed width, eight digits at a time in one 64-bit word: the ids of messages are written and
/// read once for each delivery and each acknowledgement.

/// The eight lower-case digits of a number, the first of them at the lowest address when the word is stored.
@inlinable @inline(__always)
func hexadecimalDigits(_ number: UInt32) -> UInt64 {
    // One nibble in each octet, the highest in the highest.
    var nibbles = UInt64(number)
    nibbles = (nibbles | nibbles &<< 16) & 0x0000_FFFF_0000_FFFF
    nibbles = (nibbles | nibbles &<< 8) & 0x00FF_00FF_00FF_00FF
    nibbles = (nibbles | nibbles &<< 4) & 0x0F0F_0F0F_0F0F_0F0F
    // 6 more than a nibble reaches 16 from 10 on; letters stand 0x27 behind the digit ten would have.
    let isLetter = ((nibbles &+ 0x0606_0606_0606_0606) &>> 4) & 0x0101_0101_0101_0101
    return (nibbles &+ 0x3030_3030_3030_3030 &+ isLetter &* 0x27).bigEndian
}

/// Reads sixteen lower-case hexadecimal digits, as `FrameWriter.writeHex` writes them. Nil for all other text.
@inlinable @inline(__always)
public func hexadecimal(_ text: UnsafeRawBufferPointer) -> UInt64? {
    guard text.count == 16, let start = text.baseAddress,
        let upper = hexadecimalNumber(UInt64(bigEndian: start.loadUnaligned(as: UInt64.self))),
        let lower = hexadecimalNumber(UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    else { return nil }
    return UInt64(upper) &<< 32 | UInt64(lower)
}

/// Eight lower-case digits, the first of them in the highest octet, as a number.
@inlinable @inline(__always)
func hexadecimalNumber(_ digits: UInt64) -> UInt32? {
    // Digits are 0x30 ... 0x39, letters 0x61 ... 0x66: bit 6 tells them apart.
    let isLetter = (digits &>> 6) & 0x0101_0101_0101_0101
    let low = digits & 0x0F0F_0F0F_0F0F_0F0F
    var nibbles = low &+ (isLetter &* 9)
    // A digit's lower half plus 6 stays below 16, and so does a letter's plus 9; a letter's is not 0.
    let exceeds = (low &+ 0x0606_0606_0606_0606 &+ (isLetter &* 3)) & 0x1010_1010_1010_1010
    let isNotZero = ((low &+ 0x0F0F_0F0F_0F0F_0F0F) &>> 4) & isLetter
    let isZero = isNotZero ^ isLetter
    let isElsewhere = (digits & 0xF0F0_F0F0_F0F0_F0F0) ^ (0x3030_3030_3030_3030 &+ (isLetter &* 0x30))
    guard exceeds | isZero | isElsewhere == 0 else { return nil }
    nibbles = (nibbles | nibbles &>> 4) & 0x00FF_00FF_00FF_00FF
    nibbles = (nibbles | nibbles &>> 8) & 0x0000_FFFF_0000_FFFF
    return UInt32(truncatingIfNeeded: nibbles | nibbles &>> 16)
}
