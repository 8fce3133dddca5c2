import Broker
import FakeKernel
import STOMP
import Testing

/// Messages that wait for their time, and what is left of them after a crash.
@Suite("Delayed messages")
struct DelayTests {
    private static let persistent = [("persistent", "true")]

    @Test(
        "A message comes when it is due and not before, with its headers and without those of the schedule",
        arguments: [1, 3])
    func due(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect()
            let consumer = broker.connect(on: shards - 1)
            for name in ["a", "b", "c", "d"] {
                consumer.subscribe("/queue/\(name)", id: name)
                client.confirmed(
                    .send, [("destination", "/queue/\(name)"), ("AMQ_SCHEDULED_DELAY", "5000"), ("k", "v:\n\(name)")],
                    "body")
            }
            broker.advance(milliseconds: 4980)
            #expect(consumer.bodies() == [])
            broker.advance(milliseconds: 40)
            let messages = consumer.messages()
            #expect(messages.map(\.text) == Array(repeating: "body", count: 4))
            #expect(Set(messages.compactMap { $0["k"] }) == ["v:\na", "v:\nb", "v:\nc", "v:\nd"])
            #expect(messages.allSatisfy { $0["AMQ_SCHEDULED_DELAY"] == nil && $0["schedule"] == nil })
            #expect(messages.allSatisfy { $0["destination"] == "/queue/\($0["subscription"]!)" })
            #expect(broker.counters.messagesDelayed == 4)
        }
    }

    @Test("Messages of one queue come in the order in which they are due")
    func order() {
        withBroker { broker in
            let client = broker.connect()
            let wall = broker.kernel.wallMilliseconds
            client.publish("/queue/a", "4", [("AMQ_SCHEDULED_TIME", "\(wall + 4000)")])
            client.publish("/queue/a", "1", [("x-delay", "1000")])
            client.publish("/queue/a", "3", [("AMQ_SCHEDULED_DELAY", "3000")])
            client.publish("/queue/a", "2", [("AMQ_SCHEDULED_DELAY", "2000")])
            client.publish("/queue/a", "2b", [("AMQ_SCHEDULED_DELAY", "2000")])
            client.publish("/queue/a", "0", [("AMQ_SCHEDULED_TIME", "\(wall - 1)")])
            broker.advance(milliseconds: 10_000)
            client.subscribe("/queue/a")
            #expect(client.bodies() == ["0", "1", "2", "2b", "3", "4"])
        }
    }

    @Test("A topic's message goes to those who are subscribed when it is due", arguments: [1, 3])
    func topics(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect()
            for name in ["a", "b", "c"] {
                client.confirmed(.send, [("destination", "/topic/\(name)"), ("x-delay", "900")], name)
            }
            let early = broker.connect(on: shards - 1)
            for name in ["a", "b", "c"] { early.subscribe("/topic/\(name)", id: name) }
            let pattern = broker.connect()
            pattern.subscribe("/topic/*", id: "p")
            broker.run()
            broker.advance(milliseconds: 1000)
            #expect(early.bodies().sorted() == ["a", "b", "c"])
            let messages = pattern.messages()
            #expect(messages.map(\.text).sorted() == ["a", "b", "c"])
            #expect(messages.allSatisfy { $0["destination"] == "/topic/\($0.text)" })
        }
    }

    @Test("A message repeats as often as it says, each time with another message-id")
    func repeats() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/a")
            client.publish(
                "/queue/a", "x",
                [("AMQ_SCHEDULED_DELAY", "100"), ("AMQ_SCHEDULED_PERIOD", "1000"), ("AMQ_SCHEDULED_REPEAT", "3")])
            broker.advance(milliseconds: 150)
            var messages = client.messages()
            #expect(messages.count == 1)
            broker.advance(milliseconds: 1000)
            messages += client.messages()
            #expect(messages.count == 2)
            broker.advance(milliseconds: 10_000)
            messages += client.messages()
            #expect(messages.count == 4)
            #expect(Set(messages.compactMap { $0["message-id"] }).count == 4)
            #expect(broker.audit().delayedMessages == 0)
        }
    }

    @Test("A cron entry gives a message at each of its times, until it expires")
    func cron() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/a")
            let expires = broker.kernel.wallMilliseconds + 5 * 60_000
            client.publish("/queue/a", "x", [("AMQ_SCHEDULED_CRON", "* * * * *"), ("expires", "\(expires)")])
            broker.advance(milliseconds: 10 * 60_000)
            #expect(client.bodies().count == 5)
            #expect(broker.audit().delayedMessages == 0)
        }
    }

    @Test(
        "A delayed message keeps room in its queue, which is full for others",
        arguments: [OverflowPolicy.reject, .block])
    func room(overflow: OverflowPolicy) {
        var policy = DestinationPolicy(pattern: "/queue/#")
        policy.queueMessageCountMax = 2
        policy.overflow = overflow
        withBroker(TestBroker.options { $0.destinationPolicies = [policy] }) { broker in
            let client = broker.connect()
            client.publish("/queue/a", "1", [("x-delay", "1000")])
            client.publish("/queue/a", "2")
            client.publish("/queue/a", "3")
            broker.run()
            if overflow == .reject { client.expectError("Queue full") }
            let consumer = broker.connect()
            consumer.subscribe("/queue/a", ack: "client-individual")
            #expect(consumer.bodies() == ["2"])
            broker.advance(milliseconds: 1100)
            #expect(consumer.bodies() == ["1"])
            consumer.send(.disconnect)
            broker.run()
            let last = broker.connect()
            last.subscribe("/queue/a")
            #expect(last.bodies() == (overflow == .block ? ["2", "1", "3"] : ["2", "1"]))
        }
    }

    @Test("A repetition waits while its queue is full")
    func repetitionWaits() {
        var policy = DestinationPolicy(pattern: "/queue/#")
        policy.queueMessageCountMax = 1
        withBroker(TestBroker.options { $0.destinationPolicies = [policy] }) { broker in
            let client = broker.connect()
            client.publish("/queue/a", "x", [("AMQ_SCHEDULED_PERIOD", "1000"), ("AMQ_SCHEDULED_REPEAT", "2")])
            broker.advance(milliseconds: 60_000)
            client.subscribe("/queue/a")
            broker.advance(milliseconds: 10_000)
            #expect(client.bodies().count == 3)
            #expect(broker.audit().delayedMessages == 0)
        }
    }

    @Test("ttl begins when the message is due, expires is a time; one that expires before it is due is refused")
    func life() {
        withBroker { broker in
            let client = broker.connect()
            client.publish("/queue/a", "ttl", [("x-delay", "5000"), ("ttl", "1000")])
            client.publish("/queue/b", "ttl", [("x-delay", "5000"), ("ttl", "1000")])
            let expires = broker.kernel.wallMilliseconds + 8000
            client.publish("/queue/b", "expires", [("x-delay", "5000"), ("expires", "\(expires)")])
            broker.run()
            broker.advance(milliseconds: 5500)
            client.subscribe("/queue/a")
            #expect(client.bodies() == ["ttl"])
            broker.advance(milliseconds: 1000)
            client.subscribe("/queue/b", id: "b")
            #expect(client.bodies() == ["expires"])
            client.publish("/queue/a", "", [("x-delay", "5000"), ("expires", "\(broker.kernel.wallMilliseconds + 1)")])
            client.expectError("Bad schedule")
        }
    }

    @Test("What is no schedule is refused, also in a transaction, before it is applied", arguments: [false, true])
    func refused(inTransaction: Bool) {
        withBroker { broker in
            for headers in [
                [("x-delay", "soon")], [("AMQ_SCHEDULED_DELAY", "1"), ("AMQ_SCHEDULED_TIME", "2")],
                [("AMQ_SCHEDULED_CRON", "* * *")], [("AMQ_SCHEDULED_REPEAT", "1")],
                [("x-delay", "999999999999999")],
            ] {
                let client = broker.connect()
                if inTransaction { client.send(.begin, [("transaction", "t")]) }
                client.publish(
                    "/queue/a", "", headers + (inTransaction ? [("transaction", "t")] : []) + [("receipt", "r")])
                client.expectError("Bad schedule", receipt: "r")
            }
        }
    }

    @Test("There are as many delayed messages as the limit says", arguments: ["/queue/a", "/topic/a"], [1, 3])
    func limit(destination: String, shards: Int) {
        withBroker(shards: shards, TestBroker.options { $0.limits.delayedMessageCountMax = 2 }) { broker in
            let client = broker.connect()
            for _ in 0..<2 { client.confirmed(.send, [("destination", destination), ("x-delay", "1000")]) }
            client.publish(destination, "", [("x-delay", "1000"), ("receipt", "r")])
            client.expectError("Too many delayed messages", receipt: "r")
            broker.advance(milliseconds: 2000)
            let other = broker.connect()
            other.subscribe(destination)
            #expect(other.bodies().count == (destination == "/queue/a" ? 2 : 0))
        }
    }

    @Test("A transaction's delayed messages are held from COMMIT on, and not at all after ABORT", arguments: [1, 3])
    func transactions(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect()
            let consumer = broker.connect()
            for name in ["/queue/a", "/queue/b", "/topic/c"] { consumer.subscribe(name, id: name) }
            for end in [Command.abort, .commit] {
                client.send(.begin, [("transaction", "t")])
                for name in ["/queue/a", "/queue/b", "/topic/c"] {
                    client.publish(name, "\(end)", [("transaction", "t"), ("x-delay", "1000")])
                }
                broker.run()
                broker.advance(milliseconds: 1500)
                #expect(consumer.bodies() == [])
                client.confirmed(end, [("transaction", "t")])
            }
            broker.advance(milliseconds: 900)
            #expect(consumer.bodies() == [])
            broker.advance(milliseconds: 200)
            #expect(consumer.bodies() == Array(repeating: "\(Command.commit)", count: 3))
        }
    }

    @Test("The wall clock decides, also when it is set", arguments: [-3_600_000, 3_600_000])
    func clock(step: Int) {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/a")
            client.publish("/queue/a", "x", [("x-delay", "1800000")])
            broker.run()
            broker.stepWallClock(milliseconds: step)
            broker.advance(milliseconds: 61_000)
            #expect(client.bodies() == (step > 0 ? ["x"] : []))
            broker.advance(milliseconds: 1_800_000)
            #expect(client.bodies() == [])
            broker.advance(milliseconds: 3_600_000)
            #expect(client.bodies() == (step > 0 ? [] : ["x"]))
        }
    }

    // MARK: Stored

    @Test(
        "Delayed messages survive a crash, and those that are overdue come at once, in order", arguments: [1, 3],
        [1, 2])
    func restart(before: Int, after: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: before)
        var client = broker.connect()
        for (number, delay) in [3000, 1000, 500_000, 2000].enumerated() {
            client.confirmed(
                .send, [("destination", "/queue/a"), ("x-delay", "\(delay)"), ("k\\c", "v")] + Self.persistent,
                "\(number)")
        }
        client.confirmed(.send, [("destination", "/queue/a"), ("x-delay", "1000")], "in memory")
        client.confirmed(.send, [("destination", "/topic/t"), ("x-delay", "100000")] + Self.persistent, "topic")
        for _ in 0..<2 {
            broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: after)
            #expect((0..<after).reduce(0) { $0 + broker.audit($1).delayedMessages } == 5)
        }
        client = broker.connect()
        client.subscribe("/queue/a")
        client.subscribe("/topic/t", id: "t")
        #expect(client.bodies() == [])
        broker.kernel.wallMilliseconds += 10_000
        broker.advance(milliseconds: 61_000)
        let messages = client.messages()
        #expect(messages.map(\.text) == ["1", "3", "0"])
        #expect(messages.allSatisfy { $0["k\\c"] == "v" && $0["schedule"] == nil })
        broker.advance(milliseconds: 60_000)
        #expect(client.bodies() == ["topic"])
        broker.advance(milliseconds: 500_000)
        #expect(client.bodies() == ["2"])
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: after)
        #expect((0..<after).reduce(0) { $0 + broker.audit($1).delayedMessages + broker.audit($1).entries } == 0)
    }

    @Test("The RECEIPT of a delayed message waits for the disk", arguments: ["/queue/a", "/topic/a"])
    func receipt(destination: String) {
        let broker = StoreFixture.start(FakeDisk())
        let client = broker.connect()
        broker.holdDisk()
        client.publish(destination, "1", Self.persistent + [("receipt", "1"), ("x-delay", "1000")])
        broker.run()
        #expect(client.takeFrames().isEmpty)
        #expect(broker.stepDisk())
        #expect(client.takeFrames().compactMap { $0["receipt-id"] } == ["1"])
    }

    @Test("When it is due it is in one place: at each step of the disk, after a crash it is delayed or in its queue")
    func move() {
        let broker = StoreFixture.start(FakeDisk())
        let client = broker.connect()
        client.confirmed(.send, [("destination", "/queue/a"), ("x-delay", "1000")] + Self.persistent, "x")
        client.confirmed(
            .send,
            [("destination", "/queue/b"), ("AMQ_SCHEDULED_PERIOD", "1000"), ("AMQ_SCHEDULED_REPEAT", "1")]
                + Self.persistent, "y")
        broker.holdDisk()
        var steps = 0
        func check() {
            let next = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
            let audit = next.audit()
            // Of the repeating one there is more after it was due.
            #expect(audit.entries + audit.delayedMessages >= 2)
            next.kernel.turn(0)
            // In steps: times that pass at once are left out.
            for _ in 0..<10 { next.advance(milliseconds: 500) }
            let reader = next.connect()
            reader.subscribe("/queue/a", id: "a")
            reader.subscribe("/queue/b", id: "b")
            let bodies = reader.bodies().sorted()
            #expect(
                bodies == ["x", "y", "y"], "step \(steps), \(audit.entries) entries, \(audit.delayedMessages) delayed")
            steps += 1
        }
        check()
        broker.advance(milliseconds: 1100)
        check()
        while broker.stepDisk() { check() }
        broker.advance(milliseconds: 1100)
        check()
        while broker.stepDisk() { check() }
        #expect(steps >= 5)
    }

    @Test("Delayed messages pin no segments: they are written again", arguments: ["/queue/held", "/topic/held"])
    func compaction(destination: String) {
        var broker = StoreFixture.start(FakeDisk())
        var client = broker.connect()
        client.confirmed(.send, [("destination", destination), ("x-delay", "900000")] + Self.persistent, "held")
        client.subscribe("/queue/work")
        for _ in 0..<400 {
            client.publish("/queue/work", String(repeating: "x", count: 4000), Self.persistent)
            broker.run()
            _ = client.takeFrames()
        }
        broker.advance(milliseconds: 1000)
        #expect(broker.disk.contents(afterPowerCut: false).count < 12)
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
        client = broker.connect()
        client.subscribe(destination)
        broker.run()
        broker.advance(milliseconds: 960_000)
        #expect(client.bodies() == ["held"])
    }

    @Test("One that an earlier life may have given out says so, also when it was written again while it had no room")
    func compactionKeepsMark() {
        var broker = StoreFixture.start(FakeDisk())
        var client = broker.connect()
        client.confirmed(.send, [("destination", "/queue/held")] + Self.persistent, "first")
        // Due before the next life begins.
        broker.stepWallClock(milliseconds: -10_000)
        client.confirmed(.send, [("destination", "/queue/held"), ("x-delay", "5000")] + Self.persistent, "due")
        let oldNames = broker.disk.fileNames
        var policy = DestinationPolicy(pattern: "/queue/held")
        policy.queueMessageCountMax = 1
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true)) { $0.destinationPolicies = [policy] }
        client = broker.connect()
        client.subscribe("/queue/work")
        for _ in 0..<400 {
            client.publish("/queue/work", String(repeating: "x", count: 4000), Self.persistent)
            broker.run()
            _ = client.takeFrames()
        }
        broker.advance(milliseconds: 1000)
        #expect(broker.audit().delayedMessages == 1)
        client.send(.disconnect)
        broker.run()
        broker.kernel.beginDrain()
        broker.advance(milliseconds: 20_000)
        let isDrained = broker.shard(0).pointee.isDrained
        #expect(isDrained)
        #expect(Set(broker.disk.fileNames).isDisjoint(with: oldNames))
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
        broker.kernel.turn(0)
        broker.settle()
        client = broker.connect()
        client.subscribe("/queue/held")
        let messages = client.messages()
        #expect(messages.map(\.text) == ["first", "due"])
        #expect(messages.allSatisfy { $0["redelivered"] == "true" })
    }
}
