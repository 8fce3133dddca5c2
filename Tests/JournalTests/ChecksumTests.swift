import CJournal
import Testing

struct ChecksumTests {
    static func both(_ bytes: [UInt8]) -> Set<UInt32> {
        bytes.withUnsafeBytes {
            [cjournal_crc32c(0, $0.baseAddress, $0.count), cjournal_crc32c_software(0, $0.baseAddress, $0.count)]
        }
    }

    /// RFC 3720, appendix B.4; its values are written there in the order of the bytes on the wire.
    @Test func `the examples of RFC 3720 and the check value come out`() {
        #expect(Self.both(.init(repeating: 0, count: 32)) == [0x8A91_36AA])
        #expect(Self.both(.init(repeating: 0xFF, count: 32)) == [0x62A8_AB43])
        #expect(Self.both(Array(0..<32)) == [0x46DD_794E])
        #expect(Self.both((0..<32).reversed()) == [0x113F_DB5C])
        #expect(Self.both(Array("123456789".utf8)) == [0xE306_9283])
        #expect(Self.both([]) == [0])
    }

    @Test func `at each length and place, with and without the instruction, in one piece or two, it is the same`() {
        // Long enough for each way in which pieces are taken together, and what is left over of them.
        let bytes = (0..<1300).map { UInt8(truncatingIfNeeded: $0 &* 197 &+ 31) }
        bytes.withUnsafeBytes { all in
            for start in 0..<9 {
                for count in 0..<(all.count - start) {
                    let base = all.baseAddress! + start
                    let whole = cjournal_crc32c(0, base, count)
                    let first = cjournal_crc32c(0, base, count / 3)
                    #expect(whole == cjournal_crc32c_software(0, base, count))
                    #expect(whole == cjournal_crc32c(first, base + count / 3, count - count / 3))
                }
            }
        }
    }
}
