import Broker
import FakeKernel
import STOMP
import Testing

/// COMMIT at limits that its messages reach with the owners of their destinations: all of it is applied, or nothing.
@Suite("COMMIT at limits of what is kept")
struct CommitLimitTests {
    /// What a SEND asks its destination to keep, beside room in a queue.
    struct Wish: CustomTestStringConvertible {
        var destination: String
        var header: (String, String)
        var refusal: String
        /// Messages of it that are in a queue afterwards.
        var queuedCount: Int { header.0 == "x-deduplication-id" ? 1 : 0 }
        var testDescription: String { "\(header.0) to \(destination)" }
    }

    static let wishes = [
        Wish(destination: "/topic/", header: ("retain", "set"), refusal: "Too many retained messages"),
        Wish(destination: "/queue/", header: ("x-deduplication-id", "1"), refusal: "Too many deduplication ids"),
        Wish(destination: "/queue/", header: ("x-delay", "100000"), refusal: "Too many delayed messages"),
        Wish(destination: "/topic/", header: ("x-delay", "100000"), refusal: "Too many delayed messages"),
    ]

    private static var options: BrokerOptions {
        TestBroker.options {
            $0.limits.retainedMessageCountMax = 1
            $0.limits.deduplicationIDCountMax = 1
            $0.limits.delayedMessageCountMax = 1
        }
    }

    private static func name(_ wish: Wish, _ number: Int, with owner: Int, _ broker: TestBroker) -> String {
        var numbers = (0..<1000).lazy.map { "\(wish.destination)n\($0)" }
            .filter { broker.owner(ofQueue: $0) == owner }.makeIterator()
        for _ in 0..<number { _ = numbers.next() }
        return numbers.next()!
    }

    private static func begin(_ client: Client) { client.confirmed(.begin, [("transaction", "t")]) }

    private static func keep(_ client: Client, _ destination: String, _ headers: [(String, String)] = []) {
        client.confirmed(.send, [("destination", destination), ("transaction", "t")] + headers, "x")
    }

    @Test("Where the limit is reached, nothing is applied", arguments: wishes, [1, 2, 3])
    func refused(wish: Wish, shards: Int) {
        for owner in 0..<shards {
            withBroker(shards: shards, queued: wish.queuedCount, Self.options) { broker in
                let other = broker.connect()
                let full = Self.name(wish, 0, with: owner, broker)
                other.confirmed(.send, [("destination", full), wish.header], "first")
                let client = broker.connect(on: shards - 1)
                Self.begin(client)
                Self.keep(client, "/queue/half")
                Self.keep(client, Self.name(wish, 1, with: owner, broker), [wish.header])
                client.send(.commit, [("transaction", "t"), ("receipt", "r")])
                client.expectError(wish.refusal, receipt: "r")
                let consumer = broker.connect()
                consumer.subscribe("/queue/half")
                #expect(consumer.bodies() == [])
            }
        }
    }

    @Test("One that is admitted is applied whole, though others reach the limit with it", arguments: wishes, [1, 2, 3])
    func together(wish: Wish, shards: Int) {
        withBroker(shards: shards, queued: 4 * wish.queuedCount, Self.options) { broker in
            let client = broker.connect()
            Self.begin(client)
            for number in 0..<4 { Self.keep(client, Self.name(wish, number, with: shards - 1, broker), [wish.header]) }
            Self.keep(client, "/queue/whole")
            client.confirmed(.commit, [("transaction", "t")])
            let consumer = broker.connect()
            consumer.subscribe("/queue/whole")
            #expect(consumer.bodies() == ["x"])
        }
    }

    @Test("What makes room, or needs none, is not refused", arguments: [1, 2, 3])
    func noNeed(shards: Int) {
        withBroker(shards: shards, Self.options) { broker in
            let client = broker.connect()
            client.confirmed(.send, [("destination", "/topic/a"), ("retain", "set")], "1")
            client.confirmed(.send, [("destination", "/queue/a"), ("x-deduplication-id", "1")], "1")
            Self.begin(client)
            Self.keep(client, "/topic/b", [("retain", "remove")])
            Self.keep(client, "/topic/a", [("retain", "set")])
            Self.keep(client, "/queue/a", [("x-deduplication-id", "1")])
            Self.keep(client, "/queue/a", [("x-deduplication-id", "2")])
            client.confirmed(.commit, [("transaction", "t")])
            client.subscribe("/topic/a", id: "topic")
            client.subscribe("/queue/a", id: "queue")
            #expect(client.bodies() == ["x", "1", "x"])
        }
    }
}
