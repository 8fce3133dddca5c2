import Testing

@testable import Load

struct BodyTests {
    @Test(arguments: [24, 25, 64, 1024, 100_000])
    func `a body says who sent it, which it is and when`(_ byteCount: Int) throws {
        let body = Body(byteCount: byteCount)
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 1)
        defer { bytes.deallocate() }
        let publishers = [0, 1, 127, 128, Body.publisherMax - 1]
        let sequences: [UInt64] = [0, 1, 63, 64, 127, 16_384, 1 << 35, 1 << 36 - 1]
        for publisher in publishers {
            for sequence in sequences {
                let stamp = sequence &* 999_983 & (1 << 56 - 1)
                body.write(to: bytes, publisher: publisher, sequence: sequence, stamp: stamp)
                let read = body.read(bytes)
                let message = try #require(read)
                #expect(message.publisher == publisher)
                #expect(message.sequence == sequence)
                #expect(message.stamp == stamp)
            }
        }
    }

    @Test func `a body holds no byte that ends a frame or a line`() {
        let body = Body(byteCount: 200)
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 200, alignment: 1)
        defer { bytes.deallocate() }
        for sequence in [0, 10, 2560, 1 << 20] as [UInt64] {
            body.write(to: bytes.baseAddress!, publisher: 10, sequence: sequence, stamp: sequence)
            #expect(!bytes.contains { $0 == 0 || $0 == 10 || $0 == 13 })
        }
    }

    @Test func `no damaged byte goes unnoticed`() {
        let body = Body(byteCount: 64)
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
        defer { bytes.deallocate() }
        for place in 0..<64 {
            body.write(to: bytes.baseAddress!, publisher: 5, sequence: 77, stamp: 123_456)
            bytes[place] ^= 1
            let message = body.read(bytes.baseAddress!)
            // The numbers are checked by what is expected of them.
            let isSame = message.map { $0.publisher == 5 && $0.sequence == 77 && $0.stamp == 123_456 } ?? false
            #expect(!isSame, "byte \(place)")
        }
    }
}
