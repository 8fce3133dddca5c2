import Testing

@testable import Broker

/// The ring of a log's entries, alone.
@Suite("Ring of a log")
struct LogRingTests {
    private func entry(_ offset: UInt64, at milliseconds: UInt64 = 0) -> LogEntry {
        LogEntry(
            offset: offset, milliseconds: milliseconds, identity: offset * 3, expiresAt: 0, message: UInt32(offset),
            retained: 0, retain: .none, isStored: false)
    }

    private func offsets(_ ring: LogRing) -> [UInt64] { (0..<ring.count).map { ring[$0].offset } }

    @Test("It holds what was appended and not removed, at every place of the ring")
    func model() {
        var ring = LogRing()
        defer { ring.deallocate() }
        var model: [UInt64] = []
        var next: UInt64 = 0
        var random = SystemRandomNumberGenerator()
        for round in 0..<5_000 {
            let grows = round / 500 % 2 == 0
            if model.isEmpty || Int.random(in: 0..<10, using: &random) < (grows ? 7 : 3) {
                // Offsets may have gaps.
                next += UInt64.random(in: 1...3, using: &random)
                ring.append(entry(next, at: next / 2))
                model.append(next)
            } else {
                let removed = ring.removeFirst()
                #expect(removed.offset == model.removeFirst() && removed.identity == removed.offset * 3)
            }
            #expect(ring.count == UInt32(model.count))
            if round % 50 == 0 { #expect(offsets(ring) == model) }
            let wanted = UInt64.random(in: 0...next + 2, using: &random)
            #expect(ring.index(atOrBehind: wanted) == UInt32(model.firstIndex { $0 >= wanted } ?? model.count))
            #expect(ring.index(since: wanted) == UInt32(model.firstIndex { $0 / 2 >= wanted } ?? model.count))
        }
    }

    @Test("What is inserted comes to its place, and no offset twice")
    func insertion() {
        for count in 0..<20 as Range<UInt64> {
            for place in 0...count {
                var ring = LogRing()
                // The ring begins anywhere.
                for offset in 0..<5 as Range<UInt64> { ring.append(entry(offset)) }
                for _ in 0..<5 { _ = ring.removeFirst() }
                for offset in 0...count where offset != place {
                    let isNew = ring.insert(entry(offset))
                    #expect(isNew)
                }
                let isNew = ring.insert(entry(place))
                let isAgain = ring.insert(entry(place))
                #expect(isNew && !isAgain)
                #expect(offsets(ring) == Array(0...count))
                ring.deallocate()
            }
        }
    }
}
