import ClientWebSocket

/// A client's end of a WebSocket: it writes frames of any shape that RFC 6455 allows, and reads those of the server,
/// strictly.
struct SocketClient {
    private(set) var failure: String?
    /// To be written when what was received so far is read.
    var replies: [UInt8] = []
    /// The server has answered the handshake; 101, or something else.
    private(set) var isOpen = false
    private(set) var wasRefused = false
    /// The code of the server's close frame. nil: it has sent none. 0: it has no code.
    private(set) var closeCode: Int?
    private(set) var hasClosed = false
    /// Payloads of pings that were not answered.
    private(set) var pings: [[UInt8]] = []
    private(set) var pingCount = 0
    private let handshake: WebSocketHandshake
    private let chosen: String?
    /// The longest message that the listener takes.
    private let messageByteCountMax: Int
    private var head: [UInt8] = []
    private var reader = ServerFrameReader()
    private var text: [UInt8] = []
    private var control: [UInt8] = []
    /// Bytes of the message under way, which is one of binary data. 0: none is.
    private var openByteCount = 0

    /// - Parameters:
    ///   - chosen: the subprotocol that the server has to choose. nil: none.
    init(_ handshake: WebSocketHandshake, chosen: String?, messageByteCountMax: Int) {
        self.handshake = handshake
        self.chosen = chosen
        self.messageByteCountMax = messageByteCountMax
    }

    var request: [UInt8] { handshake.request }

    // MARK: Receiving

    /// - Parameter isMute: a planted bug: pongs are not seen.
    mutating func receive(_ bytes: [UInt8], isMute: Bool) -> [UInt8] {
        guard failure == nil, !bytes.isEmpty, !wasRefused else { return [] }
        var bytes = bytes
        if !isOpen {
            head += bytes
            guard let byteCount = WebSocketHandshake.headByteCount(of: head) else { return [] }
            do throws(WebSocketFailure) {
                let subprotocol = try handshake.check(Array(head[..<byteCount]))
                if subprotocol != chosen {
                    failure = "subprotocol \(subprotocol ?? "none") instead of \(chosen ?? "none")"
                }
            } catch {
                guard case .status = error else {
                    failure = "the answer to the handshake: \(error)"
                    return []
                }
                wasRefused = true
                return []
            }
            isOpen = true
            bytes.removeFirst(bytes.count - (head.count - byteCount))
            head = []
        }
        var payload: [UInt8] = []
        do throws(WebSocketFailure) { try read(bytes, &payload, isMute) } catch { failure = "a frame: \(error)" }
        return payload
    }

    private mutating func read(
        _ bytes: [UInt8], _ payload: inout [UInt8], _ isMute: Bool
    ) throws(WebSocketFailure) {
        var position = 0
        while true {
            if closeCode != nil, position < bytes.count {
                failure = "octets behind the close frame"
                return
            }
            switch try reader.read(bytes, at: &position) {
            case .needsBytes: return
            case .payload(let offset, let byteCount, let isText, let isLast):
                payload += bytes[offset..<offset + byteCount]
                guard isText else { continue }
                text += bytes[offset..<offset + byteCount]
                guard isLast else { continue }
                if String(validating: text, as: UTF8.self) == nil { failure = "a text message that is no UTF-8" }
                text = []
            case .control(let opcode, let offset, let byteCount, let isLast):
                control += bytes[offset..<offset + byteCount]
                guard isLast else { continue }
                take(opcode, control, isMute)
                control = []
            }
        }
    }

    private mutating func take(_ opcode: UInt8, _ payload: [UInt8], _ isMute: Bool) {
        switch opcode {
        case ServerFrameReader.Opcode.pong:
            if isMute { return }
            guard let place = pings.firstIndex(of: payload) else {
                failure = "a pong for no ping: \(payload)"
                return
            }
            // A later ping's answer is one for those before it, too.
            pings.removeFirst(place + 1)
        case ServerFrameReader.Opcode.close:
            closeCode = payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : 0
            if payload.count == 1 { failure = "a close frame of one octet" }
        default: failure = "a control frame \(opcode) that this broker does not send"
        }
    }

    // MARK: Sending

    private func frame(_ opcode: UInt8, isLast: Bool = true, _ payload: [UInt8], _ random: inout Random) -> [UInt8] {
        ClientFrameHeader.frame(
            opcode: opcode, isLast: isLast, payload, key: UInt32(truncatingIfNeeded: random.next()))
    }

    /// The octets as messages: one or several, whole or in fragments, with pings and pongs between them. The last
    /// message may stay open.
    mutating func messages(_ octets: [UInt8], _ random: inout Random) -> [UInt8] {
        var out: [UInt8] = []
        var start = 0
        while start < octets.count {
            var count = min(octets.count - start, messageByteCountMax - openByteCount)
            if count == 0 {
                out += end(&random)
                continue
            }
            if random.chance(150) { count = 1 + random.below(count) }
            out += message(Array(octets[start..<start + count]), &random)
            start += count
        }
        return out
    }

    private mutating func message(_ octets: [UInt8], _ random: inout Random) -> [UInt8] {
        var out: [UInt8] = []
        // One that is open goes on, as binary data.
        let isText = openByteCount == 0 && random.chance(600) && String(validating: octets, as: UTF8.self) != nil
        var opcode =
            openByteCount > 0
            ? ServerFrameReader.Opcode.continuation
            : isText ? ServerFrameReader.Opcode.text : ServerFrameReader.Opcode.binary
        let staysOpen = !isText && random.chance(100)
        var start = 0
        repeat {
            var count = octets.count - start
            if random.chance(300) { count = random.below(count + 1) }
            let isLast = start + count == octets.count
            out += frame(
                opcode, isLast: isLast && !staysOpen, Array(octets[start..<start + count]), &random)
            opcode = ServerFrameReader.Opcode.continuation
            start += count
            out += controls(&random)
            if isLast { break }
        } while true
        openByteCount = staysOpen ? openByteCount + octets.count : 0
        return out
    }

    /// The last fragment of a message, without octets.
    private mutating func end(_ random: inout Random) -> [UInt8] {
        openByteCount = 0
        return frame(ServerFrameReader.Opcode.continuation, [], &random)
    }

    private mutating func controls(_ random: inout Random) -> [UInt8] {
        var out: [UInt8] = []
        while random.chance(80) { out += ping(&random) }
        if random.chance(30) { out += frame(ServerFrameReader.Opcode.pong, [1, 2, 3], &random) }
        return out
    }

    /// Each is another one.
    mutating func ping(_ random: inout Random) -> [UInt8] {
        pingCount += 1
        var payload: [UInt8] = Array("\(pingCount)".utf8)
        payload += [UInt8](repeating: 0x2E, count: random.pick([0, 0, 10, 125 - payload.count]))
        pings.append(payload)
        return frame(ServerFrameReader.Opcode.ping, payload, &random)
    }

    /// A close frame, after which nothing is sent. Returns the code that the server has to answer with.
    mutating func close(_ random: inout Random) -> (octets: [UInt8], code: Int) {
        hasClosed = true
        let code = random.pick([0, 1000, 1000, 1001, 3000, 4999])
        var payload: [UInt8] = []
        if code > 0 {
            payload = [UInt8(code >> 8), UInt8(code & 0xFF)] + Array(random.pick(["", "going", "größer"]).utf8)
        }
        return (frame(ServerFrameReader.Opcode.close, payload, &random), code)
    }

    /// The answer to the server's close frame.
    mutating func answerClose(_ random: inout Random) -> [UInt8] {
        hasClosed = true
        let code = closeCode ?? 0
        return frame(
            ServerFrameReader.Opcode.close, code > 0 ? [UInt8(code >> 8), UInt8(code & 0xFF)] : [], &random)
    }

    /// What breaks the rules, and the code that has to answer it.
    mutating func garbage(_ random: inout Random) -> (octets: [UInt8], code: Int) {
        hasClosed = true
        switch random.below(8) {
        case 0: return ([0x82, 0x01, 0x41], 1002)  // not masked
        case 1: return (frame(0x42, [65], &random), 1002)  // a reserved bit
        case 2: return (frame(0x3, [65], &random), 1002)  // an unknown opcode
        case 3: return ([0x89, 0xFE, 0, 200, 0, 0, 0, 0], 1002)  // a ping that is too long
        case 4 where openByteCount == 0: return (frame(0x1, [0x41, 0xFF, 0x41], &random), 1007)
        case 5 where openByteCount == 0: return (frame(0x0, [65], &random), 1002)  // nothing is continued
        case 6: return (frame(0x8, [0x03], &random), 1002)  // a close frame of one octet
        default:  // a length of 2^62
            let opcode: UInt8 = openByteCount > 0 ? 0x80 : 0x82
            return ([opcode, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009)
        }
    }
}
