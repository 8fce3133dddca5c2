import Broker
import FakeKernel
import STOMP
import Testing

/// Messages that topics retain for new subscribers.
@Suite("Retained messages")
struct RetainedTests {
    private static let set = [("retain", "set")]

    private func retain(_ client: Client, _ topic: String, _ body: String, _ headers: [(String, String)] = []) {
        client.confirmed(.send, [("destination", topic)] + Self.set + headers, body)
    }

    @Test("The last one is given to new subscribers on every worker, before what is live", arguments: [1, 2, 4])
    func newSubscribers(shards: Int) {
        withBroker(shards: shards) { broker in
            let early = broker.connect(on: shards - 1)
            early.subscribe("/topic/price")
            broker.run()
            let publisher = broker.connect()
            retain(publisher, "/topic/price", "1")
            retain(publisher, "/topic/price", "2", [("k", "v")])
            let live = early.messages()
            #expect(live.map(\.text) == ["1", "2"])
            #expect(live.allSatisfy { $0["retained"] == nil && $0["retain"] == nil })
            for shard in 0..<shards {
                for (id, ack) in [("auto", "auto"), ("client", "client")] {
                    let client = broker.connect(on: shard)
                    client.send(
                        .subscribe,
                        [("destination", "/topic/price"), ("id", id), ("ack", ack), ("receipt", "r")])
                    broker.run()
                    publisher.confirmed(.send, [("destination", "/topic/price")], "3")
                    let frames = client.takeFrames()
                    #expect(frames.map(\.command) == [.receipt, .message, .message])
                    guard frames.count == 3 else { continue }
                    #expect(frames[1].text == "2" && frames[1]["retained"] == "true" && frames[1]["k"] == "v")
                    #expect(frames[1]["subscription"] == id && frames[1]["destination"] == "/topic/price")
                    #expect(frames[2].text == "3" && frames[2]["retained"] == nil)
                }
            }
        }
    }

    @Test("A pattern is given one for each topic that it matches", arguments: [1, 3], Version.allCases)
    func patterns(shards: Int, version: Version) {
        withBroker(shards: shards) { broker in
            let publisher = broker.connect()
            for number in 0..<5 { retain(publisher, "/topic/p.\(number):x", "\(number)") }
            publisher.confirmed(.send, [("destination", "/topic/p.5")], "not kept")
            for shard in 0..<shards {
                for ack in ["auto", "client"] {
                    let client = broker.connect(version, on: shard)
                    client.subscribe("/topic/p.*", ack: ack)
                    let messages = client.messages()
                    #expect(messages.map(\.text).sorted() == (0..<5).map(String.init))
                    #expect(
                        messages.allSatisfy { $0["destination"] == "/topic/p.\($0.text):x" && $0["retained"] == "true" }
                    )
                }
            }
        }
    }

    @Test("What a pattern is given may be more than the output holds")
    func large() {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 64 << 10 }
        withBroker(options) { broker in
            let publisher = broker.connect()
            let body = String(repeating: "x", count: 5_000)
            for number in 0..<40 { retain(publisher, "/topic/p.\(number)", body) }
            let client = broker.connect()
            client.subscribe("/topic/p.#")
            broker.run()
            publisher.confirmed(.send, [("destination", "/topic/p.live")], "live")
            let messages = client.messages()
            #expect(messages.count == 41)
            #expect(messages.last?.text == "live")
        }
    }

    @Test("A subscriber that comes meanwhile is given the retained message or the live one", arguments: [2, 4])
    func race(shards: Int) {
        withBroker(shards: shards) { broker in
            let publisher = broker.connect()
            retain(publisher, "/topic/price", "0")
            for round in 1...40 {
                let subscriber = broker.connect(on: round % shards)
                subscriber.subscribe(round % 3 == 0 ? "/topic/*" : "/topic/price", id: "\(round)")
                for index in 0..<(round % 7) { broker.turn(index % shards) }
                publisher.publish("/topic/price", "\(round)", Self.set)
                let messages = subscriber.messages()
                let bodies = messages.map(\.text)
                #expect(bodies == ["\(round)"] || bodies == ["\(round - 1)", "\(round)"], "\(bodies)")
                #expect(messages.dropFirst().allSatisfy { $0["retained"] == nil })
            }
        }
    }

    @Test("retain:remove forgets it, and is delivered", arguments: [1, 2])
    func remove(shards: Int) {
        withBroker(shards: shards) { broker in
            let publisher = broker.connect()
            retain(publisher, "/topic/price", "1")
            let subscriber = broker.connect(on: shards - 1)
            subscriber.subscribe("/topic/price")
            #expect(subscriber.bodies() == ["1"])
            publisher.confirmed(.send, [("destination", "/topic/price"), ("retain", "remove")], "over")
            #expect(subscriber.bodies() == ["over"])
            let late = broker.connect(on: shards - 1)
            late.subscribe("/topic/#")
            #expect(late.bodies() == [])
            publisher.confirmed(.send, [("destination", "/topic/nothing"), ("retain", "remove")], "nothing there")
            #expect(late.bodies() == ["nothing there"])
        }
    }

    @Test("An expired one is not given, and makes room")
    func expiry() {
        let options = TestBroker.options { $0.limits.retainedMessageCountMax = 1 }
        withBroker(shards: 2, options) { broker in
            let publisher = broker.connect()
            retain(publisher, "/topic/a", "1", [("ttl", "1000")])
            broker.advance(milliseconds: 3_000)
            let subscriber = broker.connect()
            subscriber.subscribe("/topic/a")
            #expect(subscriber.bodies() == [])
            retain(publisher, "/topic/b", "2")
        }
    }

    @Test("There may be so many", arguments: [1, 2])
    func limit(shards: Int) {
        let options = TestBroker.options { $0.limits.retainedMessageCountMax = 2 }
        withBroker(shards: shards, options) { broker in
            let publisher = broker.connect()
            for number in 0..<2 { retain(publisher, "/topic/\(number)", "") }
            retain(publisher, "/topic/0", "again")
            let other = broker.connect()
            other.send(.send, [("destination", "/topic/2"), ("receipt", "r")] + Self.set)
            other.expectError("Too many retained messages", receipt: "r")
            #expect(broker.counters.limits[.retainedMessages] == 1)
        }
    }

    @Test(
        "What cannot be retained is refused with a reason",
        arguments: [
            ("/queue/a", "set", "Unsupported header"), ("/temp-topic/a", "set", "Unsupported header"),
            ("/topic/a", "yes", "Invalid retain"), ("/topic/a", "", "Invalid retain"),
            ("/queue/a", "remove", "Unsupported header"),
        ])
    func refusals(destination: String, retain: String, message: String) {
        withBroker(shards: 2) { broker in
            for headers in [[], [("transaction", "t")]] {
                let client = broker.connect()
                if !headers.isEmpty { client.confirmed(.begin, headers) }
                client.send(.send, [("destination", destination), ("retain", retain), ("receipt", "r")] + headers)
                client.expectError(message, receipt: "r")
            }
        }
    }

    @Test("Set in a transaction it is retained at COMMIT", arguments: [1, 3])
    func transactions(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect(on: shards - 1)
            client.confirmed(.begin, [("transaction", "t")])
            client.confirmed(.send, [("destination", "/topic/a"), ("transaction", "t")] + Self.set, "1")
            let early = broker.connect()
            early.subscribe("/topic/a")
            #expect(early.bodies() == [])
            client.confirmed(.commit, [("transaction", "t")])
            let late = broker.connect()
            late.subscribe("/topic/a")
            #expect(early.bodies() == ["1"] && late.bodies() == ["1"])
        }
    }

    @Test("What a session publishes keeps its order when it begins to retain", arguments: [2, 4])
    func order(shards: Int) {
        withBroker(shards: shards) { broker in
            let subscribers = (0..<shards).map { broker.connect(on: $0) }
            for subscriber in subscribers { subscriber.subscribe("/topic/#") }
            broker.run()
            for round in 0..<10 {
                let publisher = broker.connect(on: round % shards)
                for number in 0..<6 { publisher.publish("/topic/\(round)", "\(number)", number == 3 ? Self.set : []) }
                for subscriber in subscribers { #expect(subscriber.bodies() == (0..<6).map(String.init)) }
            }
        }
    }
}
