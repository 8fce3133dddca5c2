import Testing

@testable import Transports

/// The layer with a listener whose messages are compressed, and the peer's end of one.
final class CompressedPeer {
    let connection: FakeConnection
    private var deflater: MessageDeflater
    private var inflater: MessageInflater
    /// Frames that were received and inflated already.
    private var frameCount = 0
    /// What was received is put together in it, up to a message that is not whole.
    private var open: (opcode: UInt8, payload: [UInt8])?

    init(_ connection: FakeConnection, windowBits: Int = 15, takesOver: Bool = false) {
        self.connection = connection
        deflater = MessageDeflater(windowBits: 15, takesOver: takesOver)
        inflater = MessageInflater(windowBits: windowBits, takesOver: takesOver)
    }

    /// A message in fragments of so many bytes, as a client sends it.
    func frames(_ message: [UInt8], opcode: UInt8 = 1, fragmentByteCount: Int = .max) -> [UInt8] {
        let deflated = deflater.deflate(message)
        var bytes: [UInt8] = []
        var start = 0
        repeat {
            let count = min(fragmentByteCount, deflated.count - start)
            let isFirst = start == 0
            let frame = WireFrame(
                isLast: start + count == deflated.count, opcode: isFirst ? opcode : 0,
                payload: Array(deflated[start..<start + count]))
            bytes += frame.masked(reserved: isFirst ? 0x40 : 0)
            start += count
        } while start < deflated.count
        return bytes
    }

    struct Message: Equatable {
        var opcode: UInt8
        var isCompressed: Bool
        var payload: [UInt8]
    }

    /// The messages that have arrived since the last call. A message that is wrong is an issue.
    func messages() -> [Message] {
        var messages: [Message] = []
        let frames = WireFrame.decode(connection.wire).frames
        for frame in frames[frameCount...] where frame.opcode & 0x0F < 8 {
            if let open {
                #expect(frame.opcode == 0, "a fragment has an opcode, or RSV1")
                self.open = (open.opcode, open.payload + frame.payload)
            } else {
                #expect(frame.opcode & 0x0F != 0, "a message begins with a continuation")
                open = (frame.opcode, frame.payload)
            }
            guard frame.isLast, let whole = open else { continue }
            open = nil
            let isCompressed = whole.opcode & 0x40 != 0
            let isText = whole.opcode & 0x0F == 1
            guard isCompressed else {
                messages.append(Message(opcode: whole.opcode, isCompressed: false, payload: whole.payload))
                continue
            }
            switch inflater.inflate(
                whole.payload, isText: isText, limits: InflateLimits(byteCountMax: 1 << 26, smallByteCount: 1 << 26))
            {
            case .success(let payload):
                messages.append(Message(opcode: whole.opcode & 0x0F, isCompressed: true, payload: payload))
            case .failure(let error): Issue.record("a message is not inflated: \(error.code)")
            }
        }
        frameCount = frames.count
        return messages
    }

    var bytes: [UInt8] { messages().flatMap(\.payload) }
}

extension TransportHarness {
    static func compressed(_ change: (inout CompressionOptions) -> Void = { _ in }) -> TransportHarness {
        webSocket {
            $0.compression.isOn = true
            change(&$0.compression)
        }
    }

    func openCompressed(_ parameters: String = "", takesOver: Bool = false) -> CompressedPeer {
        let connection = open(adding: ["Sec-WebSocket-Extensions: permessage-deflate\(parameters)"])
        return CompressedPeer(connection, takesOver: takesOver)
    }
}
