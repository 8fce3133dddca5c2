import CDeflate
import Testing

@testable import Transports

@Suite("Compressed messages")
struct InflateTests {
    /// Texts of several sizes and kinds: nothing, little, much that repeats, and what cannot be compressed.
    static let messages: [[UInt8]] = {
        var random = Random(7)
        let noise = (0..<70_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let json = (0..<900).flatMap { Array("{\"id\":\($0),\"name\":\"Ähre \($0 % 7)\"},".utf8) }
        return [[], [0x0A], Array("Hello".utf8), json, [UInt8](repeating: 0x61, count: 60_000), noise]
    }()

    private static func isText(_ bytes: [UInt8]) -> Bool { String(validating: bytes, as: UTF8.self) != nil }

    @Test(arguments: [false, true], [9, 12, 15])
    func `what is deflated is inflated to the same, with any room`(takesOver: Bool, windowBits: Int) throws {
        for room in [1, 7, 4096] {
            var deflater = MessageDeflater(windowBits: windowBits, takesOver: takesOver)
            var inflater = MessageInflater(windowBits: windowBits, takesOver: takesOver)
            for message in Self.messages + Self.messages.reversed() {
                let deflated = deflater.deflate(message)
                let result = inflater.inflate(
                    deflated, isText: Self.isText(message), limits: InflateLimits(byteCountMax: 1 << 20),
                    roomByteCount: room)
                #expect(try result.get() == message)
            }
        }
    }

    @Test func `the examples of RFC 7692, section 7 2 3, are inflated`() throws {
        var inflater = MessageInflater(windowBits: 15, takesOver: true)
        let hello = Array("Hello".utf8)
        for bytes in [
            // One block; a reference to the message before; a block that is stored; a block that is marked as the last one,
            // with another one behind it; two blocks.
            [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], [0xF2, 0x00, 0x11, 0x00, 0x00],
            [0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
            [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], [0xF2, 0x00, 0x11, 0x00, 0x00],
            [0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
        ] as [[UInt8]] {
            #expect(try inflater.inflate(bytes, isText: true, limits: InflateLimits(byteCountMax: 100)).get() == hello)
        }
        #expect(try inflater.inflate([0], isText: true, limits: InflateLimits(byteCountMax: 100)).get() == [])
    }

    @Test func `a message may be split at every byte`() throws {
        let message = Self.messages[3]
        var deflater = MessageDeflater(windowBits: 15, takesOver: false)
        let deflated = deflater.deflate(message) + [0, 0, 0xFF, 0xFF]
        let stream = try #require(inflate_stream_make(15))
        defer { inflate_stream_free(stream) }
        var room = [UInt8](repeating: 0, count: message.count + 1)
        for split in 0...deflated.count {
            var progress = InflateProgress()
            var output: [UInt8] = []
            for piece in [Array(deflated[..<split]), Array(deflated[split...])] {
                withBytes(piece) { bytes in
                    var rest = bytes
                    let (outcome, count) = room.withUnsafeMutableBytes {
                        progress.run(
                            stream, &rest, into: $0, isText: true, limits: InflateLimits(byteCountMax: 1 << 20))
                    }
                    #expect(outcome == .needsInput)
                    output += room[..<count]
                }
            }
            #expect(output == message)
            #expect(progress.isComplete(stream, isText: true))
            inflate_stream_reset(stream)
        }
    }

    @Test func `a message that is cut short, or is none, is malformed`() {
        var deflater = MessageDeflater(windowBits: 15, takesOver: false)
        let deflated = deflater.deflate(Self.messages[3])
        for count in [1, 2, 10, deflated.count / 2, deflated.count - 1] {
            var inflater = MessageInflater(windowBits: 15, takesOver: false)
            let result = inflater.inflate(
                Array(deflated[..<count]), isText: false, limits: InflateLimits(byteCountMax: 1 << 20))
            #expect(result == .failure(CloseCodeError(code: .invalidPayload)), "\(count)")
        }
        for wrong in [
            // A kind of block that there is not, a stored block whose lengths differ, a reference to what was not there.
            [0x07], [0x00, 0x05, 0x00, 0x05, 0x00, 0x48], [0xF2, 0x00, 0x11, 0x00, 0x00],
        ] as [[UInt8]] {
            var inflater = MessageInflater(windowBits: 15, takesOver: false)
            let result = inflater.inflate(wrong, isText: false, limits: InflateLimits(byteCountMax: 1 << 20))
            #expect(result == .failure(CloseCodeError(code: .invalidPayload)), "\(wrong)")
        }
    }

    @Test func `a reference beyond the window that was agreed on is malformed`() {
        var random = Random(3)
        let start = (0..<600).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        var deflater = MessageDeflater(windowBits: 15, takesOver: false)
        let deflated = deflater.deflate(start + start)
        var inflater = MessageInflater(windowBits: 9, takesOver: false)
        // The output is written piece by piece, so that only the window has what is before a piece.
        let result = inflater.inflate(
            deflated, isText: false, limits: InflateLimits(byteCountMax: 1 << 20), roomByteCount: 64)
        #expect(result == .failure(CloseCodeError(code: .invalidPayload)))
    }

    @Test func `text is checked after it is inflated`() throws {
        var deflater = MessageDeflater(windowBits: 15, takesOver: false)
        var inflater = MessageInflater(windowBits: 15, takesOver: false)
        for (bytes, isText) in [([0xC3, 0xA4], true), ([0xC3], false), ([0x61, 0xFF], false)] as [([UInt8], Bool)] {
            let result = inflater.inflate(
                deflater.deflate(bytes), isText: true, limits: InflateLimits(byteCountMax: 100), roomByteCount: 1)
            #expect(result == (isText ? .success(bytes) : .failure(CloseCodeError(code: .invalidPayload))))
            if !isText { inflater = MessageInflater(windowBits: 15, takesOver: false) }
        }
    }

    @Test func `a message that inflates beyond the limit, or a hundred times, is stopped`() {
        let tooBig = Result<[UInt8], CloseCodeError>.failure(CloseCodeError(code: .messageTooBig))
        func inflate(_ count: Int, limit: UInt32) -> Result<[UInt8], CloseCodeError> {
            var deflater = MessageDeflater(windowBits: 15, takesOver: false, level: 9)
            var inflater = MessageInflater(windowBits: 15, takesOver: false)
            return inflater.inflate(
                deflater.deflate([UInt8](repeating: 0x20, count: count)), isText: true,
                limits: InflateLimits(byteCountMax: limit))
        }
        for count in [1, 100, 10_000] {
            #expect(inflate(count, limit: UInt32(count)) == .success([UInt8](repeating: 0x20, count: count)))
            #expect(inflate(count, limit: UInt32(count) - 1) == tooBig)
        }
        // 64 KiB are allowed whatever the ratio; 1 MiB of blanks are 1,000 bytes.
        #expect((try? inflate(64 << 10, limit: 1 << 24).get())?.count == 64 << 10)
        #expect(inflate(1 << 20, limit: 1 << 24) == tooBig)
    }

    @Test func `streams take no more memory than is counted for them`() {
        // What zlib allocates is not seen from here, so the figures of zconf.h are compared with those of the shim.
        #expect(inflate_stream_byte_count(15) >= 32768 + 7160)
        #expect(deflate_stream_byte_count(15, 8) >= 262_144 + 5936)
    }
}
