import STOMP
import Testing

@Suite struct FrameParserTests {
    @Test func aSendIsParsedInPlace() {
        let bytes = Array("\nSEND\ndestination:/queue/a\ncontent-length:3\nx:y\n\na\0b\0\n".utf8)
        for cut in 0..<bytes.count {
            let result = transcript(bytes, Reading(), cuts: [cut])
            #expect(result.frames.count == 1)
            #expect(result.frames.first?.body == Array("a\0b".utf8))
            #expect(result.end == .clean)
        }
    }
}
