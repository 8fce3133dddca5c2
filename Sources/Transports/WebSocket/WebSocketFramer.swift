/// The headers of the frames that a WebSocket server sends: not masked (RFC 6455, section 5.1).
public enum WebSocketFramer {
    /// The longest header: two octets and a length of eight.
    public static var headerByteCountMax: Int { 10 }

    /// The length of the header of a frame with so much payload: 2, 4 or 10.
    @inlinable
    public static func headerByteCount(of payloadByteCount: Int) -> Int {
        payloadByteCount < 126 ? 2 : payloadByteCount <= 0xFFFF ? 4 : 10
    }

    /// Writes a header, and returns its length.
    ///
    /// - Parameters:
    ///   - isLast: FIN, the last frame of its message.
    ///   - place: `headerByteCountMax` bytes of room.
    @inlinable
    public static func writeHeader(
        opcode: UInt8, isLast: Bool, payloadByteCount: Int, to place: UnsafeMutableRawPointer
    ) -> Int {
        place.storeBytes(of: (isLast ? 0x80 : 0) | opcode, as: UInt8.self)
        if payloadByteCount < 126 {
            place.storeBytes(of: UInt8(truncatingIfNeeded: payloadByteCount), toByteOffset: 1, as: UInt8.self)
            return 2
        }
        if payloadByteCount <= 0xFFFF {
            place.storeBytes(of: 126, toByteOffset: 1, as: UInt8.self)
            place.storeBytes(
                of: UInt16(truncatingIfNeeded: payloadByteCount).bigEndian, toByteOffset: 2, as: UInt16.self)
            return 4
        }
        place.storeBytes(of: 127, toByteOffset: 1, as: UInt8.self)
        place.storeBytes(of: UInt64(payloadByteCount).bigEndian, toByteOffset: 2, as: UInt64.self)
        return 10
    }

    /// What a header says that `writeHeader` wrote.
    @inlinable
    static func readHeader(_ place: UnsafeRawPointer) -> (isLast: Bool, opcode: UInt8, payloadByteCount: Int) {
        let first = place.load(as: UInt8.self)
        let second = place.load(fromByteOffset: 1, as: UInt8.self)
        let count =
            switch second {
            case 126: Int(UInt16(bigEndian: place.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
            case 127: Int(UInt64(bigEndian: place.loadUnaligned(fromByteOffset: 2, as: UInt64.self)))
            default: Int(second)
            }
        return (first & 0x80 != 0, first & 0x0F, count)
    }

    /// Writes a whole control frame, and returns its length.
    ///
    /// - Parameter place: two bytes more of room than the payload has, which is `WebSocketDecoder.controlByteCountMax`
    ///   bytes at most.
    public static func writeControl(
        opcode: UInt8, _ payload: UnsafeRawBufferPointer, to place: UnsafeMutableRawPointer
    ) -> Int {
        let count = writeHeader(opcode: opcode, isLast: true, payloadByteCount: payload.count, to: place)
        if payload.count > 0 { (place + count).copyMemory(from: payload.baseAddress!, byteCount: payload.count) }
        return count + payload.count
    }

    /// Writes a close frame, and returns its length: 2 bytes without a code, else 4 and the reason.
    ///
    /// - Parameters:
    ///   - reason: UTF-8, at most 123 bytes.
    ///   - place: room for 4 bytes and the reason.
    public static func writeClose(
        _ code: CloseCode, reason: StaticString = "", to place: UnsafeMutableRawPointer
    ) -> Int {
        guard code != .none else {
            return writeHeader(opcode: WebSocketDecoder.Opcode.close, isLast: true, payloadByteCount: 0, to: place)
        }
        let count = writeHeader(
            opcode: WebSocketDecoder.Opcode.close, isLast: true, payloadByteCount: 2 + reason.utf8CodeUnitCount,
            to: place)
        (place + count).storeBytes(of: code.rawValue.bigEndian, as: UInt16.self)
        (place + count + 2).copyMemory(from: reason.utf8Start, byteCount: reason.utf8CodeUnitCount)
        return count + 2 + reason.utf8CodeUnitCount
    }
}
