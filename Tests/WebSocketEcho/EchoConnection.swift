import Glibc
import Transports

/// One connection of the echo server.
final class EchoConnection {
    private let descriptor: Int32
    private var decoder = WebSocketDecoder()
    private var message: [UInt8] = []
    private var control: [UInt8] = []
    private var output: [UInt8] = []
    private var hasEnded = false
    private let options: CompressionOptions
    private var compression: EchoCompression?

    private static let byteCountMax: UInt32 = 64 << 20
    private static let chunkByteCount = 65_536

    init(descriptor: Int32, compression: CompressionOptions) {
        self.descriptor = descriptor
        options = compression
    }

    deinit { close(descriptor) }

    func run() {
        guard let rest = shakeHands() else { return flush() }
        decode(rest)
        let chunk = UnsafeMutableRawPointer.allocate(byteCount: Self.chunkByteCount, alignment: 16)
        defer { chunk.deallocate() }
        while !hasEnded {
            let count = recv(descriptor, chunk, Self.chunkByteCount, 0)
            if count <= 0 { return }
            decode(chunk, count)
            flush()
        }
        finish(chunk)
    }

    /// Returns what came behind the request. nil: it was refused, and the answer is in the output.
    private func shakeHands() -> [UInt8]? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        var listener = ListenerTransport()
        listener.kind = .ws
        listener.compression = options
        while true {
            let count = recv(descriptor, &chunk, chunk.count, 0)
            if count <= 0 { return nil }
            bytes += chunk[..<count]
            let answer = bytes.withUnsafeBytes { received -> (upgrade: HTTPUpgrade?, count: Int, answer: [UInt8]) in
                switch HTTPUpgrade.head(received, from: 0) {
                case .incomplete: return (nil, 0, [])
                case .refused(let refusal): return (nil, 0, refusal.answer)
                case .complete(let count):
                    do throws(HTTPRefusal) {
                        let head = UnsafeRawBufferPointer(rebasing: received[..<count])
                        let upgrade = try HTTPUpgrade(head, for: listener)
                        return (upgrade, count, upgrade.answer)
                    } catch {
                        return (nil, 0, error.answer)
                    }
                }
            }
            output += answer.answer
            if let upgrade = answer.upgrade {
                if upgrade.compression.isOn { compression = EchoCompression(upgrade.compression) }
                flush()
                return Array(bytes[answer.count...])
            }
            if !answer.answer.isEmpty { return nil }
        }
    }

    private func decode(_ bytes: [UInt8]) {
        var bytes = bytes
        bytes.withUnsafeMutableBytes { if let base = $0.baseAddress { decode(base, $0.count) } }
        flush()
    }

    private func decode(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int) {
        var chunk = WebSocketDecoder.Chunk(bytes, byteCount)
        var taken = 0
        while !hasEnded {
            let event = decoder.decode(
                &chunk, byteCountMax: Self.byteCountMax, stopsAtMessageEnds: true,
                allowsCompressed: compression != nil)
            message += UnsafeRawBufferPointer(start: bytes + taken, count: chunk.payloadByteCount - taken)
            taken = chunk.payloadByteCount
            switch event {
            case .needsBytes: return
            case .messageEnded(let opcode):
                echo(opcode)
                message.removeAll(keepingCapacity: true)
            case .failed(let fault): end(fault.code)
            case .control(let opcode, let offset, let count, let isLast):
                control += UnsafeRawBufferPointer(start: bytes + offset, count: count)
                if isLast { take(opcode) }
            }
        }
    }

    /// A message that came compressed is inflated, and compressed anew.
    private func echo(_ opcode: UInt8) {
        guard let compression, opcode & WebSocketDecoder.Opcode.compressed != 0 else { return append(opcode, message) }
        let limits = InflateLimits(byteCountMax: Self.byteCountMax, smallByteCount: Self.byteCountMax)
        switch compression.inflater.inflate(message, isText: opcode & 0x0F == 1, limits: limits) {
        case .success(let payload): append(opcode, compression.deflater.deflate(payload))
        case .failure(let error): end(error.code)
        }
    }

    private func take(_ opcode: UInt8) {
        switch opcode {
        case WebSocketDecoder.Opcode.ping: append(WebSocketDecoder.Opcode.pong, control)
        case WebSocketDecoder.Opcode.close: end(control.withUnsafeBytes { CloseCode.answer(to: $0).code })
        default: break
        }
        control.removeAll(keepingCapacity: true)
    }

    private func append(_ opcode: UInt8, _ payload: [UInt8]) {
        var header = [UInt8](repeating: 0, count: WebSocketFramer.headerByteCountMax)
        let count = header.withUnsafeMutableBytes {
            WebSocketFramer.writeHeader(
                opcode: opcode, isLast: true, payloadByteCount: payload.count, to: $0.baseAddress!)
        }
        output += header[..<count] + payload
    }

    private func end(_ code: CloseCode) {
        hasEnded = true
        var frame = [UInt8](repeating: 0, count: 4)
        let count = frame.withUnsafeMutableBytes { WebSocketFramer.writeClose(code, to: $0.baseAddress!) }
        output += frame[..<count]
    }

    private func flush() {
        var sent = 0
        while sent < output.count {
            let count = output[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, 0) }
            if count <= 0 { break }
            sent += count
        }
        output.removeAll(keepingCapacity: true)
    }

    /// The close frame is on its way: what still comes is read, so that no reset overtakes it.
    private func finish(_ chunk: UnsafeMutableRawPointer) {
        shutdown(descriptor, Int32(SHUT_WR))
        var patience = timeval(tv_sec: 3, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        while recv(descriptor, chunk, Self.chunkByteCount, 0) > 0 {}
    }
}

/// The two ends of what a connection has agreed on.
final class EchoCompression {
    var inflater: MessageInflater
    var deflater: MessageDeflater

    init(_ agreement: CompressionAgreement) {
        inflater = MessageInflater(windowBits: agreement.clientWindowBits, takesOver: agreement.clientTakesOver)
        deflater = MessageDeflater(windowBits: agreement.serverWindowBits, takesOver: agreement.serverTakesOver)
    }
}
