import STOMP
import Testing

@Suite struct FrameWriterTests {
    private func written(_ write: (inout FrameWriter) -> Void) -> String {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 1)
        defer { memory.deallocate() }
        var writer = FrameWriter(at: memory)
        write(&writer)
        return String(decoding: UnsafeRawBufferPointer(start: memory, count: writer.cursor - memory), as: UTF8.self)
    }

    @Test func numbersAreWrittenInDecimal() {
        var numbers: [UInt64] = [0, .max, .max - 1]
        var power: UInt64 = 1
        for _ in 0..<20 {
            numbers += [power - 1, power, power + 1, power &* 9]
            power = power &* 10
        }
        var random = SeededGenerator(seed: 1)
        for _ in 0..<1_000 { numbers.append(random.next() >> UInt64.random(in: 0..<64, using: &random)) }
        for number in numbers {
            #expect(written { $0.writeDecimal(number) } == String(number))
            #expect(FrameWriter.decimalByteCount(number) == String(number).count)
        }
    }

    @Test func numbersAreWrittenInHexadecimal() {
        #expect(written { $0.writeHex(0) } == "0000000000000000")
        #expect(written { $0.writeHex(0x0123_4567_89AB_CDEF) } == "0123456789abcdef")
        #expect(written { $0.writeHex(.max) } == "ffffffffffffffff")
    }

    @Test func piecesFollowOneAnother() {
        let text = written { writer in
            writer.write("RECEIPT\nreceipt-id")
            writer.write(UInt8(ascii: ":"))
            Array("12".utf8).withUnsafeBytes { writer.write($0) }
            Array("34".utf8).withUnsafeBytes { writer.write($0.baseAddress!, 2) }
            writer.write(UnsafeRawBufferPointer(start: nil, count: 0))
        }
        #expect(text == "RECEIPT\nreceipt-id:1234")
    }

    @Test(arguments: [
        (Version.v1_0, #"a\nb:c\d\#re"#), (.v1_1, #"a\nb\cc\\d\#re"#), (.v1_2, #"a\nb\cc\\d\re"#),
    ])
    func eachVersionHasItsEscapes(version: Version, expected: String) {
        let canonical = Array("a\nb:c\\d\re".utf8)
        #expect(
            written { writer in canonical.withUnsafeBytes { writer.writeEscaped($0, version: version) } } == expected)
    }

    @Test func connectFramesAreNotEscaped() {
        let canonical = Array("a:b\\c\rd".utf8)
        let text = written { writer in
            canonical.withUnsafeBytes { writer.writeEscaped($0, version: .v1_2, isConnectFrame: true) }
        }
        #expect(text == "a:b\\c\rd")
    }

    @Test(arguments: Version.allCases, Version.allCases)
    func aHeaderKeepsItsMeaningFromVersionToVersion(from: Version, to: Version) {
        var random = SeededGenerator(seed: 7)
        let meaningful = Array(":\\\n\rab \tncr".utf8)
        for _ in 0..<500 {
            var name = [UInt8(ascii: "n")] + random.octets(0...6, from: meaningful) + [UInt8(ascii: "n")]
            var value = [UInt8(ascii: "v")] + random.octets(0...12, from: meaningful) + [UInt8(ascii: "v")]
            if from == .v1_0 || to == .v1_0 {
                // 1.0 cannot hold a line feed, nor a colon in a name.
                name.removeAll { $0 == 0x0A || $0 == 0x3A }
                value.removeAll { $0 == 0x0A }
            }
            let original = ClientFrame(
                .send, [(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))])
            let received = String(decoding: original.encoded(from), as: UTF8.self)
            let sent = withFrame(received, from) { frame in
                "SEND\n" + written { $0.writeTranscoded(frame.field(0), of: frame, from: from, to: to) } + "\n\0"
            }
            #expect(withFrame(sent, to) { ClientFrame($0) } == original, "\(received.debugDescription)")
            #expect(sent == String(decoding: original.encoded(to), as: UTF8.self))
        }
    }

    @Test func aTranscodedHeaderLosesItsOwnVersionsFreedoms() {
        func transcoded(_ line: String, _ from: Version, _ to: Version) -> String {
            withFrame("SEND\n\(line)\n\n\0", from) { frame in
                written { $0.writeTranscoded(frame.field(0), of: frame, from: from, to: to) }
            }
        }
        #expect(transcoded(" a : b ", .v1_0, .v1_2) == "a:b\n")
        #expect(transcoded("a:b\r", .v1_2, .v1_1) == "a:b\n")
        #expect(transcoded("a:b:c", .v1_2, .v1_2) == "a:b\\cc\n")
        #expect(transcoded("a:b\rc", .v1_1, .v1_2) == "a:b\\rc\n")
        #expect(transcoded("a:b\\rc", .v1_2, .v1_1) == "a:b\rc\n")
        #expect(transcoded("a:b\\nc", .v1_2, .v1_0) == "a:b\\nc\n")
        #expect(transcoded("a\\cb:c\\cd", .v1_2, .v1_0) == "a:b:c:d\n")
        #expect(transcoded("a:b\\c", .v1_0, .v1_1) == "a:b\\\\c\n")
    }
}
