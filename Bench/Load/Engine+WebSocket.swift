import ClientWebSocket
import Drivers
import Glibc
import IO
import Slabs

/// Keys for the masks of frames: different, but not unpredictable, for they protect nothing here.
struct MaskKeys {
    private var state: UInt32 = 0x9E37_79B9

    /// Marsaglia's xorshift.
    mutating func next() -> UInt32 {
        state ^= state << 13
        state ^= state >> 17
        state ^= state << 5
        return state
    }
}

// WebSocket: what a client appends to its outbox in a turn is one message, and what the server sends is taken out of
// its frames without a copy.
extension Engine where D: ~Copyable {
    // MARK: Handshake

    mutating func upgrade(_ place: Int) {
        clients[place].phase = .upgrading
        readers[place] = ServerFrameReader()
        say(requests.upgrade, place)
    }

    private mutating func answered(_ place: Int, _ bytes: UnsafeRawBufferPointer) {
        let head = (pieces.removeValue(forKey: place) ?? []) + bytes
        guard let byteCount = WebSocketHandshake.headByteCount(of: head) else {
            guard head.count < WebSocketHandshake.answerByteCountMax else {
                return failed(place, "an endless answer to the WebSocket handshake")
            }
            pieces[place] = head
            return
        }
        do throws(WebSocketFailure) {
            _ = try requests.handshake.check(Array(head[..<byteCount]), rest: Array(head[byteCount...]))
        } catch {
            return failed(place, "\(error)")
        }
        greet(place)
        let rest = Array(head[byteCount...])
        rest.withUnsafeBytes { readFrames(place, $0) }
    }

    private mutating func failed(_ place: Int, _ text: String) {
        control.fail("WebSocket: \(text)")
        ended(place, errorNumber: 0)
    }

    // MARK: Receiving

    mutating func receivedFrames(_ place: Int, _ base: UnsafeRawPointer, _ byteCount: Int) {
        let bytes = UnsafeRawBufferPointer(start: base, count: byteCount)
        if clients[place].phase == .upgrading { return answered(place, bytes) }
        readFrames(place, bytes)
    }

    private mutating func readFrames(_ place: Int, _ bytes: UnsafeRawBufferPointer) {
        var position = 0
        do throws(WebSocketFailure) {
            while clients[place].phase != .closing {
                switch try readers[place].read(bytes, at: &position) {
                case .needsBytes: return
                case .payload(let offset, let byteCount, _, _):
                    if byteCount > 0 { received(place, bytes.baseAddress! + offset, byteCount) }
                case .control(let opcode, let offset, let byteCount, let isLast):
                    let payload = (pieces.removeValue(forKey: place) ?? []) + bytes[offset..<offset + byteCount]
                    guard isLast else {
                        pieces[place] = payload
                        continue
                    }
                    answer(opcode, payload, place)
                }
            }
        } catch {
            failed(place, "\(error)")
        }
    }

    private mutating func answer(_ opcode: UInt8, _ payload: [UInt8], _ place: Int) {
        switch opcode {
        case ServerFrameReader.Opcode.ping:
            let frame = ClientFrameHeader.frame(
                opcode: ServerFrameReader.Opcode.pong, payload, key: masks.next())
            let outbox = outbox(of: place, frame.count)
            seal(outbox)
            outbox.pointee.reserve(frame.count)
            frame.withUnsafeBytes { _ = memcpy(outbox.pointee.bytes + outbox.pointee.end, $0.baseAddress!, $0.count) }
            outbox.pointee.end += frame.count
        case ServerFrameReader.Opcode.close: ended(place, errorNumber: 0)
        default: break
        }
    }

    // MARK: Sending

    /// Makes room for `byteCount` bytes of a message, which begins now unless one is open.
    mutating func openMessage(_ outbox: UnsafeMutablePointer<Outbox>, _ place: Int, _ byteCount: Int) {
        outbox.pointee.reserve(ClientFrameHeader.byteCountMax + byteCount)
        guard outbox.pointee.messageStart < 0, clients[place].phase != .upgrading else { return }
        outbox.pointee.messageStart = outbox.pointee.end
        outbox.pointee.end += ClientFrameHeader.byteCountMax
    }

    /// Ends the message of the outbox: masks it and writes its header.
    mutating func seal(_ outbox: UnsafeMutablePointer<Outbox>) {
        let start = outbox.pointee.messageStart
        guard start >= 0 else { return }
        outbox.pointee.messageStart = -1
        let room = ClientFrameHeader.byteCountMax
        let payload = outbox.pointee.bytes + start + room
        let byteCount = outbox.pointee.end - start - room
        guard byteCount > 0 else {
            outbox.pointee.end = start
            return
        }
        let key = masks.next()
        ClientFrameHeader.mask(payload, byteCount, key: key)
        // Headers are of different lengths. Where bytes of earlier messages wait, the payload moves to its header.
        let unused = room - ClientFrameHeader.byteCount(payloadByteCount: byteCount)
        var header = start
        if outbox.pointee.start == start {
            header += unused
            outbox.pointee.start = header
        } else {
            memmove(payload - unused, payload, byteCount)
            outbox.pointee.end -= unused
        }
        // Bodies are not text.
        _ = ClientFrameHeader.write(
            opcode: ServerFrameReader.Opcode.binary, payloadByteCount: byteCount, key: key,
            to: outbox.pointee.bytes + header)
    }
}
