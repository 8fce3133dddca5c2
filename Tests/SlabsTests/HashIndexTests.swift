import Testing

@testable import Slabs

@Suite struct HashIndexTests {
    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `random operations agree with a dictionary`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var index = HashIndex(seed: seed)
        // So few hashes that many numbers share one, and neighbours run into each other.
        let hashes = (0..<300).map { _ in UInt32(generator.below(512)) }
        var model: [Int: Set<UInt32>] = [:]
        var count = 0
        for step in 0..<20_000 {
            let insertShare = step / 5000 % 2 == 0 ? 7 : 2
            let key = generator.below(hashes.count)
            let hash = hashes[key]
            let expected = model[Int(hash), default: []]
            if generator.below(10) < insertShare {
                let value = UInt32(1 + generator.below(1 << 31))
                guard !expected.contains(value) else { continue }
                index.insert(hash, value)
                model[Int(hash), default: []].insert(value)
                count += 1
            } else if let value = expected.first {
                index.remove(hash, value)
                model[Int(hash)]?.remove(value)
                count -= 1
            }
            try #require(index.count == count)
            var found: Set<UInt32> = []
            var probe = index.probe(hash)
            while case let value = index.next(&probe), value != 0 { found.insert(value) }
            try #require(found == model[Int(hash), default: []])
        }
    }

    @Test func `an empty index holds nothing, before and after`() {
        var index = HashIndex(seed: 1)
        var probe = index.probe(5)
        #expect(index.next(&probe) == 0)
        for value in 1...1000 as ClosedRange<UInt32> { index.insert(value &* 2_654_435_761, value) }
        for value in 1...1000 as ClosedRange<UInt32> { index.remove(value &* 2_654_435_761, value) }
        #expect(index.count == 0)
        probe = index.probe(5)
        #expect(index.next(&probe) == 0)
    }

    @Test func `a key's number and its bytes both count`() {
        let index = HashIndex(seed: 7)
        let bytes: [UInt8] = Array("subscription".utf8)
        bytes.withUnsafeBytes { bytes in
            let base = bytes.baseAddress!
            #expect(index.hash(1, base, 12) == index.hash(1, base, 12))
            #expect(index.hash(1, base, 12) != index.hash(2, base, 12))
            #expect(index.hash(1, base, 12) != index.hash(1, base, 11))
        }
    }
}
