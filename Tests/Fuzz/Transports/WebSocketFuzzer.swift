import Transports

/// Octets as what a WebSocket client sends, decoded in pieces, and compared with a decoder that reads whole frames from a
/// whole stream.
///
/// The first octet is the size of the pieces, the second the limit of a message in steps of four octets.
enum WebSocketFuzzer {
    static func check(_ octets: UnsafeRawBufferPointer) -> String? {
        guard octets.count > 2 else { return nil }
        let limit = Int(octets[1]) * 4
        let stream = Array(octets.dropFirst(2))
        var reader = FrameReader(stream, byteCountMax: limit)
        let expected = reader.read()
        for size in [Int(octets[0]) + 1, 1, stream.count] {
            let found = decode(stream, size: size, byteCountMax: UInt32(limit))
            if let difference = found.difference(from: expected) { return "pieces of \(size): \(difference)" }
        }
        return CompressedFuzzer.check(stream, size: Int(octets[0]) + 1, byteCountMax: UInt32(limit))
    }

    private static func decode(_ stream: [UInt8], size: Int, byteCountMax: UInt32) -> WebSocketReading {
        var decoder = WebSocketDecoder()
        var reading = WebSocketReading()
        var control: [UInt8] = []
        var start = 0
        while start < stream.count, reading.failure == nil, !reading.isClosed {
            let count = min(size, stream.count - start)
            let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
            defer { piece.deallocate() }
            piece.copyBytes(from: stream[start..<start + count])
            start += count
            var chunk = WebSocketDecoder.Chunk(piece.baseAddress!, count)
            loop: while !reading.isClosed {
                switch decoder.decode(&chunk, byteCountMax: byteCountMax) {
                case .needsBytes, .messageEnded: break loop
                case .failed(let fault):
                    reading.failure = fault.code.rawValue
                    break loop
                case .control(let opcode, let offset, let byteCount, let isLast):
                    control += piece[offset..<offset + byteCount]
                    guard isLast else { continue }
                    reading.controls.append([opcode] + control)
                    control = []
                    reading.isClosed = opcode == WebSocketDecoder.Opcode.close
                }
            }
            reading.payload += piece[..<chunk.payloadByteCount]
        }
        return reading
    }
}

/// What was read from a stream.
struct WebSocketReading {
    var payload: [UInt8] = []
    /// Opcode and payload of each.
    var controls: [[UInt8]] = []
    var failure: UInt16?
    var isClosed = false
    /// Of `payload`, what is there whatever the pieces are: a fault may lie in the middle of one.
    var certainByteCount = 0

    func difference(from expected: WebSocketReading) -> String? {
        if failure != expected.failure {
            return
                "fails with \(failure.map(String.init) ?? "nothing"), not \(expected.failure.map(String.init) ?? "nothing")"
        }
        if controls != expected.controls { return "other control frames: \(controls), not \(expected.controls)" }
        let count = payload.count
        let isWhole = failure == nil ? count == expected.payload.count : count >= expected.certainByteCount
        if !isWhole || !expected.payload.starts(with: payload) { return "other payload" }
        return nil
    }
}

/// Reads frames as the RFC draws them, one after another, without regard to speed or pieces.
struct FrameReader {
    private let stream: [UInt8]
    private let byteCountMax: Int
    private var place = 0
    private var result = WebSocketReading()
    /// 0: no message is under way.
    private var message: UInt8 = 0
    private var text: [UInt8] = []
    private var messageByteCount = 0

    init(_ stream: [UInt8], byteCountMax: Int) {
        self.stream = stream
        self.byteCountMax = byteCountMax
    }

    mutating func read() -> WebSocketReading {
        while result.failure == nil, !result.isClosed, readFrame() {}
        return result
    }

    private mutating func fail(_ code: UInt16) -> Bool {
        result.failure = code
        return false
    }

    private mutating func octet() -> UInt8? {
        guard place < stream.count else { return nil }
        place += 1
        return stream[place - 1]
    }

    /// False: the stream ends, or is wrong.
    private mutating func readFrame() -> Bool {
        guard let first = octet() else { return false }
        let opcode = first & 0x0F
        let isControl = opcode >= 8
        let isLast = first & 0x80 != 0
        guard first & 0x70 == 0, [0, 1, 2, 8, 9, 10].contains(opcode), isLast || !isControl,
            isControl || (opcode == 0) == (message != 0)
        else { return fail(1002) }
        if opcode == 1 || opcode == 2 {
            message = opcode
            text = []
            messageByteCount = 0
        }
        guard let second = octet() else { return false }
        guard second >= 0x80, second & 0x7F < 126 || !isControl else { return fail(1002) }
        guard let length = readLength(second & 0x7F) else { return false }
        if !isControl {
            guard messageByteCount + length <= byteCountMax else { return fail(1009) }
            messageByteCount += length
        }
        var key: [UInt8] = []
        for _ in 0..<4 {
            guard let next = octet() else { return false }
            key.append(next)
        }
        return readPayload(opcode, isLast, length, key)
    }

    private mutating func readLength(_ short: UInt8) -> Int? {
        guard short >= 126 else { return Int(short) }
        let count = short == 126 ? 2 : 8
        var length: UInt64 = 0
        for index in 0..<count {
            guard let next = octet() else { return nil }
            if count == 8, index == 0, next >= 0x80 {
                _ = fail(1002)
                return nil
            }
            length = length << 8 | UInt64(next)
        }
        if length < (count == 2 ? 126 : 65536) {
            _ = fail(1002)
            return nil
        }
        return Int(min(length, 1 << 40))
    }

    private mutating func readPayload(_ opcode: UInt8, _ isLast: Bool, _ length: Int, _ key: [UInt8]) -> Bool {
        let end = min(place + length, stream.count)
        let payload = (place..<end).map { stream[$0] ^ key[($0 - place) & 3] }
        let isWhole = place + length <= stream.count
        place = end
        if opcode >= 8 {
            guard isWhole else { return false }
            result.controls.append([opcode] + payload)
            result.isClosed = opcode == 8
            return true
        }
        result.payload += payload
        if message == 1 {
            text += payload
            guard Self.mayBeText(text, isWhole: isWhole && isLast) else { return fail(1007) }
        }
        result.certainByteCount = result.payload.count
        if isWhole, isLast { message = 0 }
        return isWhole
    }

    /// The library judges. The last character of what is not whole may be cut.
    private static func mayBeText(_ octets: [UInt8], isWhole: Bool) -> Bool {
        if isText(octets) { return true }
        if isWhole { return false }
        let ends: [UInt8] = [0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF]
        for first in ends {
            if isText(octets + [first]) { return true }
            for second in ends {
                if isText(octets + [first, second]) || ends.contains(where: { isText(octets + [first, second, $0]) }) {
                    return true
                }
            }
        }
        return false
    }

    private static func isText(_ octets: [UInt8]) -> Bool { String(validating: octets, as: UTF8.self) != nil }
}
