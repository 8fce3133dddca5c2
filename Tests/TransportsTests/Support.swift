import Testing

@testable import Transports

/// The bytes in memory of their own, so that reading beyond them is found.
func withBytes<Result>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { buffer.deallocate() }
    buffer.copyBytes(from: bytes)
    return try body(UnsafeRawBufferPointer(buffer))
}

/// A number generator with a seed, so that a failure can be repeated.
struct Random {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_F491_4F6C_DD1D
    }

    mutating func below(_ limit: Int) -> Int { Int(next() >> 33) % limit }
}

/// A frame as the wire has it.
struct WireFrame: Equatable {
    var isLast = true
    var opcode: UInt8
    var payload: [UInt8]

    static func text(_ text: String, isLast: Bool = true) -> WireFrame {
        WireFrame(isLast: isLast, opcode: 1, payload: Array(text.utf8))
    }

    /// As a client sends it.
    func masked(key: [UInt8] = [0x12, 0x34, 0x56, 0x78], reserved: UInt8 = 0) -> [UInt8] {
        var bytes = [(isLast ? 0x80 : 0) | reserved | opcode]
        switch payload.count {
        case ..<126: bytes.append(0x80 | UInt8(payload.count))
        case ..<0x1_0000: bytes += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        default:
            bytes.append(0x80 | 127)
            for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(payload.count >> shift & 0xFF)) }
        }
        bytes += key
        for (place, octet) in payload.enumerated() { bytes.append(octet ^ key[place & 3]) }
        return bytes
    }

    /// The whole frames at the start of what a server has sent, and the rest.
    static func decode(_ bytes: [UInt8]) -> (frames: [WireFrame], rest: [UInt8]) {
        var frames: [WireFrame] = []
        var place = 0
        while bytes.count - place >= 2 {
            var start = place + 2
            var count = Int(bytes[place + 1] & 0x7F)
            if count >= 126 {
                let lengthByteCount = count == 126 ? 2 : 8
                guard bytes.count - start >= lengthByteCount else { break }
                count = bytes[start..<start + lengthByteCount].reduce(0) { $0 << 8 | Int($1) }
                start += lengthByteCount
            }
            guard bytes.count - start >= count, bytes[place + 1] & 0x80 == 0 else { break }
            frames.append(
                WireFrame(
                    isLast: bytes[place] & 0x80 != 0, opcode: bytes[place] & 0x7F,
                    payload: Array(bytes[start..<start + count])))
            place = start + count
        }
        return (frames, Array(bytes[place...]))
    }
}
