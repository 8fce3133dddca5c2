import Broker
import Testing

@Suite("Limits of what a client may name")
struct LimitTests {
    @Test("Wildcard patterns are limited, and make room when they go", arguments: [1, 2])
    func patterns(shards: Int) {
        let options = TestBroker.options { $0.limits.patternCountMax = 5 }
        withBroker(shards: shards, options) { broker in
            let client = broker.connect(on: 0)
            for index in 0..<5 {
                client.confirmed(.subscribe, [("destination", "/topic/\(index).*"), ("id", "\(index)")])
            }
            // Those that are there already are open to all, and to other workers' clients too.
            for shard in 0..<shards {
                let other = broker.connect(on: shard)
                other.confirmed(.subscribe, [("destination", "/topic/3.*"), ("id", "0")])
                other.subscribe("/topic/5.*", id: "1")
                other.expectError("Too many patterns")
            }
            client.confirmed(.unsubscribe, [("id", "0")])
            client.confirmed(.subscribe, [("destination", "/topic/5.*"), ("id", "5")])
            client.publish("/topic/5.x", "x")
            #expect(client.bodies() == ["x"])
        }
    }

    /// Matches every topic, in words of its own. There are 243.
    private static func patternOfAll(_ number: Int) -> String {
        var digits = number
        let levels = (0..<5).map { _ in
            defer { digits /= 3 }
            return ["#", ">", "**"][digits % 3]
        }
        return "/topic/" + levels.joined(separator: ".")
    }

    @Test("Topics and patterns that all match each other are limited")
    func matches() {
        let options = TestBroker.options {
            $0.limits.destinationCountMax = 420
            $0.limits.subscriptionsPerConnectionMax = 1000
        }
        withBroker(queued: 1, options) { broker in
            let client = broker.connect()
            for index in 0..<210 {
                client.subscribe(Self.patternOfAll(index), id: "\(index)")
            }
            broker.run()
            #expect(client.takeFrames().isEmpty)
            let other = broker.connect()
            // 200 topics and 210 patterns make 42,000 matches.
            for index in 0..<200 { other.publish("/topic/\(index)", "x", [("expires", "1")]) }
            other.confirmed(.send, [("destination", "/topic/0")], "y")
            #expect(broker.audit().matches == 42_000)
            // Those that nobody needs make room, but not those that match nothing.
            other.confirmed(
                .send, [("destination", "/queue/small"), ("x-max-length", "1"), ("expires", "1")], "gone")
            other.confirmed(.send, [("destination", "/topic/another")], "z")
            #expect(broker.audit().matches == 42_000)
            for index in 0..<200 { other.subscribe("/topic/\(index)", id: "\(index)") }
            broker.run()
            #expect(other.takeFrames().isEmpty)
            other.publish("/topic/one too many", "x")
            other.expectError("Too many patterns")
            #expect(client.messages().count == 420)
            let last = broker.connect()
            for text in ["first", "second"] { last.publish("/queue/small", text) }
            last.expectError("Queue full")
            client.reset()
            broker.run()
            #expect(broker.audit().matches == 0)
        }
    }

    @Test("Topics nobody needs make room for patterns that another worker hears of")
    func matchesElsewhere() {
        let options = TestBroker.options {
            $0.limits.destinationCountMax = 200
            $0.limits.subscriptionsPerConnectionMax = 1000
        }
        withBroker(shards: 2, options) { broker in
            let publisher = broker.connect(on: 0)
            for index in 0..<190 { publisher.publish("/topic/\(index)", "x") }
            broker.run()
            // 120 patterns and 190 topics would make 22,800 matches.
            let client = broker.connect(on: 1)
            for index in 0..<120 {
                client.subscribe(Self.patternOfAll(index), id: "\(index)")
                broker.run()
            }
            #expect(client.takeFrames().isEmpty)
            // One pattern may still match all.
            #expect(broker.audit().matches <= 20_000 + 190)
            publisher.publish("/topic/0", "y")
            publisher.publish("/topic/189", "z")
            #expect(client.messages().count == 240)
        }
    }

    @Test("A subscription's id is limited, and 1.0's destination as an id is not", arguments: [true, false])
    func subscriptionId(isTooLong: Bool) {
        let options = TestBroker.options { $0.limits.subscriptionIdByteCountMax = 40 }
        withBroker(options) { broker in
            let client = broker.connect()
            let id = String(repeating: "i", count: isTooLong ? 41 : 40)
            client.send(.subscribe, [("destination", "/topic/t"), ("id", id), ("receipt", "r")])
            if isTooLong {
                client.expectError("Subscription id too long", receipt: "r")
            } else {
                broker.run()
                #expect(client.frame()?.command == .receipt)
            }
            let old = broker.connect(.v1_0)
            let name = "/topic/" + String(repeating: "n", count: 100)
            old.confirmed(.subscribe, [("destination", name)])
            old.publish(name, "x")
            #expect(old.bodies() == ["x"])
        }
    }

    @Test("A queue for which its worker has no room is refused in the right words", arguments: ["reject", "block"])
    func refusedDestination(policy: String) {
        let options = TestBroker.options {
            $0.limits.destinationCountMax = 4
            var blocking = DestinationPolicy(pattern: "/queue/#")
            blocking.overflow = policy == "block" ? .block : .reject
            $0.destinationPolicies = [blocking]
        }
        withBroker(shards: 2, queued: 4, options) { broker in
            // Four queues that the second worker holds, and a fifth.
            let names = broker.queueNames(ownedBy: 1)
            let local = broker.connect(on: 1)
            for name in names.prefix(4) { local.confirmed(.send, [("destination", name)], "x") }
            let sender = broker.connect(on: 0)
            sender.send(.send, [("destination", names[4]), ("receipt", "r")], "x")
            let error = sender.expectError("Too many destinations", receipt: "r")
            #expect(error?.text.contains("limits.destinations-max") == true)
            let committer = broker.connect(on: 0)
            committer.send(.begin, [("transaction", "t")])
            committer.send(.send, [("destination", names[4]), ("transaction", "t")], "x")
            committer.send(.commit, [("transaction", "t"), ("receipt", "c")])
            committer.expectError("Too many destinations", receipt: "c")
            let subscriber = broker.connect(on: 0)
            subscriber.subscribe(names[4])
            subscriber.expectError("Too many destinations")
        }
    }

    @Test("Temporary names and session ids hold what only this process knows")
    func identities() {
        var names: [String] = []
        for key in 0..<2 as Range<UInt64> {
            let options = TestBroker.options { $0.identityKey = .init(low: 1, high: key) }
            withBroker(options) { broker in
                let service = broker.connect()
                service.confirmed(.subscribe, [("destination", "/queue/service"), ("id", "0")])
                let client = broker.accept()
                client.send(.connect, [("accept-version", "1.2"), ("host", "x")])
                broker.run()
                let session = client.frame()?["session"] ?? ""
                client.publish("/queue/service", "?", [("reply-to", "/temp-queue/a")])
                let reply = service.messages()[0]["reply-to"] ?? ""
                #expect(session.split(separator: "-").last?.count == 16)
                #expect(reply.split(separator: "/")[1].split(separator: "-").dropLast().last?.count == 16)
                names += [session, reply, String(session.suffix(16)), String(reply.dropLast(2).suffix(16))]
            }
        }
        #expect(Set(names).count == 8)
    }
}
