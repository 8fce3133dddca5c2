import Broker
import STOMP
import Testing

@Suite("Topics")
struct TopicTests {
    @Test(
        "Every subscriber gets every message in order, on any number of workers", arguments: [1, 2, 8], Version.allCases
    )
    func fanOut(shards: Int, version: Version) {
        withBroker(shards: shards) { broker in
            let subscribers = (0..<12).map { index in
                let client = broker.connect(version, on: index % shards, name: "subscriber \(index)")
                client.subscribe("/topic/news", id: index % 2 == 0 ? "same" : "own-\(index)")
                return client
            }
            broker.run()
            let publishers = (0..<shards).map { broker.connect(on: $0, name: "publisher \($0)") }
            for round in 0..<20 {
                for (index, publisher) in publishers.enumerated() {
                    publisher.publish("/topic/news", "\(index):\(round)", [("round", "\(round)")])
                }
                if round % 3 == 0 { broker.run() }
            }
            for (index, subscriber) in subscribers.enumerated() {
                let messages = subscriber.messages()
                #expect(messages.count == 20 * shards)
                for publisher in 0..<shards {
                    let own = messages.filter { $0.text.hasPrefix("\(publisher):") }
                    #expect(own.map(\.text) == (0..<20).map { "\(publisher):\($0)" })
                }
                #expect(messages.allSatisfy { $0["destination"] == "/topic/news" })
                #expect(messages.allSatisfy { $0["subscription"] == (index % 2 == 0 ? "same" : "own-\(index)") })
                #expect(messages.allSatisfy { $0["content-length"] == "\($0.body.count)" && $0["ack"] == nil })
                #expect(messages.first?["round"] == "0")
            }
        }
    }

    @Test("After the RECEIPT of SUBSCRIBE nothing is missed, before it nothing comes", arguments: [1, 2, 8])
    func receiptOfSubscribe(shards: Int) {
        withBroker(shards: shards) { broker in
            let publishers = (0..<shards).map { broker.connect(on: $0) }
            let subscriber = broker.connect(on: shards - 1)
            for (index, destination) in ["/topic/a.b", "/topic/a.*", "/topic/#"].enumerated() {
                subscriber.send(.subscribe, [("destination", destination), ("id", "\(index)"), ("receipt", "r")])
                // Others publish all the while, in whatever order the workers come to run.
                for _ in 0..<10 {
                    for publisher in publishers { publisher.publish("/topic/a.b", "early") }
                    for index in 0..<shards { broker.turn(index) }
                }
                broker.run()
                let frames = subscriber.takeFrames()
                let receipt = frames.firstIndex { $0.command == .receipt }
                #expect(receipt != nil)
                let before = frames[..<(receipt ?? 0)]
                #expect(before.allSatisfy { $0["subscription"] != "\(index)" })
                for publisher in publishers { publisher.publish("/topic/a.b", "late") }
                let late = subscriber.messages().filter { $0["subscription"] == "\(index)" && $0.text == "late" }
                #expect(late.count == shards)
            }
        }
    }

    @Test("Wildcards match whole levels, one or many", arguments: [1, 2])
    func wildcards(shards: Int) {
        withBroker(shards: shards) { broker in
            let publisher = broker.connect(on: 0)
            let cases: [(pattern: String, matching: [String], other: [String])] = [
                ("/topic/a.*", ["a.b", "a/b"], ["a", "a.b.c", "b.a"]),
                ("/topic/a.#", ["a", "a.b", "a.b.c"], ["b", "ab"]),
                ("/topic/>", ["a", "a.b.c"], []),
                ("/topic/a.**.z", ["a.z", "a.b.z", "a.b.c.z", "a.z.z"], ["a.z.y", "z"]),
                ("/topic/*.b.#", ["a.b", "x.b.c"], ["b", "a.c.b"]),
                ("/topic/#.x.#.y", ["x.y", "a.x.b.y", "x.x.y.y"], ["x", "y.x"]),
                ("/topic/a*", [], ["ab", "a.b"]),
            ]
            for (index, testCase) in cases.enumerated() {
                let subscriber = broker.connect(on: index % shards)
                let late = broker.connect(on: (index + 1) % shards)
                // Topics are known before one pattern and unknown before the other.
                subscriber.confirmed(.subscribe, [("destination", testCase.pattern), ("id", "p")])
                for name in testCase.matching + testCase.other { publisher.publish("/topic/" + name, name) }
                #expect(subscriber.bodies() == testCase.matching, "\(testCase.pattern)")
                late.confirmed(.subscribe, [("destination", testCase.pattern), ("id", "p")])
                for name in testCase.matching + testCase.other { publisher.publish("/topic/" + name, name) }
                #expect(late.bodies() == testCase.matching, "\(testCase.pattern)")
                #expect(subscriber.messages().map { $0["destination"] } == testCase.matching.map { "/topic/" + $0 })
                for client in [subscriber, late] { client.confirmed(.unsubscribe, [("id", "p")]) }
                for name in testCase.matching { publisher.publish("/topic/" + name, name) }
                #expect(subscriber.bodies() == [] && late.bodies() == [])
            }
        }
    }

    @Test("A pattern and a name of one connection each get the message; acknowledging ones too")
    func overlapping() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/topic/a.b", id: "name")
            client.subscribe("/topic/a.*", id: "pattern")
            client.subscribe("/topic/a.b", id: "acknowledging", ack: "client")
            client.subscribe("/topic/#", id: "acknowledging pattern", ack: "client-individual")
            client.publish("/topic/a.b", "x")
            let messages = client.messages()
            #expect(
                Set(messages.map { $0["subscription"] }) == [
                    "name", "pattern", "acknowledging", "acknowledging pattern",
                ])
            #expect(messages.allSatisfy { $0["destination"] == "/topic/a.b" })
            #expect(messages.allSatisfy { ($0["ack"] != nil) == ($0["subscription"]!.hasPrefix("ack")) })
            for message in messages where message["ack"] != nil { client.ack(message) }
            #expect(client.bodies() == [])
        }
    }

    @Test("Headers of the publisher pass, those of the broker do not", arguments: Version.allCases)
    func headers(version: Version) {
        withBroker { broker in
            let subscriber = broker.connect(version)
            subscriber.subscribe("/topic/a")
            let publisher = broker.connect()
            publisher.publish(
                "/topic/a", "b",
                [
                    ("subscription", "forged"), ("message-id", "forged"), ("ack", "forged"), ("redelivered", "true"),
                    ("delivery-count", "9"), ("content-type", "text/plain"), ("twice", "1"), ("twice", "2"),
                    ("colon", "a:b"),
                ])
            let message = subscriber.messages().first
            #expect(message?["subscription"] == "0")
            #expect(message?["message-id"] != "forged")
            #expect(message?["ack"] == nil && message?["redelivered"] == nil && message?["delivery-count"] == nil)
            #expect(message?["content-type"] == "text/plain" && message?["colon"] == "a:b")
            #expect(message?.headers.filter { $0.name == "twice" }.map(\.value) == ["1", "2"])
        }
    }

    @Test("No escape smuggles a header to a 1.0 subscriber, in values or in names")
    func injection() {
        withBroker { broker in
            let subscriber = broker.connect(.v1_0)
            subscriber.subscribe("/topic/a")
            let publisher = broker.connect()
            publisher.publish("/topic/a", "b", [("x", "y\nredelivered:true"), ("redelivered:true", "z")])
            let message = subscriber.messages().first
            #expect(message != nil && message?["redelivered"] == nil)
        }
    }

    @Test("A destination is told apart from another whose escaped form it looks like")
    func escapedDestination() {
        withBroker { broker in
            let subscriber = broker.connect()
            subscriber.subscribe("/topic/a\\cb", id: "backslash")
            subscriber.subscribe("/topic/a:b", id: "colon")
            let publisher = broker.connect()
            publisher.publish("/topic/a\\cb", "1")
            publisher.publish("/topic/a:b", "2")
            #expect(subscriber.messages().map { $0["subscription"] } == ["backslash", "colon"])
        }
    }

    @Test("Who stops reading a topic is cut at the limit, the others lose nothing")
    func slowConsumer() {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 100_000 }
        withBroker(options) { broker in
            let slow = broker.connect(name: "slow")
            let quick = broker.connect(name: "quick")
            for client in [slow, quick] { client.subscribe("/topic/a") }
            broker.run()
            slow.socket.room = 10_000
            let publisher = broker.connect()
            for index in 0..<300 {
                publisher.publish("/topic/a", "\(index) " + String(repeating: "x", count: 1000))
                broker.run()
            }
            #expect(slow.socket.isClosed && slow.socket.wasReset)
            #expect(quick.messages().count == 300)
            #expect(broker.counters.slowConsumers == 1)
        }
    }

    @Test("Who takes no byte of a topic for ten seconds is cut")
    func stalledConsumer() {
        withBroker { broker in
            let slow = broker.connect()
            slow.subscribe("/topic/a")
            broker.run()
            slow.socket.room = 100
            broker.connect().publish("/topic/a", String(repeating: "x", count: 1000))
            broker.advance(milliseconds: 9_900)
            #expect(!slow.socket.isClosed)
            broker.advance(milliseconds: 200)
            #expect(slow.socket.isClosed)
        }
    }

    @Test("Output that waits goes on where it stopped, whatever the socket takes", arguments: [0, 1000])
    func partialSends(zeroCopyByteCountMin: Int) {
        let options = TestBroker.options { $0.zeroCopyByteCountMin = zeroCopyByteCountMin }
        withBroker(options) { broker in
            let client = broker.connect()
            client.subscribe("/topic/a")
            client.subscribe("/queue/a", id: "q")
            broker.run()
            let publisher = broker.connect()
            client.socket.room = 0
            for index in 0..<200 {
                publisher.publish(
                    index % 2 == 0 ? "/topic/a" : "/queue/a", "\(index) " + String(repeating: "y", count: index * 17))
                broker.run()
            }
            for _ in 0..<100_000 where client.socket.room < 100_000 || !client.socket.hasEvents {
                client.socket.room = 777
                broker.run()
                if client.socket.room == 777 { break }
            }
            client.socket.room = .max
            let messages = client.messages()
            #expect(messages.count == 200)
            for kind in ["0", "q"] {
                let numbers = messages.filter { $0["subscription"] == kind }.map {
                    Int($0.text.split(separator: " ")[0])!
                }
                #expect(numbers == numbers.sorted() && numbers.count == 100)
            }
        }
    }

    @Test("Bytes of a zero-copy send stay until the kernel releases them, even when the connection is cut")
    func zeroCopy() {
        let options = TestBroker.options { $0.zeroCopyByteCountMin = 1000 }
        withBroker(options) { broker in
            let client = broker.connect()
            client.subscribe("/topic/a")
            broker.run()
            client.socket.holdsZeroCopy = true
            let publisher = broker.connect()
            let body = String(repeating: "z", count: 5000)
            publisher.publish("/topic/a", body)
            broker.run()
            #expect(client.socket.holdsBytes)
            for _ in 0..<10 { publisher.publish("/topic/a", "small") }
            #expect(client.bodies() == [])
            client.socket.releaseZeroCopy()
            #expect(client.bodies() == [body] + Array(repeating: "small", count: 10))
            publisher.publish("/topic/a", body)
            broker.run()
            #expect(client.socket.holdsBytes)
            client.reset()
            broker.run()
            #expect(client.socket.isClosed)
        }
    }

    @Test("Half-close: all that was sent is processed, and what is due is delivered", arguments: [1, 2])
    func halfClose(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect(on: 0)
            client.subscribe("/topic/a")
            for index in 0..<10 { client.publish("/topic/a", "\(index)") }
            client.send(.send, [("destination", "/topic/a"), ("receipt", "last")], "10")
            client.hangUp()
            broker.run()
            let frames = client.takeFrames()
            #expect(frames.filter { $0.command == .message }.map(\.text) == (0...10).map(String.init))
            #expect(frames.contains { $0["receipt-id"] == "last" })
            #expect(client.socket.isClosed)
        }
    }

    @Test("A message that has expired is not published")
    func expiry() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/topic/a")
            let past = "\(broker.kernel.wallMilliseconds - 1)"
            client.publish("/topic/a", "late", [("expires", past)])
            client.publish("/topic/a", "never", [("expires", "0")])
            client.publish("/topic/a", "later", [("ttl", "1000")])
            let messages = client.messages()
            #expect(messages.map(\.text) == ["never", "later"])
            #expect(messages.last?["ttl"] == "1000")
            client.publish("/topic/a", "x", [("expiration", "soon")])
            client.expectError("Bad expiry")
        }
    }

    @Test("Idle destinations make way for new ones, needed ones do not")
    func destinationLimit() {
        let options = TestBroker.options { $0.limits.destinationCountMax = 8 }
        withBroker(queued: 1, options) { broker in
            let client = broker.connect()
            client.subscribe("/topic/kept")
            client.publish("/queue/kept", "kept")
            for index in 0..<50 { client.publish("/topic/\(index)", "x") }
            client.publish("/topic/kept", "y")
            #expect(client.bodies() == ["y"])
            for index in 0..<7 { client.subscribe("/topic/needed/\(index)", id: "s\(index)") }
            #expect(client.bodies() == [])
            // What nobody subscribes to does not count, and makes no room for what would.
            for index in 0..<3 {
                client.confirmed(.send, [("destination", "/topic/one-too-many-\(index)")], "x")
                client.publish("/topic/needed/6", "\(index)")
                #expect(client.bodies() == ["\(index)"])
            }
            client.send(
                .subscribe, [("destination", "/topic/one-too-many-2"), ("id", "more"), ("receipt", "r")])
            client.expectError("Too many destinations", receipt: "r")
        }
    }

    @Test("Patterns and topics forget each other, whichever goes first", arguments: [1, 2])
    func matchesAreForgotten(shards: Int) {
        let options = TestBroker.options { $0.limits.destinationCountMax = 20 }
        withBroker(shards: shards, options) { broker in
            let publisher = broker.connect(on: 0)
            let subscribers = (0..<6).map { broker.connect(on: $0 % shards) }
            for round in 0..<30 {
                for (index, subscriber) in subscribers.enumerated() where (round + index) % 3 == 0 {
                    subscriber.subscribe(index % 2 == 0 ? "/topic/#" : "/topic/*.b", id: "\(round)")
                }
                broker.run()
                for topic in 0..<7 { publisher.publish("/topic/\((round * 3 + topic) % 31).b", "\(round)") }
                for (index, subscriber) in subscribers.enumerated() {
                    let bodies = subscriber.bodies()
                    if (round + index) % 3 == 0 {
                        #expect(bodies == Array(repeating: "\(round)", count: 7))
                        subscriber.send(.unsubscribe, [("id", "\(round)")])
                    } else {
                        #expect(bodies == [])
                    }
                }
            }
        }
    }

    @Test("A client that never reads what it asks for does not fill the memory with receipts")
    func receiptsWithoutReader() {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 100_000 }
        withBroker(options) { broker in
            let client = broker.connect()
            client.socket.room = 0
            for index in 0..<4000 {
                client.publish("/topic/a", "x", [("receipt", "\(index)" + String(repeating: "r", count: 100))])
                if index % 100 == 0 { broker.run() }
            }
            broker.run()
            #expect(client.socket.isClosed)
        }
    }
}
