/// The part of MQTT 3.1.1 (OASIS Standard, 29 October 2014) that publishes and subscribes with QoS 0.
///
/// ```
/// | kind (4 bits), flags (4 bits) | byte count of the rest: 1 to 4 bytes of 7 bits, the lowest first | the rest |
/// ```
enum MQTTPacket {
    private static let connectKind: UInt8 = 0x10
    private static let connectAcknowledged: UInt8 = 0x20
    private static let publishKind: UInt8 = 0x30
    private static let subscribeKind: UInt8 = 0x82
    private static let subscribeAcknowledged: UInt8 = 0x90
    private static let pingKind: UInt8 = 0xC0
    private static let pingAnswered: UInt8 = 0xD0
    private static let lengthByteCountMax = 4

    // MARK: Writing

    /// A clean session without keep-alive. The server chooses the client identifier.
    static var connect: [UInt8] {
        let protocolLevel: UInt8 = 4
        let cleanSession: UInt8 = 2
        return packet(connectKind, text("MQTT") + [protocolLevel, cleanSession, 0, 0] + text(""))
    }

    /// Asks for QoS 0.
    static func subscribe(to topic: String) -> [UInt8] {
        let identifier: [UInt8] = [0, 1]
        return packet(subscribeKind, identifier + text(topic) + [0])
    }

    /// A PUBLISH without its body, which comes last.
    static func publishHead(to topic: String, bodyByteCount: Int) -> [UInt8] {
        let topic = text(topic)
        return [publishKind] + length(topic.count + bodyByteCount) + topic
    }

    static var ping: [UInt8] { [pingKind, 0] }

    private static func packet(_ kind: UInt8, _ rest: [UInt8]) -> [UInt8] { [kind] + length(rest.count) + rest }

    private static func text(_ string: String) -> [UInt8] {
        [UInt8(string.utf8.count >> 8), UInt8(string.utf8.count & 0xFF)] + string.utf8
    }

    private static func length(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = count
        repeat {
            bytes.append(UInt8(rest & 0x7F) | (rest > 0x7F ? 0x80 : 0))
            rest >>= 7
        } while rest > 0
        return bytes
    }

    // MARK: Reading

    /// The packet that begins at `start`. nil: it is not complete yet. Its head is everything before the body.
    static func scan(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> FrameScanner.Frame? {
        var count = 0
        var head = start + 1
        for place in 0..<lengthByteCountMax {
            guard head < end else { return nil }
            let byte = head.load(as: UInt8.self)
            head += 1
            count |= Int(byte & 0x7F) << (7 * place)
            if byte & 0x80 == 0 { break }
        }
        let next = head + count
        guard next <= end else { return nil }
        let kind = start.load(as: UInt8.self)
        var body = next
        // With QoS 0 there is no packet identifier: the body follows the topic.
        if kind == publishKind, count >= 2 {
            body = head + 2 + Int(UInt16(bigEndian: head.loadUnaligned(as: UInt16.self)))
        }
        return FrameScanner.Frame(
            kind: body > next ? .error : frameKind(kind, head, count), head: start, headByteCount: body - start,
            body: body, bodyByteCount: max(next - body, 0), next: next)
    }

    private static func frameKind(_ kind: UInt8, _ rest: UnsafeRawPointer, _ count: Int) -> FrameScanner.Kind {
        /// The last byte: 0 if a CONNECT was accepted, or the granted QoS of a subscription.
        func isGranted() -> Bool { count > 0 && rest.load(fromByteOffset: count - 1, as: UInt8.self) == 0 }
        switch kind {
        case publishKind: return .message
        case connectAcknowledged: return isGranted() ? .connected : .error
        case subscribeAcknowledged: return isGranted() ? .receipt : .error
        case pingAnswered: return .receipt
        default: return .other
        }
    }
}
