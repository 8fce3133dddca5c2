import STOMP
import Testing

@Suite struct HexadecimalTests {
    private func read(_ text: [UInt8]) -> UInt64? { text.withUnsafeBytes { hexadecimal($0) } }

    @Test func everyNumberThatIsWrittenIsReadBack() {
        var number: UInt64 = 0x9E37_79B9_7F4A_7C15
        for _ in 0..<10_000 {
            number = number &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            var text = [UInt8](repeating: 0, count: 16)
            text.withUnsafeMutableBytes {
                var writer = FrameWriter(at: $0.baseAddress!)
                writer.writeHex(number)
            }
            let digits = String(number, radix: 16)
            #expect(String(decoding: text, as: UTF8.self) == String(repeating: "0", count: 16 - digits.count) + digits)
            #expect(read(text) == number)
        }
    }

    @Test func everyOctetThatIsNoLowerCaseDigitIsRefusedWhereverItStands() {
        let valid = Array("0123456789abcdef".utf8)
        for position in 0..<16 {
            for octet in UInt8.min...UInt8.max {
                var text = [UInt8](repeating: UInt8(ascii: "0"), count: 16)
                text[position] = octet
                let expected = valid.firstIndex(of: octet).map { UInt64($0) << UInt64((15 - position) * 4) }
                #expect(read(text) == expected, "octet \(octet) at \(position)")
            }
        }
    }

    @Test func anyOtherLengthIsRefused() {
        for count in [0, 1, 8, 15, 17] { #expect(read([UInt8](repeating: UInt8(ascii: "0"), count: count)) == nil) }
    }
}
