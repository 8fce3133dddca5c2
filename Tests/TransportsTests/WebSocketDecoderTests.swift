import COctets
import Testing

@testable import Transports

/// What a decoder made of a stream.
struct Decoded: Equatable {
    struct Control: Equatable {
        var opcode: UInt8
        var payload: [UInt8]
    }

    var payload: [UInt8] = []
    var controls: [Control] = []
    var fault: WebSocketFault?
    var failure: CloseCode? { fault?.code }
    /// The decoder as it was at the end.
    var isBetweenMessages = true

    /// Decodes pieces of a stream, each in memory of its own.
    static func decode(_ pieces: [ArraySlice<UInt8>], byteCountMax: UInt32 = 1 << 20) -> Decoded {
        var decoder = WebSocketDecoder()
        var result = Decoded()
        var control: [UInt8] = []
        for piece in pieces {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 1)
            defer { buffer.deallocate() }
            buffer.copyBytes(from: piece)
            guard let base = buffer.baseAddress else { continue }
            var chunk = WebSocketDecoder.Chunk(base, piece.count)
            loop: while true {
                switch decoder.decode(&chunk, byteCountMax: byteCountMax) {
                case .needsBytes, .messageEnded: break loop
                case .failed(let fault):
                    result.fault = fault
                    break loop
                case .control(let opcode, let offset, let byteCount, let isLast):
                    control += buffer[offset..<offset + byteCount]
                    if isLast {
                        result.controls.append(Control(opcode: opcode, payload: control))
                        control = []
                    }
                }
            }
            result.payload += buffer[..<chunk.payloadByteCount]
            if result.failure != nil { break }
        }
        result.isBetweenMessages = decoder.isBetweenMessages
        return result
    }

    static func decode(_ bytes: [UInt8], byteCountMax: UInt32 = 1 << 20) -> Decoded {
        decode([bytes[...]], byteCountMax: byteCountMax)
    }
}

@Suite("The decoder of WebSocket frames")
struct WebSocketDecoderTests {
    static let stream: [WireFrame] = [
        .text("CONNECT\naccept-version:1.2\n\n\0"), WireFrame(opcode: 9, payload: Array("ping".utf8)), .text("\n"),
        .text("SEND\ndestination:/topic/a\n\nKöln ", isLast: false), WireFrame(opcode: 10, payload: []),
        WireFrame(isLast: false, opcode: 0, payload: Array("is".utf8)), WireFrame(opcode: 9, payload: []),
        WireFrame(isLast: false, opcode: 0, payload: []), WireFrame(opcode: 0, payload: Array(" nice €\0".utf8)),
        WireFrame(opcode: 2, payload: [0xFF, 0, 0xFE]), WireFrame(opcode: 1, payload: []),
        WireFrame(opcode: 2, payload: [UInt8](repeating: 0x5A, count: 126)),
        WireFrame(opcode: 9, payload: [UInt8](repeating: 7, count: 125)),
        WireFrame(opcode: 8, payload: [0x03, 0xE8] + Array("bye".utf8)),
    ]

    static let expected = Decoded(
        payload: stream.filter { $0.opcode < 8 }.flatMap(\.payload),
        controls: stream.filter { $0.opcode >= 8 }.map { Decoded.Control(opcode: $0.opcode, payload: $0.payload) })

    static func wire(_ frames: [WireFrame]) -> [UInt8] {
        frames.enumerated().flatMap { place, frame in
            frame.masked(key: [UInt8(place), 0xA5, UInt8(truncatingIfNeeded: place &* 77), 0xFF])
        }
    }

    @Test func `a stream is decoded the same whatever its pieces are`() {
        let bytes = Self.wire(Self.stream)
        #expect(Decoded.decode(bytes) == Self.expected)
        for split in 0...bytes.count {
            #expect(Decoded.decode([bytes[..<split], bytes[split...]]) == Self.expected, "split at \(split)")
        }
        for size in 1...40 {
            let pieces = stride(from: 0, to: bytes.count, by: size).map { bytes[$0..<min($0 + size, bytes.count)] }
            #expect(Decoded.decode(pieces) == Self.expected, "pieces of \(size)")
        }
    }

    @Test func `random streams in random pieces`() {
        for seed in 1...60 as ClosedRange<UInt64> {
            var random = Random(seed)
            var frames: [WireFrame] = []
            for _ in 0..<8 {
                let count = [0, 1, 5, 125, 126, 127, 300, 65535, 65536, 70000][random.below(10)]
                let payload = (0..<count).map { _ in UInt8(random.next() >> 56) }
                let splits = random.below(3)
                if splits == 0 { frames.append(WireFrame(opcode: 2, payload: payload)) }
                for part in 0..<splits {
                    let piece = payload[count * part / splits..<count * (part + 1) / splits]
                    frames.append(
                        WireFrame(isLast: part == splits - 1, opcode: part == 0 ? 2 : 0, payload: Array(piece)))
                    if random.below(2) == 0 {
                        frames.append(WireFrame(opcode: 9, payload: Array(payload.prefix(random.below(126)))))
                    }
                }
            }
            let bytes = frames.flatMap { frame in
                frame.masked(key: (0..<4).map { _ in UInt8(random.next() >> 56) })
            }
            var pieces: [ArraySlice<UInt8>] = []
            var place = 0
            while place < bytes.count {
                let end = min(place + 1 + random.below([1, 7, 20, 3000, 100_000][random.below(5)]), bytes.count)
                pieces.append(bytes[place..<end])
                place = end
            }
            let expected = Decoded(
                payload: frames.filter { $0.opcode < 8 }.flatMap(\.payload),
                controls: frames.filter { $0.opcode >= 8 }.map {
                    Decoded.Control(opcode: $0.opcode, payload: $0.payload)
                })
            #expect(Decoded.decode(pieces) == expected, "seed \(seed)")
        }
    }

    static let faults: [(String, WebSocketFault, [UInt8])] =
        [
            ("not masked", .unmasked, [0x81, 0x01, 0x41]), ("not masked, empty", .unmasked, [0x81, 0x00]),
            ("not masked, long", .unmasked, [0x82, 0x7E]),
            ("reserved bit 1", .reservedBit, WireFrame.text("a").masked(reserved: 0x40)),
            ("reserved bit 2", .reservedBit, WireFrame.text("a").masked(reserved: 0x20)),
            ("reserved bit 3", .reservedBit, WireFrame.text("a").masked(reserved: 0x10)),
            ("a continuation of nothing", .continuesNothing, WireFrame(opcode: 0, payload: [1]).masked()),
            (
                "a continuation of what has ended", .continuesNothing,
                WireFrame.text("a").masked() + WireFrame(opcode: 0, payload: [1]).masked()
            ),
            (
                "a message within a message", .messageInMessage,
                WireFrame.text("a", isLast: false).masked() + WireFrame.text("b").masked()
            ),
            (
                "a binary message within a message", .messageInMessage,
                WireFrame.text("a", isLast: false).masked() + WireFrame(opcode: 2, payload: []).masked()
            ),
            ("a ping in fragments", .fragmentedControl, WireFrame(isLast: false, opcode: 9, payload: []).masked()),
            ("a close in fragments", .fragmentedControl, WireFrame(isLast: false, opcode: 8, payload: []).masked()),
            ("a long ping", .longControl, WireFrame(opcode: 9, payload: [UInt8](repeating: 0, count: 126)).masked()),
            ("a very long pong", .longControl, [0x8A, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
            ("2 octets for a length of 1", .longLength, [0x82, 0xFE, 0, 125, 1, 2, 3, 4]),
            ("8 octets for a length of 2", .longLength, [0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4]),
            ("a length of 64 bits", .lengthBeyond63Bits, [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4]),
            ("a length beyond 32 bits", .tooLong, [0x82, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]),
            ("the greatest length", .tooLong, [0x82, 0xFF, 0x7F] + [UInt8](repeating: 0xFF, count: 11)),
            ("a length beyond the limit", .tooLong, [0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4]),
            ("text that is none", .noText, WireFrame(opcode: 1, payload: [0x41, 0xFF]).masked()),
            ("text that is cut", .noText, WireFrame(opcode: 1, payload: [0xE2, 0x82]).masked()),
            (
                "text that is cut, and goes on", .noText,
                WireFrame(opcode: 1, payload: [0xE2, 0x82]).masked() + WireFrame.text("a").masked()
            ),
            (
                "text that is none across fragments", .noText,
                WireFrame(isLast: false, opcode: 1, payload: [0xE2, 0x82]).masked()
                    + WireFrame(opcode: 0, payload: [0x41]).masked()
            ),
            (
                "text that is cut in its last fragment", .noText,
                WireFrame(isLast: false, opcode: 1, payload: [0xE2, 0x82]).masked()
                    + WireFrame(opcode: 0, payload: []).masked()
            ),
        ]
        + [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map { opcode in
            ("opcode \(opcode)", .unknownOpcode, WireFrame(opcode: opcode, payload: []).masked())
        }

    @Test(arguments: faults.indices)
    func `a fault has its close code, and what came before it is delivered`(_ index: Int) {
        let (name, fault, wrong) = Self.faults[index]
        let before = WireFrame.text("good").masked()
        let bytes = before + wrong
        #expect(Decoded.decode(bytes).fault == fault, "\(name)")
        for split in 0...bytes.count {
            let decoded = Decoded.decode([bytes[..<split], bytes[split...]])
            #expect(decoded.fault == fault, "\(name), split at \(split)")
            #expect(decoded.payload.starts(with: "good".utf8), "\(name), split at \(split)")
        }
    }

    @Test func `the limit holds for a message, not for its frames`() {
        let half = [UInt8](repeating: 1, count: 50)
        func decode(_ last: Int) -> Decoded {
            Decoded.decode(
                WireFrame(isLast: false, opcode: 2, payload: half).masked()
                    + WireFrame(isLast: false, opcode: 0, payload: []).masked()
                    + WireFrame(opcode: 9, payload: half).masked()
                    + WireFrame(opcode: 0, payload: [UInt8](repeating: 2, count: last)).masked(), byteCountMax: 100)
        }
        #expect(decode(50).failure == nil)
        #expect(decode(50).payload.count == 100)
        #expect(decode(51).failure == .messageTooBig)
        #expect(decode(51).payload.count == 50)
        let whole = [UInt8](repeating: 1, count: 100)
        let messages = (0..<3).flatMap { _ in WireFrame(opcode: 2, payload: whole).masked() }
        #expect(Decoded.decode(messages, byteCountMax: 100).payload.count == 300)
    }

    @Test func `a decoder takes 17 bytes`() { #expect(MemoryLayout<WebSocketDecoder>.size == 17) }

    // MARK: Close frames

    @Test func `close codes are those that may be sent`() {
        func answer(_ payload: [UInt8]) -> CloseCode { withBytes(payload) { CloseCode.answer(to: $0).code } }
        func answer(_ code: UInt16) -> CloseCode { answer([UInt8(code >> 8), UInt8(code & 0xFF)]) }
        #expect(answer([]) == .none)
        #expect(answer([3]) == .protocolError)
        let allowed: [ClosedRange<UInt16>] = [1000...1003, 1007...1014, 3000...4999]
        for code in 0...UInt16(5100) {
            let isAllowed = allowed.contains { $0.contains(code) }
            #expect(answer(code) == (isAllowed ? CloseCode(rawValue: code) : .protocolError), "\(code)")
        }
        #expect(answer(UInt16.max) == .protocolError)
        #expect(answer([3, 0xE8] + Array("für".utf8)) == .normal)
        #expect(answer([3, 0xE8, 0xC3]) == .invalidPayload)
        #expect(answer([3, 0xE8, 0xFF]) == .invalidPayload)
    }
}

@Suite("Octets: masks and UTF-8")
struct OctetTests {
    @Test func `a mask is undone wherever the bytes lie and go`() {
        var random = Random(5)
        for count in 0...100 {
            for shift in [0, 1, 2, 3, 5, 14, 15, 16, 17, 40] {
                let key = UInt32(truncatingIfNeeded: random.next())
                var bytes = (0..<count + shift).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                let expected = (0..<count).map { place in
                    bytes[shift + place] ^ UInt8(truncatingIfNeeded: key >> UInt32(8 * (place & 3)))
                }
                bytes.withUnsafeMutableBytes { buffer in
                    guard let base = buffer.baseAddress else { return }
                    octets_unmask(base, base + shift, count, key)
                }
                #expect(Array(bytes[..<count]) == expected, "\(count) moved by \(shift)")
            }
        }
    }

    /// The library's own verdict.
    private static func isText(_ bytes: [UInt8]) -> Bool { String(validating: bytes, as: UTF8.self) != nil }

    @Test func `every sequence of one to four octets has the verdict of the library`() {
        let edges: [UInt8] = [
            0x00, 0x0A, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED,
            0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
        ]
        for octet in 0...UInt8.max { check([octet]) }
        for first in edges {
            for second in edges {
                check([first, second])
                for third in edges {
                    check([first, second, third])
                    for fourth in edges { check([first, second, third, fourth]) }
                }
            }
        }
    }

    private func check(_ bytes: [UInt8]) {
        let verdict = withBytes(bytes) { TextCheck.isText($0) }
        if verdict != Self.isText(bytes) { Issue.record("\(bytes) is text: \(verdict)") }
    }

    @Test func `text is text in whatever pieces it comes, and wherever the fault lies`() {
        let text = Array("0123456789abcdef Köln € 😀 0123456789abcdef0123456789abcdef ü".utf8)
        for split in 0...text.count {
            var state: UInt16 = 0
            let isText = withBytes(Array(text[..<split])) { bytes in
                bytes.isEmpty || TextCheck.check(bytes.baseAddress!, bytes.count, &state)
            }
            let goesOn = withBytes(Array(text[split...])) { bytes in
                bytes.isEmpty || TextCheck.check(bytes.baseAddress!, bytes.count, &state)
            }
            #expect(isText && goesOn && state == 0, "split at \(split)")
        }
        for place in text.indices {
            var broken = text
            broken[place] = 0xFF
            #expect(withBytes(broken) { !TextCheck.isText($0) }, "\(place)")
        }
    }
}

@Suite("The framer of WebSocket")
struct WebSocketFramerTests {
    @Test func `headers have the shortest length and are read as they were written`() {
        for count in [0, 1, 125, 126, 127, 65535, 65536, 1 << 20] {
            for (opcode, isLast) in [(1, true), (2, false), (0, false)] as [(UInt8, Bool)] {
                var bytes = [UInt8](repeating: 0xEE, count: 10)
                let length = bytes.withUnsafeMutableBytes {
                    WebSocketFramer.writeHeader(
                        opcode: opcode, isLast: isLast, payloadByteCount: count, to: $0.baseAddress!)
                }
                #expect(length == WebSocketFramer.headerByteCount(of: count))
                #expect(bytes[length...].allSatisfy { $0 == 0xEE })
                let (frames, _) = WireFrame.decode(Array(bytes[..<length]) + [UInt8](repeating: 3, count: count))
                #expect(frames.count == 1 && frames[0].opcode == opcode && frames[0].isLast == isLast)
                #expect(frames[0].payload.count == count)
                let read = bytes.withUnsafeBytes { WebSocketFramer.readHeader($0.baseAddress!) }
                #expect(read.isLast == isLast && read.opcode == opcode && read.payloadByteCount == count)
            }
        }
    }

    @Test func `close frames have a code or none`() {
        var bytes = [UInt8](repeating: 0, count: 4)
        #expect(bytes.withUnsafeMutableBytes { WebSocketFramer.writeClose(.messageTooBig, to: $0.baseAddress!) } == 4)
        #expect(bytes == [0x88, 2, 0x03, 0xF1])
        #expect(bytes.withUnsafeMutableBytes { WebSocketFramer.writeClose(.none, to: $0.baseAddress!) } == 2)
        #expect(bytes[..<2] == [0x88, 0])
    }

    @Test func `a fault has words that fit into a close frame`() {
        for fault in WebSocketFault.allCases {
            let reason = String(describing: fault.reason)
            #expect(!reason.isEmpty && reason.utf8.count <= 123 && reason.utf8.allSatisfy { $0 < 0x80 }, "\(fault)")
            let code: UInt16 =
                switch fault {
                case .tooLong, .inflatesTooFar: 1009
                case .noText, .closeReasonIsNoText, .malformedCompression: 1007
                case .noMemoryToInflate: 1013
                case .reservedBit, .unknownOpcode, .unmasked, .longLength, .lengthBeyond63Bits, .fragmentedControl,
                    .longControl, .closeOfOneByte, .closeCodeNotAllowed, .continuesNothing, .messageInMessage,
                    .compressedInTheMiddle:
                    1002
                }
            #expect(fault.code.rawValue == code, "\(fault)")
            #expect(CloseAnswer(fault).code == fault.code && CloseAnswer(fault).fault == fault, "\(fault)")
            var bytes = [UInt8](repeating: 0, count: 2 + WebSocketDecoder.controlByteCountMax)
            let count = bytes.withUnsafeMutableBytes {
                WebSocketFramer.writeClose(fault.code, reason: fault.reason, to: $0.baseAddress!)
            }
            let frames = WireFrame.decode(Array(bytes[..<count])).frames
            #expect(frames == [WireFrame.close(fault)], "\(fault)")
        }
        for code in [.none, .normal, .goingAway, CloseCode(rawValue: 4999)] {
            #expect(CloseAnswer(code).code == code && CloseAnswer(code).fault == nil)
        }
    }
}

extension WireFrame {
    /// As the broker answers a fault: the code, and in words what was wrong.
    static func close(_ fault: WebSocketFault) -> WireFrame {
        let code = fault.code.rawValue
        return WireFrame(
            opcode: 8, payload: [UInt8(code >> 8), UInt8(code & 0xFF)] + Array(String(describing: fault.reason).utf8))
    }
}
