import STOMP
import Testing

@Suite struct ClientFrameTests {
    @Test func aFrameIsEncoded() {
        let frame = ClientFrame(.send, [("destination", "/queue/a:b")], text: "hello")
        #expect(
            String(decoding: frame.encoded(.v1_2), as: UTF8.self)
                == "SEND\ndestination:/queue/a\\cb\ncontent-length:5\n\nhello\0")
        let connect = ClientFrame(.connect, [("login", "a:b\\")])
        #expect(String(decoding: connect.encoded(.v1_2), as: UTF8.self) == "CONNECT\nlogin:a:b\\\n\n\0")
        let counted = ClientFrame(.send, [("content-length", "2")], text: "hi")
        #expect(String(decoding: counted.encoded(.v1_0), as: UTF8.self) == "SEND\ncontent-length:2\n\nhi\0")
    }

    @Test func theDecoderFollowsTheVersionOfConnected() throws {
        var decoder = ClientFrameDecoder()
        decoder.push("CONNECTED\nversion:1.2\nserver:a\\b\n\n\0\n\n".utf8)
        decoder.push(#"MESSAGE\#nx:a\cb\#n\#nbo"#.utf8)
        let connected = try #require(try decoder.pop())
        #expect(connected["server"] == #"a\b"#)
        #expect(decoder.version == .v1_2)
        #expect(try decoder.pop() == nil)
        decoder.push("dy\0\n".utf8)
        let message = try #require(try decoder.pop())
        #expect(message["x"] == "a:b")
        #expect(message["absent"] == nil)
        #expect(message.text == "body")
        #expect(try decoder.pop() == nil)
        #expect(decoder.pendingByteCount == 0)
    }

    @Test func theDecoderThrowsWhatTheParserFinds() throws {
        var decoder = ClientFrameDecoder(version: .v1_2)
        decoder.push("MESSAGE\nx:\\t\n\n\0".utf8)
        #expect(throws: FrameError(code: .undefinedEscape, offset: 10)) { try decoder.pop() }
    }

    /// A thousand frames of each version, all octets in them, in pieces of random length.
    @Test(arguments: Version.allCases)
    func randomFramesSurviveTheRoundTrip(version: Version) throws {
        var random = SeededGenerator(seed: UInt64(version.rawValue) + 100)
        var frames: [ClientFrame] = []
        var stream: [UInt8] = []
        for _ in 0..<1_000 {
            let command = Command.allCases.filter { !$0.precedesVersion }.randomElement(using: &random)!
            var frame = ClientFrame(command)
            for _ in 0..<Int.random(in: 0...8, using: &random) {
                frame.headers.append(ClientFrame.Header(text(&random, 1...20, version), text(&random, 0...40, version)))
            }
            if command.carriesBody {
                frame.body = random.octets(0...300, from: Array(0...255))
                if !frame.body.isEmpty {
                    frame.headers.append(ClientFrame.Header("content-length", "\(frame.body.count)"))
                }
            }
            frames.append(frame)
            stream += frame.encoded(version) + random.octets(0...3, from: [0x0A])
        }
        var decoder = ClientFrameDecoder(version: version)
        var decoded: [ClientFrame] = []
        var start = 0
        while start < stream.count {
            let end = min(stream.count, start + Int.random(in: 1...200, using: &random))
            decoder.push(stream[start..<end])
            while let frame = try decoder.pop() { decoded.append(frame) }
            start = end
        }
        #expect(decoded == frames)
        #expect(decoder.pendingByteCount == 0)
    }

    /// Text of all characters that the version can express in a header, with a letter at both ends where it trims.
    private func text(_ random: inout SeededGenerator, _ counts: ClosedRange<Int>, _ version: Version) -> String {
        var scalars = (0..<Int.random(in: counts, using: &random)).map { _ -> Unicode.Scalar in
            random.chance(50)
                ? Unicode.Scalar(UInt8.random(in: 1...127, using: &random))
                : ["\\", ":", "\n", "\r", "é", "€", "𝄞"].randomElement(using: &random)!
        }
        if version == .v1_0 {
            scalars.removeAll { $0 == "\n" || $0 == ":" }
            scalars = ["a"] + scalars + ["z"]
        }
        return String(String.UnicodeScalarView(scalars))
    }
}
