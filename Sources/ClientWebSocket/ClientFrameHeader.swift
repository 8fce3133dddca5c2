/// The headers of the frames that a WebSocket client sends, and their masks (RFC 6455, sections 5.2 and 5.3).
public enum ClientFrameHeader {
    /// Two bytes, eight of length, four of the key.
    public static var byteCountMax: Int { 14 }

    /// The length of the header of a frame with so much payload: 6, 8 or 14.
    @inlinable
    public static func byteCount(payloadByteCount: Int) -> Int {
        payloadByteCount < 126 ? 6 : payloadByteCount <= 0xFFFF ? 8 : 14
    }

    /// Writes the header of a frame that is a whole message, and returns its length.
    ///
    /// - Parameters:
    ///   - key: the four bytes of the mask, in the order of memory.
    ///   - place: `byteCountMax` bytes of room.
    @inlinable
    public static func write(
        opcode: UInt8, isLast: Bool = true, payloadByteCount: Int, key: UInt32, to place: UnsafeMutableRawPointer
    ) -> Int {
        place.storeBytes(of: (isLast ? 0x80 : 0) | opcode, as: UInt8.self)
        var count = 2
        if payloadByteCount < 126 {
            place.storeBytes(of: 0x80 | UInt8(truncatingIfNeeded: payloadByteCount), toByteOffset: 1, as: UInt8.self)
        } else if payloadByteCount <= 0xFFFF {
            place.storeBytes(of: 0x80 | 126, toByteOffset: 1, as: UInt8.self)
            place.storeBytes(
                of: UInt16(truncatingIfNeeded: payloadByteCount).bigEndian, toByteOffset: 2, as: UInt16.self)
            count = 4
        } else {
            place.storeBytes(of: 0x80 | 127, toByteOffset: 1, as: UInt8.self)
            place.storeBytes(of: UInt64(payloadByteCount).bigEndian, toByteOffset: 2, as: UInt64.self)
            count = 10
        }
        place.storeBytes(of: key, toByteOffset: count, as: UInt32.self)
        return count + 4
    }

    /// Masks bytes in place. To mask them again restores them.
    @inlinable
    public static func mask(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int, key: UInt32) {
        let wide = UInt64(key) | UInt64(key) << 32
        var position = 0
        while position + 8 <= byteCount {
            let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
            bytes.storeBytes(of: word ^ wide, toByteOffset: position, as: UInt64.self)
            position += 8
        }
        var rest = wide
        while position < byteCount {
            let byte = bytes.load(fromByteOffset: position, as: UInt8.self)
            bytes.storeBytes(of: byte ^ UInt8(truncatingIfNeeded: rest), toByteOffset: position, as: UInt8.self)
            rest >>= 8
            position += 1
        }
    }

    /// A whole frame as an array.
    public static func frame(opcode: UInt8, isLast: Bool = true, _ payload: [UInt8], key: UInt32) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: byteCountMax + payload.count) { buffer, count in
            let base = UnsafeMutableRawPointer(buffer.baseAddress!)
            count = write(opcode: opcode, isLast: isLast, payloadByteCount: payload.count, key: key, to: base)
            payload.withUnsafeBytes { bytes in
                if let start = bytes.baseAddress { (base + count).copyMemory(from: start, byteCount: bytes.count) }
            }
            mask(base + count, payload.count, key: key)
            count += payload.count
        }
    }
}
