import Transports

/// The same octets where messages may be compressed (RFC 7692): what comes of them may not depend on the pieces in which
/// they arrive, nor on the room for what they inflate to, and is no longer than the limits allow.
enum CompressedFuzzer {
    private struct Reading: Equatable {
        var messages: [[UInt8]] = []
        var failure: UInt16?
    }

    static func check(_ stream: [UInt8], size: Int, byteCountMax: UInt32) -> String? {
        // What the ratio allows depends on the pieces, so it is left out.
        let limits = InflateLimits(byteCountMax: byteCountMax, smallByteCount: byteCountMax)
        for takesOver in [false, true] {
            let expected = read(stream, size: stream.count, room: 4096, takesOver, limits)
            if expected.messages.contains(where: { $0.count > Int(byteCountMax) }) { return "a message is too long" }
            for (size, room) in [(size, 1), (1, 64)] {
                let found = read(stream, size: size, room: room, takesOver, limits)
                if found != expected {
                    return "compressed, pieces of \(size), room of \(room): \(found), not \(expected)"
                }
            }
        }
        return nil
    }

    private static func read(
        _ stream: [UInt8], size: Int, room: Int, _ takesOver: Bool, _ limits: InflateLimits
    ) -> Reading {
        var decoder = WebSocketDecoder()
        var inflater = MessageInflater(windowBits: 9, takesOver: takesOver)
        var reading = Reading()
        var pieces: [[UInt8]] = []
        var start = 0
        while start < stream.count {
            var piece = Array(stream[start..<min(start + size, stream.count)])
            start += piece.count
            let isEnd = piece.withUnsafeMutableBytes { bytes -> Bool in
                var chunk = WebSocketDecoder.Chunk(bytes.baseAddress!, bytes.count)
                var taken = 0
                while true {
                    let event = decoder.decode(
                        &chunk, byteCountMax: limits.byteCountMax, stopsAtMessageEnds: true, allowsCompressed: true)
                    pieces.append(Array(bytes[taken..<chunk.payloadByteCount]))
                    taken = chunk.payloadByteCount
                    switch event {
                    case .needsBytes: return false
                    case .control(let opcode, _, _, let isLast):
                        if opcode == WebSocketDecoder.Opcode.close, isLast { return true }
                    case .failed(let fault):
                        reading.failure = fault.code.rawValue
                        return true
                    case .messageEnded(let opcode):
                        if let code = end(opcode, pieces, &inflater, room, limits, &reading) {
                            reading.failure = code.rawValue
                            return true
                        }
                        pieces = []
                    }
                }
            }
            if isEnd { break }
        }
        return reading
    }

    private static func end(
        _ opcode: UInt8, _ pieces: [[UInt8]], _ inflater: inout MessageInflater, _ room: Int, _ limits: InflateLimits,
        _ reading: inout Reading
    ) -> CloseCode? {
        guard opcode & WebSocketDecoder.Opcode.compressed != 0 else {
            reading.messages.append(pieces.flatMap { $0 })
            return nil
        }
        let isText = opcode & 0x0F == WebSocketDecoder.Opcode.text
        switch inflater.inflate(pieces: pieces, isText: isText, limits: limits, roomByteCount: room) {
        case .success(let message): reading.messages.append(message)
        case .failure(let error): return error.code
        }
        return nil
    }
}
