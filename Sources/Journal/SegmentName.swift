/// A segment's file name: `LLLLLLLL-WWWW-SSSSSSSS.log`, life, worker and sequence in hexadecimal, lower case. By name they
/// sort by life, worker and sequence.
public struct SegmentName: BitwiseCopyable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var life: UInt32
    public var worker: UInt16
    public var sequence: UInt32

    public init(life: UInt32, worker: UInt16, sequence: UInt32) {
        self.life = life
        self.worker = worker
        self.sequence = sequence
    }

    /// nil: the name is not a segment's.
    public init?(fileName: String) {
        let bytes = Array(fileName.utf8)
        guard bytes.count == Self.byteCount, bytes[8] == 0x2D, bytes[13] == 0x2D, fileName.hasSuffix(".log"),
            let life = Self.number(bytes[0..<8]), let worker = Self.number(bytes[9..<13]),
            let sequence = Self.number(bytes[14..<22]), life <= JournalFormat.lifeMax
        else { return nil }
        self.init(life: life, worker: UInt16(worker), sequence: sequence)
    }

    /// Without the zero byte at the end of a C string.
    public static let byteCount = 26

    /// Writes the name and a zero byte: `byteCount + 1` bytes.
    public func write(to bytes: UnsafeMutableRawPointer) {
        var next = bytes
        func write(_ value: UInt32, digits: Int) {
            for digit in 0..<digits {
                let nibble = UInt8(truncatingIfNeeded: value >> UInt32(4 * (digits - 1 - digit))) & 15
                next.storeBytes(of: nibble < 10 ? 0x30 + nibble : 0x57 + nibble, as: UInt8.self)
                next += 1
            }
        }
        func write(_ text: StaticString) {
            next.copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
            next += text.utf8CodeUnitCount
        }
        write(life, digits: 8)
        write("-")
        write(UInt32(worker), digits: 4)
        write("-")
        write(sequence, digits: 8)
        write(".log")
        next.storeBytes(of: 0, as: UInt8.self)
    }

    public var description: String {
        withUnsafeTemporaryAllocation(byteCount: Self.byteCount + 1, alignment: 1) { bytes in
            write(to: bytes.baseAddress!)
            return String(decoding: bytes.dropLast(), as: UTF8.self)
        }
    }

    public static func < (left: Self, right: Self) -> Bool {
        (left.life, left.worker, left.sequence) < (right.life, right.worker, right.sequence)
    }

    private static func number(_ digits: ArraySlice<UInt8>) -> UInt32? {
        var value: UInt32 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: value = value << 4 | UInt32(digit - 0x30)
            case 0x61...0x66: value = value << 4 | UInt32(digit - 0x57)
            default: return nil
            }
        }
        return value
    }
}
