/// Writes the pieces of a frame one behind the other.
///
/// It does not know where its memory ends: the caller reserves `escapedByteCountMax` for what may be escaped,
/// `decimalByteCountMax` for numbers, and the exact count for all else.
@frozen
public struct FrameWriter: BitwiseCopyable {
    /// Where the next octet goes.
    public var cursor: UnsafeMutableRawPointer

    /// The most octets a number takes.
    @inlinable public static var decimalByteCountMax: Int { 20 }

    @inlinable
    public init(at cursor: UnsafeMutableRawPointer) { self.cursor = cursor }

    @inlinable
    public mutating func write(_ text: StaticString) {
        write(UnsafeRawPointer(text.utf8Start), text.utf8CodeUnitCount)
    }

    @inlinable
    public mutating func write(_ bytes: UnsafeRawPointer, _ count: Int) {
        cursor.copyMemory(from: bytes, byteCount: count)
        cursor += count
    }

    @inlinable
    public mutating func write(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return }
        write(start, bytes.count)
    }

    @inlinable
    public mutating func write(_ byte: UInt8) {
        cursor.storeBytes(of: byte, as: UInt8.self)
        cursor += 1
    }

    /// Writes "18446744073709551615", two digits at a time.
    @inlinable
    public mutating func writeDecimal(_ number: UInt64) {
        let count = Self.decimalByteCount(number)
        var end = cursor + count
        let pairs = UnsafeRawPointer(Self.digitPairs.utf8Start)
        var rest = number
        while rest >= 100 {
            let (quotient, pair) = rest.quotientAndRemainder(dividingBy: 100)
            end -= 2
            end.copyMemory(from: pairs + Int(truncatingIfNeeded: pair) &* 2, byteCount: 2)
            rest = quotient
        }
        if rest >= 10 {
            end -= 2
            end.copyMemory(from: pairs + Int(truncatingIfNeeded: rest) &* 2, byteCount: 2)
        } else {
            end -= 1
            end.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x30, as: UInt8.self)
        }
        cursor += count
    }

    /// How many octets `writeDecimal` writes.
    @inlinable
    public static func decimalByteCount(_ number: UInt64) -> Int {
        var count = 1
        var bound: UInt64 = 10
        while number >= bound && count < 19 {
            count &+= 1
            bound &*= 10
        }
        // 10^19 is the last power that 64 bits hold: one more digit cannot be found by multiplying on.
        return count == 19 && number >= 10_000_000_000_000_000_000 ? 20 : count
    }

    /// Writes sixteen lower-case hexadecimal digits, zeros first: "0123456789abcdef".
    @inlinable
    public mutating func writeHex(_ number: UInt64) {
        cursor.storeBytes(of: hexadecimalDigits(UInt32(truncatingIfNeeded: number &>> 32)), as: UInt64.self)
        cursor.storeBytes(
            of: hexadecimalDigits(UInt32(truncatingIfNeeded: number)), toByteOffset: 8, as: UInt64.self)
        cursor += 16
    }

    @inlinable static var digitPairs: StaticString {
        """
        00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354\
        555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899
        """
    }
}
