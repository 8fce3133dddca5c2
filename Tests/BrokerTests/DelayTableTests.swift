import Slabs
import Testing

@testable import Broker

@Suite("Delayed messages: table")
struct DelayTableTests {
    private static func message() -> Message {
        let place = UnsafeRawPointer(bitPattern: 16)!
        return Message(
            headers: place, headersByteCount: 0, body: place, bodyByteCount: 0, isPlain: true, identity: 1, expiresAt: 0
        )
    }

    @Test("Where one topic has no room, its messages wait, and those of other topics and of queues do not")
    func blocked() throws {
        var delays = try DelayTable(Limits())
        for _ in 0..<3 {
            _ = delays.hold(
                1, Self.message(), for: .none, dueAt: 100, byteCount: 1, isStored: false, keepsRoom: false)
        }
        let first = delays.earliest(by: 100)
        let full = DelayTarget(queue: .none, topicHash: 7)
        var hasBlocked = [delays.hasBlocked]
        delays.postponeEarliest(until: 350, at: full)
        hasBlocked.append(delays.hasBlocked)
        let next = delays.earliest(by: 100)
        #expect(next != first && !next.isNone)
        let message = delays[next].pointee
        let times = [
            delays.blockedUntil(message, full, after: 100),
            delays.blockedUntil(message, DelayTarget(queue: .none, topicHash: 8), after: 100),
            delays.blockedUntil(message, full, after: 350),
        ]
        #expect(times == [350, nil, nil])
        hasBlocked.append(delays.hasBlocked)
        #expect(hasBlocked == [false, true, false])
    }
}
