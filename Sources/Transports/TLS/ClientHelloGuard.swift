/// Looks at the first bytes of a connection before OpenSSL gets them. It refuses peers that do not speak TLS, and a hello
/// whose length is a lie: OpenSSL takes the memory for a message (up to 128 KiB) when it has seen the length, before the
/// bytes are there.
///
/// A handshake message may be split over records, down to one byte in each (RFC 8446, section 5.1):
///
///     | type 22 | version 2 B | length 2 B | ... of a message: | type 1 | length 3 B | body | ...
///
/// It looks on until the server has answered with its own hello, because a client may have to say hello twice.
struct ClientHelloGuard: BitwiseCopyable {
    enum Verdict: UInt8, BitwiseCopyable {
        case fine
        /// The first byte is not that of a handshake.
        case notTLS
        case tooLong
    }

    /// The most bytes of a hello. OpenSSL has a buffer of this size anyway. Hellos have 200 bytes to 2 KiB; one that
    /// resumes a session with a client's certificate has that certificate's size more.
    static let byteCountMax = 16_384 - 4

    private static let handshakeType: UInt8 = 22
    private static let clientHelloType: UInt8 = 1

    /// Bytes of the current header of a record that are known, 0 ... 5.
    private var recordHeaderCount: UInt8 = 0
    private var recordType: UInt8 = 0
    /// Bytes of the current header of a message that are known, 0 ... 4.
    private var messageHeaderCount: UInt8 = 0
    private var messageType: UInt8 = 0
    /// Bytes that the current record still has.
    private var recordByteCount: UInt16 = 0
    private var isFirstByte = true
    /// Bytes that the current message still has.
    private var messageByteCount: UInt32 = 0

    /// Looks at the next bytes of the client. The time taken is that of the headers, not of the bytes between them.
    mutating func inspect(_ bytes: UnsafeRawBufferPointer) -> Verdict {
        var index = 0
        if isFirstByte, let first = bytes.first {
            isFirstByte = false
            if first != Self.handshakeType { return .notTLS }
        }
        while index < bytes.count {
            if recordHeaderCount < 5 {
                addToRecordHeader(bytes[index])
                index += 1
            } else if recordType == Self.handshakeType && messageHeaderCount < 4 {
                if !addToMessageHeader(bytes[index]) { return .tooLong }
                index += 1
            } else {
                index += skip(bytes.count - index)
            }
        }
        return .fine
    }

    private mutating func addToRecordHeader(_ byte: UInt8) {
        switch recordHeaderCount {
        case 0: recordType = byte
        case 3: recordByteCount = UInt16(byte) << 8
        case 4: recordByteCount |= UInt16(byte)
        default: break
        }
        recordHeaderCount += 1
        if recordHeaderCount == 5 && recordByteCount == 0 { recordHeaderCount = 0 }
    }

    /// - Returns: false if the message is too long.
    private mutating func addToMessageHeader(_ byte: UInt8) -> Bool {
        if messageHeaderCount == 0 {
            messageType = byte
            messageByteCount = 0
        } else {
            messageByteCount = messageByteCount << 8 | UInt32(byte)
        }
        messageHeaderCount += 1
        endRecordBytes(1)
        guard messageHeaderCount == 4 else { return true }
        if messageType == Self.clientHelloType && messageByteCount > Self.byteCountMax { return false }
        if messageByteCount == 0 { messageHeaderCount = 0 }
        return true
    }

    /// Skips bytes of a record that are no header. Returns how many.
    private mutating func skip(_ count: Int) -> Int {
        var skipped = min(count, Int(recordByteCount))
        if recordType == Self.handshakeType {
            skipped = min(skipped, Int(messageByteCount))
            messageByteCount -= UInt32(skipped)
            if messageByteCount == 0 { messageHeaderCount = 0 }
        }
        endRecordBytes(skipped)
        return skipped
    }

    private mutating func endRecordBytes(_ count: Int) {
        recordByteCount -= UInt16(count)
        if recordByteCount == 0 { recordHeaderCount = 0 }
    }
}
