import Broker
import STOMP
import Slabs
import Testing

@Suite("Queues")
struct QueueTests {
    static func options(_ pattern: String = "/queue/#", _ change: (inout DestinationPolicy) -> Void) -> BrokerOptions {
        TestBroker.options {
            var policy = DestinationPolicy(pattern: pattern)
            change(&policy)
            $0.destinationPolicies = [policy]
        }
    }

    @Test("Messages wait in order for a consumer", arguments: [1, 2, 8], Version.allCases)
    func waits(shards: Int, version: Version) {
        withBroker(shards: shards) { broker in
            for shard in 0..<shards {
                let publisher = broker.connect(on: 0)
                for index in 0..<50 { publisher.publish("/queue/q\(shard)", "\(index)") }
                broker.run()
                let consumer = broker.connect(version, on: shard)
                consumer.subscribe("/queue/q\(shard)", ack: "client")
                let messages = consumer.messages()
                #expect(messages.map(\.text) == (0..<50).map(String.init))
                #expect(messages.allSatisfy { ($0["ack"] != nil) == (version == .v1_2) && $0["redelivered"] == nil })
                #expect(messages.allSatisfy { $0["destination"] == "/queue/q\(shard)" })
                consumer.ack(messages[49])
                broker.run()
            }
        }
    }

    @Test("What the socket had not taken whole was not delivered", arguments: [1, 2], Version.allCases)
    func unseen(shards: Int, version: Version) {
        withBroker(
            shards: shards,
            Self.options {
                $0.deliveryCountMax = 2
                $0.deadLetterDestination = "/queue/DLQ"
            }
        ) { broker in
            let publisher = broker.connect(on: 0)
            for index in 0..<5 { publisher.publish("/queue/q", "\(index)" + String(repeating: "x", count: 1000)) }
            broker.run()
            // Twice a consumer takes two messages and a half, and its connection is lost.
            for round in 1...2 {
                let consumer = broker.connect(version, on: shards - 1)
                consumer.socket.room = 2_900
                consumer.subscribe("/queue/q", ack: "client-individual")
                broker.run()
                let count = round == 1 ? nil : "2"
                #expect(consumer.messages().map { $0["delivery-count"] } == [count, count])
                consumer.reset()
                broker.run()
            }
            // The first one was the oldest both times, and is a dead letter; the second one was seen twice.
            let next = broker.connect(on: 0)
            next.subscribe("/queue/q", id: "next")
            let messages = next.messages()
            #expect(messages.map { String($0.text.prefix(1)) } == ["1", "2", "3", "4"])
            #expect(messages.map { $0["delivery-count"] } == ["3", nil, nil, nil])
            next.subscribe("/queue/DLQ", id: "dead")
            #expect(next.messages().map { $0["dead-letter-reason"] } == ["delivery-limit"])
        }
    }

    @Test("Consumers take turns, each up to its prefetch", arguments: [1, 2, 8])
    func roundRobin(shards: Int) {
        withBroker(shards: shards) { broker in
            let consumers = (0..<4).map { broker.connect(on: $0 % shards) }
            for (index, consumer) in consumers.enumerated() {
                consumer.confirmed(
                    .subscribe,
                    [
                        ("destination", "/queue/q"), ("id", "0"), ("ack", "client-individual"),
                        ("prefetch-count", index == 0 ? "1" : "3"),
                    ])
            }
            let publisher = broker.connect()
            for index in 0..<11 { publisher.publish("/queue/q", "\(index)") }
            let got = consumers.map { $0.messages() }
            #expect(got.map(\.count) == [1, 3, 3, 3])
            #expect(got.map { $0[0].text } == ["0", "1", "2", "3"])
            consumers[1].ack(got[1][0])
            #expect(consumers[1].bodies() == ["10"])
            publisher.publish("/queue/q", "11")
            #expect(consumers.allSatisfy { $0.bodies() == [] })
            for (index, consumer) in consumers.enumerated() {
                for (place, message) in got[index].enumerated() where !(index == 1 && place == 0) {
                    consumer.ack(message)
                }
            }
            let rest = consumers.map { $0.messages() }
            #expect(rest.flatMap { $0 }.map(\.text) == ["11"])
            // The one that came when there was prefetch again, and the one that came by an acknowledgement.
            for index in 0..<4 { consumers[index].send(.unsubscribe, [("id", "0")]) }
            broker.run()
            consumers[0].subscribe("/queue/q", id: "rest")
            #expect(consumers[0].bodies() == ["10", "11"])
        }
    }

    @Test("What waited in the output of a connection that ended with ERROR was not delivered", arguments: [1, 2])
    func unreadBehindError(shards: Int) {
        withBroker(shards: shards) { broker in
            let deaf = broker.connect(on: 0)
            deaf.confirmed(.subscribe, [("destination", "/queue/q"), ("id", "0"), ("ack", "client-individual")])
            deaf.socket.room = 0
            let publisher = broker.connect(on: shards - 1)
            for index in 0..<3 { publisher.confirmed(.send, [("destination", "/queue/q")], "\(index)") }
            deaf.write("nonsense\n\n\0")
            // It does not read the ERROR either, until its time is over.
            broker.advance(milliseconds: 4_000)
            #expect(deaf.socket.isClosed)
            let other = broker.connect(on: 0)
            other.subscribe("/queue/q")
            let messages = other.messages()
            #expect(messages.map(\.text) == ["0", "1", "2"])
            #expect(messages.allSatisfy { $0["redelivered"] == nil && $0["delivery-count"] == nil })
        }
    }

    @Test("What a lost consumer holds goes to others in its old place, marked as redelivered", arguments: [1, 2, 8])
    func redelivery(shards: Int) {
        withBroker(shards: shards) { broker in
            let first = broker.connect(on: 0)
            first.subscribe("/queue/q", ack: "client", [("prefetch-count", "5")])
            let publisher = broker.connect(on: shards - 1)
            for index in 0..<10 { publisher.publish("/queue/q", "\(index)") }
            let got = first.messages()
            #expect(got.map(\.text) == ["0", "1", "2", "3", "4"])
            first.ack(got[1])
            #expect(first.bodies() == ["5", "6"])
            first.reset()
            broker.run()
            let second = broker.connect(.v1_1, on: shards / 2)
            second.subscribe("/queue/q", ack: "client")
            let again = second.messages()
            #expect(again.map(\.text) == (2..<10).map(String.init))
            #expect(
                again.map { $0["redelivered"] } == Array(repeating: "true", count: 5) + Array(repeating: nil, count: 3))
            #expect(
                again.map { $0["delivery-count"] } == Array(repeating: "2", count: 5) + Array(repeating: nil, count: 3))
            second.ack(again[7])
        }
    }

    @Test(
        "An automatic consumer that ends takes no more with it than it was given", arguments: [1, 2],
        ["unsubscribe", "reset", "hang up", "disconnect"])
    func automaticConsumerEnds(shards: Int, how: String) {
        withBroker(shards: shards) { broker in
            let consumer = broker.connect(on: 0)
            consumer.socket.room = 0
            consumer.subscribe("/queue/q", [("prefetch-count", "3")])
            let other = broker.connect(on: shards - 1)
            broker.run()
            for index in 0..<20 { other.publish("/queue/q", "\(index)") }
            broker.run()
            switch how {
            case "unsubscribe": consumer.send(.unsubscribe, [("id", "0")])
            case "reset": consumer.reset()
            case "hang up": consumer.hangUp()
            default: consumer.send(.disconnect)
            }
            broker.run()
            consumer.socket.room = .max
            broker.run()
            let taken = consumer.takeFrames().filter { $0.command == .message }.map(\.text)
            other.subscribe("/queue/q")
            let rest = other.messages()
            #expect(taken == (how == "reset" ? [] : ["0", "1", "2"]))
            #expect(taken + rest.map(\.text) == (0..<20).map(String.init))
            // Nobody saw them.
            #expect(rest.allSatisfy { $0["redelivered"] == nil })
        }
    }

    @Test(
        "Several subscriptions of one connection that is lost do not hand messages to each other", arguments: [1, 2],
        ["auto", "client"])
    func severalSubscriptionsEnd(shards: Int, ack: String) {
        withBroker(shards: shards) { broker in
            let consumer = broker.connect(on: 0)
            for id in 0..<5 { consumer.subscribe("/queue/q", id: "\(id)", ack: ack, [("prefetch-count", "2")]) }
            broker.run()
            consumer.socket.room = 0
            let other = broker.connect(on: shards - 1)
            for index in 0..<10 { other.publish("/queue/q", "\(index)") }
            broker.run()
            consumer.reset()
            broker.run()
            other.subscribe("/queue/q", ack: "client")
            let rest = other.messages()
            #expect(rest.map(\.text) == (0..<10).map(String.init))
            #expect(rest.allSatisfy { $0["delivery-count"] == nil }, "nobody saw them")
            if let last = rest.last { other.ack(last) }
        }
    }

    @Test("NACK returns a message to its place, and after the limit to the dead letters", arguments: [1, 2, 8])
    func nack(shards: Int) {
        let options = Self.options { $0.deliveryCountMax = 3 }
        withBroker(shards: shards, options) { broker in
            let consumer = broker.connect(on: shards - 1)
            consumer.subscribe("/queue/q", ack: "client-individual", [("prefetch-count", "1")])
            consumer.publish("/queue/q", "bad", [("user", "kept")])
            consumer.publish("/queue/q", "good")
            for delivery in 1...3 {
                let messages = consumer.messages()
                #expect(messages.map(\.text) == ["bad"])
                #expect(messages.first?["delivery-count"] == (delivery == 1 ? nil : "\(delivery)"))
                if let message = messages.first { consumer.ack(message, nack: true) }
            }
            let good = consumer.messages()
            #expect(good.map(\.text) == ["good"])
            consumer.ack(good[0])
            let undertaker = broker.connect(on: 0)
            undertaker.subscribe("/queue/DLQ")
            let dead = undertaker.messages()
            #expect(dead.map(\.text) == ["bad"])
            #expect(dead.first?["original-destination"] == "/queue/q")
            #expect(dead.first?["user"] == "kept" && dead.first?["dead-letter-reason"] == "delivery-limit")
        }
    }

    @Test("NACK with requeue:false sends a message to the dead letters at once", arguments: [1, 2])
    func rejected(shards: Int) {
        withBroker(shards: shards) { broker in
            let consumer = broker.connect(on: shards - 1)
            consumer.subscribe("/queue/q", ack: "client")
            consumer.subscribe("/queue/DLQ", id: "dead")
            for index in 0..<3 { consumer.publish("/queue/q", "\(index)") }
            let messages = consumer.messages()
            consumer.ack(messages[1], [("requeue", "false")], nack: true)
            let dead = consumer.messages()
            #expect(dead.map(\.text) == ["0", "1"])
            #expect(dead.allSatisfy { $0["subscription"] == "dead" })
            consumer.ack(messages[2])
        }
    }

    @Test("NACK in any order keeps the queue's order")
    func nackOrder() {
        withBroker { broker in
            let consumer = broker.connect()
            consumer.subscribe("/queue/q", ack: "client-individual", [("prefetch-count", "6")])
            for index in 0..<6 { consumer.publish("/queue/q", "\(index)") }
            var messages = consumer.messages()
            // Redelivered ones stand behind others in the consumer's list.
            consumer.ack(messages[1], nack: true)
            consumer.ack(messages[0], nack: true)
            messages = consumer.messages()
            #expect(messages.map(\.text) == ["1", "0"])
            consumer.reset()
            broker.run()
            let other = broker.connect()
            other.subscribe("/queue/q")
            #expect(other.bodies() == (0..<6).map(String.init))
        }
    }

    @Test("client acknowledges cumulatively, client-individual one by one", arguments: Version.allCases)
    func acknowledging(version: Version) {
        withBroker { broker in
            let client = broker.connect(version)
            for ack in ["client", "client-individual"] {
                client.subscribe("/queue/\(ack)", id: ack, ack: ack)
                for index in 0..<4 { client.publish("/queue/\(ack)", "\(index)") }
                let messages = client.messages()
                client.ack(messages[2])
                client.confirmed(.unsubscribe, [("id", ack)])
                client.subscribe("/queue/\(ack)", id: "again")
                #expect(client.bodies() == (ack == "client" ? ["3"] : ["0", "1", "3"]))
                client.confirmed(.unsubscribe, [("id", "again")])
            }
        }
    }

    @Test("ACK of what is not there to be acknowledged is an ERROR", arguments: Version.allCases)
    func badAcknowledgement(version: Version) {
        withBroker(queued: 1) { broker in
            let keeper = broker.connect(version)
            keeper.subscribe("/queue/q", ack: "client")
            keeper.publish("/queue/q", "x")
            let message = keeper.messages()[0]
            let foreign = broker.connect(version)
            foreign.subscribe("/queue/other", id: message["subscription"]!, ack: "client")
            foreign.ack(message, [("receipt", "r")])
            foreign.expectError("Message not found", receipt: "r")

            let automatic = broker.connect(version)
            automatic.subscribe("/topic/t")
            automatic.publish("/topic/t", "y")
            automatic.ack(automatic.messages()[0])
            broker.run()
            #expect(automatic.frame()?.command == .error)

            let missing = broker.connect(version)
            missing.send(.nack, [("receipt", "r")])
            missing.expectError("Missing header", receipt: "r")

            let again = broker.connect(version)
            again.subscribe("/queue/again", ack: "client")
            again.publish("/queue/again", "z")
            let second = again.messages()[0]
            again.ack(second)
            again.ack(second)
            again.expectError("Message not found")
        }
    }

    @Test("In 1.1 an ACK names the subscription, and it has to be the right one")
    func acknowledgementOf11() {
        withBroker { broker in
            let client = broker.connect(.v1_1)
            client.subscribe("/queue/a", id: "a", ack: "client")
            client.subscribe("/queue/b", id: "b", ack: "client")
            client.publish("/queue/a", "x")
            let message = client.messages()[0]
            client.send(.ack, [("message-id", message["message-id"]!), ("subscription", "b")])
            client.expectError("Message not found")
            let other = broker.connect(.v1_1)
            other.send(.ack, [("message-id", message["message-id"]!)])
            other.expectError("Missing header")
            let third = broker.connect(.v1_1)
            third.subscribe("/queue/a")
            #expect(third.bodies() == ["x"])
        }
    }

    @Test("Messages expire on time, ready or with a consumer", arguments: [1, 2])
    func expiry(shards: Int) {
        let options = Self.options("/queue/short") { $0.messageMillisecondsMax = 500 }
        withBroker(shards: shards, options) { broker in
            let publisher = broker.connect(on: 0)
            publisher.publish("/queue/q", "ttl", [("ttl", "1000")])
            publisher.publish("/queue/q", "expires", [("expires", "\(broker.kernel.wallMilliseconds + 2000)")])
            publisher.publish("/queue/q", "kept", [("expires", "999999999999999999")])
            publisher.publish("/queue/q", "kept too", [("ttl", "999999999999999999")])
            publisher.publish("/queue/short", "short")
            broker.advance(milliseconds: 400)
            #expect(broker.counters.messagesExpired == 0)
            broker.advance(milliseconds: 200)
            #expect(broker.counters.messagesExpired == 1)
            broker.advance(milliseconds: 500)
            #expect(broker.counters.messagesExpired == 2)
            let holder = broker.connect(on: shards - 1)
            holder.subscribe("/queue/q", ack: "client")
            #expect(holder.bodies() == ["expires", "kept", "kept too"])
            broker.advance(milliseconds: 5000)
            #expect(broker.counters.messagesExpired == 2)
            holder.reset()
            broker.run()
            #expect(broker.counters.messagesExpired == 3)
            let reader = broker.connect(on: 0)
            reader.subscribe("/queue/q")
            #expect(reader.bodies() == ["kept", "kept too"])
        }
    }

    @Test("A wall clock that is set back does not make messages expire too soon")
    func wallClockSetBack() {
        withBroker { broker in
            let client = broker.connect()
            client.publish("/queue/q", "x", [("ttl", "1000")])
            broker.run()
            broker.stepWallClock(milliseconds: -5_000)
            broker.advance(milliseconds: 3_000)
            #expect(broker.counters.messagesExpired == 0)
            broker.advance(milliseconds: 3_100)
            #expect(broker.counters.messagesExpired == 1)
        }
    }

    @Test("A message whose frame is with the kernel is delivered, without the line feed behind it too")
    func brokenBehindNUL() {
        withBroker { broker in
            let first = broker.connect()
            first.subscribe("/queue/q")
            let publisher = broker.connect()
            publisher.publish("/queue/q", "x")
            broker.run()
            let byteCount = first.socket.received.count
            #expect(first.bodies() == ["x"])
            first.socket.room = byteCount - 1
            publisher.publish("/queue/q", "y")
            broker.run()
            #expect(first.bodies() == ["y"])
            first.reset()
            broker.run()
            let second = broker.connect()
            second.subscribe("/queue/q")
            #expect(second.bodies() == [])
        }
    }

    @Test("What has expired is not delivered, though its timer has not fired yet")
    func expiredBeforeTimer() {
        withBroker { broker in
            let publisher = broker.connect()
            publisher.publish("/queue/q", "expired", [("ttl", "1000")])
            publisher.publish("/queue/q", "kept", [("ttl", "5000")])
            broker.run()
            broker.stepWallClock(milliseconds: 2_000)
            let reader = broker.connect()
            reader.subscribe("/queue/q")
            #expect(reader.bodies() == ["kept"])
            #expect(broker.counters.messagesExpired == 1)
        }
    }

    @Test("A full queue that rejects answers with ERROR", arguments: [1, 2, 8])
    func reject(shards: Int) {
        let options = Self.options { $0.queueMessageCountMax = 3 }
        withBroker(shards: shards, queued: 3 * shards, options) { broker in
            for shard in 0..<shards {
                let publisher = broker.connect(on: shard)
                for index in 0..<3 { publisher.confirmed(.send, [("destination", "/queue/q\(shard)")], "\(index)") }
                publisher.send(.send, [("destination", "/queue/q\(shard)"), ("receipt", "full")], "3")
                let text = publisher.expectError("Queue full", receipt: "full")?.text ?? ""
                guard shards == 1 else { continue }
                #expect(text.contains("/queue/q0 is full: 3 messages of at most 3 (messages-max), and "), "\(text)")
            }
        }
    }

    @Test("A full queue that drops the oldest keeps the newest", arguments: [1, 2, 8])
    func dropOldest(shards: Int) {
        let options = Self.options("/queue/q") {
            $0.queueMessageCountMax = 3
            $0.queueByteCountMax = 10_000
            $0.overflow = .dropOldest
        }
        withBroker(shards: shards, options) { broker in
            let publisher = broker.connect(on: shards - 1)
            for index in 0..<10 { publisher.publish("/queue/q", "\(index)") }
            broker.run()
            let consumer = broker.connect(on: 0)
            consumer.subscribe("/queue/q", ack: "client")
            let messages = consumer.messages()
            #expect(messages.map(\.text) == ["7", "8", "9"])
            consumer.ack(messages[2])
            consumer.subscribe("/queue/DLQ", id: "dead")
            #expect(consumer.bodies() == (0..<7).map(String.init))
            consumer.confirmed(.unsubscribe, [("id", "0")])
            publisher.publish("/queue/q", "stays")
            broker.run()
            // What can never fit drives nothing out.
            publisher.publish("/queue/q", String(repeating: "x", count: 20_000))
            publisher.expectError("Queue full")
            consumer.subscribe("/queue/q", id: "1")
            #expect(consumer.bodies() == ["stays"])
        }
    }

    @Test("A full queue that blocks stops its publishers, and lets them go on in turn", arguments: [1, 2, 8])
    func block(shards: Int) {
        let options = Self.options {
            $0.queueMessageCountMax = 3
            $0.overflow = .block
        }
        withBroker(shards: shards, options) { broker in
            let publishers = (0..<4).map { broker.connect(on: $0 % shards, name: "publisher \($0)") }
            for (place, publisher) in publishers.enumerated() {
                for index in 0..<5 {
                    publisher.publish("/queue/q", "\(place):\(index)", index == 4 ? [("receipt", "r")] : [])
                }
            }
            broker.run()
            #expect(publishers.allSatisfy { $0.takeFrames().isEmpty && $0.socket.isReceivePaused })
            let consumer = broker.connect(on: shards - 1)
            consumer.subscribe("/queue/q", ack: "client", [("prefetch-count", "1")])
            var bodies: [String] = []
            for _ in 0..<20 {
                let messages = consumer.messages()
                #expect(messages.count == 1)
                bodies += messages.map(\.text)
                if let message = messages.first { consumer.ack(message) }
            }
            broker.run()
            for place in 0..<4 {
                #expect(bodies.filter { $0.hasPrefix("\(place):") } == (0..<5).map { "\(place):\($0)" })
                #expect(publishers[place].frame()?.command == .receipt)
                #expect(!publishers[place].socket.isReceivePaused)
            }
        }
    }

    @Test("A blocked publisher that leaves lets the next one have the room", arguments: [1, 2])
    func blockedPublisherLeaves(shards: Int) {
        let options = Self.options {
            $0.queueMessageCountMax = 1
            $0.overflow = .block
        }
        withBroker(shards: shards, options) { broker in
            let consumer = broker.connect(on: 0)
            consumer.publish("/queue/q", "first")
            broker.run()
            let publishers = (0..<3).map { broker.connect(on: $0 % shards) }
            for (index, publisher) in publishers.enumerated() {
                publisher.publish("/queue/q", "\(index)")
                broker.run()
            }
            publishers[0].reset()
            broker.run()
            consumer.subscribe("/queue/q", ack: "client")
            let message = consumer.messages()[0]
            #expect(message.text == "first")
            consumer.ack(message)
            // The one that gets the room is lost before it uses it.
            broker.turn(0)
            publishers[1].reset()
            broker.turn(0)
            var rest = consumer.messages()
            if rest.first?.text == "1" {
                consumer.ack(rest[0])
                rest = consumer.messages()
            }
            #expect(rest.map(\.text) == ["2"])
            if let last = rest.last { consumer.ack(last) }
            // What has expired takes no room, and the next one has its turn.
            consumer.publish("/queue/q", "fills")
            broker.run()
            let hasty = broker.connect(on: 0)
            hasty.publish("/queue/q", "expired", [("ttl", "5")])
            broker.run()
            let patient = broker.connect(on: shards - 1)
            patient.publish("/queue/q", "patient", [("receipt", "r")])
            broker.advance(milliseconds: 100)
            let fills = consumer.messages()
            #expect(fills.map(\.text) == ["fills"])
            consumer.ack(fills[0])
            let last = consumer.messages()
            #expect(last.map(\.text).contains("patient") || last.map(\.text) == ["expired"])
            consumer.ack(last[0])
            broker.run()
            for message in consumer.messages() { consumer.ack(message) }
            broker.run()
            #expect(patient.frame()?.command == .receipt)
        }
    }

    @Test("A publisher that needs less goes on when the one before it has left", arguments: [1, 2])
    func smallerPublisherGoesOn(shards: Int) {
        let options = Self.options {
            $0.queueByteCountMax = 10_000
            $0.overflow = .block
        }
        withBroker(shards: shards, queued: 2, options) { broker in
            let publishers = (0..<3).map { broker.connect(on: shards - 1, name: "publisher \($0)") }
            for text in ["x", "y"] {
                publishers[0].confirmed(.send, [("destination", "/queue/q")], String(repeating: text, count: 3_000))
            }
            for (publisher, count) in [(1, 8_000), (2, 5_000)] {
                publishers[publisher].publish("/queue/q", String(repeating: "z", count: count), [("receipt", "r")])
                broker.run()
            }
            let consumer = broker.connect(on: 0, name: "consumer")
            consumer.subscribe("/queue/q", ack: "client-individual", [("prefetch-count", "1")])
            consumer.ack(consumer.messages()[0])
            broker.run()
            #expect(publishers[2].takeFrames().isEmpty, "there is room for this one, but another was first")
            publishers[1].reset()
            broker.run()
            #expect(publishers[2].takeFrames().map { $0["receipt-id"] } == ["r"])
        }
    }

    @Test("Room that was granted for a message that has expired goes to the next publisher", arguments: [1, 2])
    func grantedRoomOfAnExpiredMessage(shards: Int) {
        let options = Self.options {
            $0.queueMessageCountMax = 1
            $0.overflow = .block
        }
        withBroker(shards: shards, options) { broker in
            for queue in (0..<shards).map({ broker.queueNames(ownedBy: $0)[0] }) {
                let consumer = broker.connect(on: 0)
                consumer.publish(queue, "first")
                broker.run()
                let late = broker.connect(on: 0)
                late.publish(queue, "late", [("expires", "1")])
                broker.run()
                let next = broker.connect(on: 0)
                next.publish(queue, "next", [("receipt", "r")])
                broker.run()
                consumer.subscribe(queue)
                #expect(consumer.bodies() == ["first", "next"])
                #expect(next.takeFrames().map { $0["receipt-id"] } == ["r"])
            }
        }
    }

    @Test("Room that was granted for a message that has expired is for one of those who wait", arguments: [1, 2])
    func grantedRoomOfAnExpiredMessageIsForOne(shards: Int) {
        let options = Self.options {
            $0.queueMessageCountMax = 1
            $0.overflow = .block
        }
        withBroker(shards: shards, options) { broker in
            for queue in (0..<shards).map({ broker.queueNames(ownedBy: $0)[0] }) {
                let consumer = broker.connect(on: 0)
                consumer.confirmed(.send, [("destination", queue)], "first")
                for (text, headers) in [("late", [("expires", "1")]), ("second", []), ("third", [])] {
                    broker.connect(on: 0).publish(queue, text, headers)
                    broker.run()
                }
                consumer.subscribe(queue, ack: "client")
                for text in ["first", "second", "third"] {
                    let messages = consumer.messages()
                    #expect(messages.map(\.text) == [text])
                    if let message = messages.last { consumer.ack(message) }
                }
            }
        }
    }

    @Test(
        "Room that COMMIT kept for a message that has expired is not for publishers who need more", arguments: [1, 2])
    func keptRoomOfAnExpiredMessage(shards: Int) {
        let options = Self.options {
            $0.queueByteCountMax = 10_000
            $0.overflow = .block
        }
        withBroker(shards: shards, options) { broker in
            for queue in (0..<shards).map({ broker.queueNames(ownedBy: $0)[0] }) {
                let consumer = broker.connect(on: 0)
                consumer.confirmed(.send, [("destination", queue)], String(repeating: "x", count: 6_000))
                let publishers = (0..<2).map { _ in broker.connect(on: 0) }
                for publisher in publishers {
                    publisher.publish(queue, String(repeating: "y", count: 8_000), [("receipt", "r")])
                    broker.run()
                }
                let client = broker.connect(on: 0)
                client.send(.begin, [("transaction", "t")])
                client.publish(queue, "late", [("transaction", "t"), ("expires", "1")])
                client.confirmed(.commit, [("transaction", "t")])
                #expect(publishers.allSatisfy { $0.takeFrames().isEmpty })
                consumer.subscribe(queue, ack: "client")
                for byteCount in [6_000, 8_000, 8_000] {
                    let messages = consumer.messages()
                    #expect(messages.map(\.body.count) == [byteCount])
                    if let message = messages.last { consumer.ack(message) }
                }
                #expect(publishers.allSatisfy { $0.takeFrames().map { $0["receipt-id"] } == ["r"] })
            }
        }
    }

    @Test("Messages of a COMMIT that have expired leave no queue in use", arguments: [1, 2])
    func expiredInTransaction(shards: Int) {
        withBroker(shards: shards, TestBroker.options { $0.limits.destinationCountMax = 40 }) { broker in
            for shard in 0..<shards {
                let names = broker.queueNames(ownedBy: shard)
                for round in 0..<4 {
                    let client = broker.connect(on: 0)
                    client.send(.begin, [("transaction", "t")])
                    for place in 0..<20 {
                        client.publish(names[round * 20 + place], "x", [("transaction", "t"), ("expires", "1")])
                    }
                    client.confirmed(.commit, [("transaction", "t")])
                }
            }
        }
    }

    @Test("Publishers to a queue that blocks keep the room they were granted while memory is full")
    func grantedRoomWhileMemoryIsFull() {
        let options = TestBroker.options {
            $0.limits.messageMemoryByteCountMax = 4 << 20
            var policy = DestinationPolicy(pattern: "/queue/q")
            policy.queueMessageCountMax = 1
            policy.overflow = .block
            $0.destinationPolicies = [policy]
        }
        withBroker(queued: 1, options) { broker in
            let consumer = broker.connect()
            consumer.publish("/queue/q", "first")
            broker.run()
            let publishers = ["a", "b"].map { text in
                let publisher = broker.connect(name: text)
                publisher.publish("/queue/q", text, [("receipt", text)])
                broker.run()
                return publisher
            }
            let filler = broker.connect(name: "filler")
            for _ in 0..<100 { filler.publish("/queue/full", String(repeating: "x", count: 100_000)) }
            broker.run()
            #expect(filler.socket.isReceivePaused)
            consumer.subscribe("/queue/q", ack: "client-individual", [("prefetch-count", "1")])
            let first = consumer.messages()[0]
            consumer.ack(first)
            broker.run()
            // It has the room, and leaves before it has the memory.
            publishers[0].reset()
            broker.run()
            let drain = broker.connect(name: "drain")
            drain.subscribe("/queue/full")
            var count = 0
            for _ in 0..<200 where count < 100 {
                count += drain.messages().count
                broker.advance(milliseconds: 20)
            }
            #expect(count == 100)
            #expect(consumer.bodies() == ["b"])
            #expect(publishers[1].takeFrames().map { $0["receipt-id"] } == ["b"])
        }
    }

    @Test("Who does not read gets no more by subscribing again, and all of it when it reads", arguments: [1, 2])
    func subscribesWithoutReading(shards: Int) {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 200_000 }
        withBroker(shards: shards, options) { broker in
            let name = broker.queueNames(ownedBy: shards - 1)[0]
            let publisher = broker.connect(on: 0)
            for _ in 0..<200 { publisher.publish(name, String(repeating: "x", count: 10_000)) }
            broker.run()
            let client = broker.connect(on: 0, name: "sleeper")
            client.socket.room = 0
            for round in 0..<10 {
                client.subscribe(name, id: "\(round)")
                broker.run()
                client.send(.unsubscribe, [("id", "\(round)")])
                broker.run()
            }
            client.subscribe(name, id: "last")
            broker.run()
            let sum = broker.shard(0).pointee.outputByteCounts.reduce(0, +)
            #expect(sum < 9 << 20, "one window at most")
            client.socket.room = .max
            #expect(client.messages().count == 200)
        }
    }

    @Test("Publishers wait while as many messages are queued as may be", arguments: [1, 2])
    func queuedMessagesFull(shards: Int) {
        let options = TestBroker.options { $0.limits.queuedMessageCountMax = 160 }
        withBroker(shards: shards, options) { broker in
            let name = broker.queueNames(ownedBy: shards - 1)[0]
            let publisher = broker.connect(on: 0)
            for index in 0..<200 {
                publisher.publish(name, "\(index)")
                if index % 10 == 0 { broker.run() }
            }
            broker.run()
            #expect(publisher.socket.isReceivePaused && publisher.takeFrames().isEmpty)
            // It waits without being asked again and again, and the log says why.
            let waits = broker.counters.limits[.queuedMessages]
            broker.advance(milliseconds: 1000)
            #expect(waits > 0 && broker.counters.limits[.queuedMessages] == waits)
            #expect(broker.counters.limits[.mailbox] == 0)
            #expect(broker.notices.count { $0.text.contains("limits.queued-messages-max") } == 1)
            // With two workers the rest of a turn's is on its way.
            #expect((160...(shards == 1 ? 160 : 180)).contains(broker.audit(shards - 1).entries))
            let consumer = broker.connect(on: 0)
            consumer.subscribe(name)
            var bodies: [String] = []
            for _ in 0..<100 {
                bodies += consumer.bodies()
                broker.advance(milliseconds: 20)
            }
            #expect(bodies == (0..<200).map(String.init))
        }
    }

    @Test("A consumer that does not read gets no more, and others get the messages", arguments: [1, 2])
    func slowConsumer(shards: Int) {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 100_000 }
        withBroker(shards: shards, options) { broker in
            let slow = broker.connect(on: 0)
            slow.subscribe("/queue/q", id: "0", ack: "client")
            for index in 1..<20 { slow.subscribe("/queue/q", id: "\(index)", ack: "client") }
            let quick = broker.connect(on: shards - 1)
            quick.subscribe("/queue/q", ack: "client")
            broker.run()
            slow.socket.room = 5_000
            let publisher = broker.connect(on: shards - 1)
            for index in 0..<1000 {
                publisher.publish("/queue/q", "\(index) " + String(repeating: "x", count: 1000))
                if index % 10 == 0 { broker.run() }
            }
            let messages = quick.messages()
            #expect(messages.count > 850)
            #expect(!slow.socket.isClosed)
            #expect(broker.shard(0).pointee.blockByteCount < 4_000_000)
            if let last = messages.last { quick.ack(last) }
            broker.run()
            #expect(broker.shard(0).pointee.outputByteCount(of: slow.socket.connection)! < 130_000)
            slow.socket.room = .max
            broker.run()
            let late = slow.messages()
            let again = publisher
            again.publish("/queue/q", "now")
            let both = slow.messages().map(\.text) + quick.messages().map(\.text)
            #expect(both == ["now"])
            #expect(late.count + messages.count == 1000)
            slow.reset()
            broker.run()
            var rest = quick.messages()
            while let last = rest.last {
                quick.ack(last)
                rest = quick.messages()
            }
        }
    }

    @Test("Draining output does not flood a session with what waits for its many subscriptions")
    func resumedConsumersPauseAgain() {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 100_000 }
        withBroker(queued: 2000, options) { broker in
            let slow = broker.connect()
            for index in 0..<20 { slow.subscribe("/queue/\(index)", id: "\(index)", ack: "client") }
            broker.run()
            slow.socket.room = 0
            let publisher = broker.connect()
            for index in 0..<2000 { publisher.publish("/queue/\(index % 20)", String(repeating: "x", count: 1000)) }
            broker.run()
            for _ in 0..<20 {
                slow.socket.room = 60_000
                broker.run()
                #expect(
                    broker.shard(0).pointee.outputByteCount(of: slow.socket.connection)! < 110_000)
            }
        }
    }

    @Test("A topic subscription that acknowledges has a window of its own, and NACK drops", arguments: [1, 2])
    func acknowledgingTopic(shards: Int) {
        withBroker(shards: shards) { broker in
            let subscriber = broker.connect(on: shards - 1)
            subscriber.confirmed(
                .subscribe,
                [("destination", "/topic/t:1"), ("id", "0"), ("ack", "client-individual"), ("prefetch-count", "2")])
            let publisher = broker.connect(on: 0)
            for index in 0..<5 { publisher.publish("/topic/t:1", "\(index)", [("k", "a:b")]) }
            let first = subscriber.messages()
            #expect(first.map(\.text) == ["0", "1"])
            #expect(first.allSatisfy { $0["destination"] == "/topic/t:1" && $0["k"] == "a:b" && $0["ack"] != nil })
            subscriber.ack(first[0], nack: true)
            subscriber.ack(first[1])
            #expect(subscriber.bodies() == ["2", "3"])
            subscriber.confirmed(.unsubscribe, [("id", "0")])
        }
    }

    @Test("Publishers wait while memory is full, and go on when there is room")
    func memoryLimit() {
        let options = TestBroker.options { $0.limits.messageMemoryByteCountMax = 4 << 20 }
        withBroker(options) { broker in
            let publisher = broker.connect()
            for index in 0..<100 { publisher.publish("/queue/q", "\(index) " + String(repeating: "x", count: 100_000)) }
            broker.run()
            #expect(publisher.socket.isReceivePaused)
            let waiting = broker.connect()
            waiting.send(.begin, [("transaction", "t")])
            waiting.publish("/queue/q", "in a transaction", [("transaction", "t")])
            broker.run()
            #expect(waiting.socket.isReceivePaused)
            #expect(broker.shard(0).pointee.blockByteCount < 5 << 20)
            let consumer = broker.connect()
            consumer.subscribe("/queue/q")
            var count = 0
            for _ in 0..<200 {
                count += consumer.messages().count
                broker.advance(milliseconds: 20)
            }
            #expect(count == 100)
            #expect(!publisher.socket.isReceivePaused && !waiting.socket.isReceivePaused)
        }
    }

    @Test("Publishers wait while another worker's mailbox is overfull")
    func mailboxOverfull() {
        let options = TestBroker.options { $0.limits.mailboxByteCountMax = 10_000 }
        withBroker(shards: 2, options) { broker in
            let subscriber = broker.connect(on: 1)
            subscriber.confirmed(.subscribe, [("destination", "/topic/t"), ("id", "0")])
            let publisher = broker.connect(on: 0)
            for index in 0..<20 {
                publisher.publish("/topic/t", "\(index) " + String(repeating: "x", count: 4_000))
                broker.turn(0)
            }
            #expect(publisher.socket.isReceivePaused)
            #expect(broker.kernel.fabric.mailbox(1).pendingByteCount < 40_000)
            broker.advance(milliseconds: 200)
            #expect(subscriber.messages().count == 20)
        }
    }

    @Test("Hostile numbers are clamped or refused, never trapped")
    func hostileNumbers() {
        withBroker { broker in
            for value in ["0", "4294967296", "999999999999999999"] {
                let client = broker.connect()
                client.subscribe(
                    "/queue/q", ack: "client",
                    [("prefetch-count", value), ("activemq.prefetchSize", value), ("consumer-window-size", value)])
                client.publish("/queue/q", "x")
                #expect(client.bodies() == ["x"])
                client.send(.ack, [("id", "ffffffffffffffff")])
                client.expectError("Message not found")
                let drain = broker.connect()
                drain.subscribe("/queue/q")
                #expect(drain.bodies() == ["x"])
                drain.send(.disconnect)
            }
        }
    }

    @Test(
        "A prefetch that is no number is an ERROR that names its header",
        arguments: ["prefetch-count", "activemq.prefetchSize", "consumer-window-size"],
        ["many", "", "-2", "1.5", " 1", "99999999999999999999"])
    func badPrefetch(name: String, value: String) {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/q", [(name, value), ("receipt", "r")])
            let error = client.expectError("Invalid header", receipt: "r")
            #expect(error?.text.hasPrefix(name + " must be a whole number") == true)
        }
    }

    @Test("NACK understands requeue as clients write it", arguments: [1, 2], ["true", "True", "false", "False"])
    func requeue(shards: Int, value: String) {
        withBroker(shards: shards, queued: value.lowercased() == "true" ? 1 : 0) { broker in
            let client = broker.connect(on: shards - 1)
            client.subscribe("/queue/q", id: "q", ack: "client-individual")
            client.subscribe("/queue/DLQ", id: "dead")
            client.publish("/queue/q", "x")
            client.ack(client.messages()[0], [("requeue", value)], nack: true)
            let expected = value.lowercased() == "true" ? "q" : "dead"
            #expect(client.messages().map { $0["subscription"] } == [expected])
        }
    }

    @Test(
        "What no queue can be is an ERROR that names the header, by SUBSCRIBE and by SEND", arguments: [1, 2],
        [
            ("x-queue-name", "n", "Unsupported header"), ("x-queue-type", "quorum", "Unsupported header"),
            ("x-queue-type", "stream", "Unsupported header"), ("x-expires", "1000", "Unsupported header"),
            ("x-max-priority", "5", "Unsupported header"), ("x-single-active-consumer", "true", "Unsupported header"),
            ("x-single-active-consumer", "True", "Unsupported header"),
            ("x-single-active-consumer", "yes", "Invalid header"),
        ])
    func unsupportedQueue(shards: Int, example: (name: String, value: String, message: String)) {
        withBroker(shards: shards, queued: 1) { broker in
            let header = (example.name, example.value)
            for destination in ["/queue/q", "/topic/t", "/temp-queue/t"] {
                let client = broker.connect(on: shards - 1)
                client.subscribe(destination, [header, ("receipt", "r")])
                let error = client.expectError(example.message, receipt: "r")
                #expect(error?.text.contains(example.name) == true)
            }
            for destination in ["/queue/q", "/temp-queue/t"] {
                // The second one goes where the first went.
                for first in [true, false] {
                    let client = broker.connect(on: shards - 1)
                    if !first { client.confirmed(.send, [("destination", destination)], "x") }
                    client.publish(destination, "x", [header, ("receipt", "r")])
                    client.expectError(example.message, receipt: "r")
                }
            }
            let early = broker.connect(on: shards - 1)
            early.send(.begin, [("transaction", "tx")])
            early.publish("/queue/q", "x", [header, ("transaction", "tx"), ("receipt", "r")])
            early.expectError(example.message, receipt: "r")
            let publisher = broker.connect(on: shards - 1)
            publisher.confirmed(.send, [("destination", "/topic/t"), header], "harmless")
        }
    }

    @Test(
        "Limits of a queue are an ERROR that names the header, in a SUBSCRIBE to anything else", arguments: [1, 2],
        [
            ("x-max-length", "10"), ("x-max-length-bytes", "1000"), ("x-message-ttl", "1000"),
            ("x-overflow", "drop-head"), ("x-dead-letter-routing-key", "dead"),
        ])
    func limitsOfNoQueue(shards: Int, header: (name: String, value: String)) {
        withBroker(shards: shards) { broker in
            for destination in ["/topic/t", "/topic/t.*", "/temp-topic/t", "/temp-queue/t"] {
                let client = broker.connect(on: shards - 1)
                client.subscribe(destination, [header, ("receipt", "r")])
                let error = client.expectError("Unsupported header", receipt: "r")
                #expect(error?.text.contains(header.name) == true)
            }
            let subscriber = broker.connect(on: 0)
            subscriber.subscribe("/topic/t")
            let publisher = broker.connect(on: shards - 1)
            publisher.confirmed(.send, [("destination", "/topic/t"), header], "passed on")
            #expect(subscriber.messages().first?[header.name] == header.value)
        }
    }

    @Test("What every queue is may be asked for", arguments: [1, 2])
    func supportedQueue(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect(on: shards - 1)
            let headers = [
                ("x-queue-type", "classic"), ("x-single-active-consumer", "False"), ("durable", "True"),
                ("persistent", "true"), ("activemq.subcriptionName", "s"), ("browser", "False"),
            ]
            client.confirmed(.subscribe, [("destination", "/queue/q"), ("id", "0")] + headers)
            client.publish("/queue/q", "x", headers)
            #expect(client.bodies() == ["x"])
        }
    }

    @Test("The log says once for each connection that persistent messages are not stored", arguments: [1, 2])
    func persistence(shards: Int) {
        withBroker(shards: shards) { broker in
            func count() -> Int { broker.notices.count { $0.kind == .notPersistent } }
            let client = broker.connect(on: shards - 1)
            for value in ["false", "False", "", "yes"] { client.publish("/queue/q", "x", [("persistent", value)]) }
            client.confirmed(.send, [("destination", "/queue/q")], "x")
            #expect(count() == 0)
            for value in ["True", "true", "true"] {
                client.confirmed(.send, [("destination", "/queue/q"), ("persistent", value)], "x")
            }
            #expect(count() == 1)
            let other = broker.connect(on: 0)
            other.send(.begin, [("transaction", "tx")])
            other.publish("/queue/q", "x", [("persistent", "true"), ("transaction", "tx")])
            other.confirmed(.commit, [("transaction", "tx")])
            #expect(count() == 2)
            client.subscribe("/queue/q")
            #expect(client.messages().count == 9)
        }
    }

    @Test(
        "Who uses a queue first may ask for tighter limits, not for wider ones", arguments: [1, 2, 8], [true, false])
    func requestedLimits(shards: Int, bySubscribe: Bool) {
        let options = Self.options("/queue/tight") { $0.queueMessageCountMax = 2 }
        // What is driven out of the queue without a dead-letter destination of its own goes to the usual one.
        withBroker(shards: shards, queued: 1, options) { broker in
            let client = broker.connect(on: 0)
            func use(_ name: String, _ headers: [(String, String)]) {
                if bySubscribe {
                    client.confirmed(.subscribe, [("destination", name), ("id", "id:" + name)] + headers)
                    client.confirmed(.unsubscribe, [("id", "id:" + name)])
                } else {
                    client.confirmed(.send, [("destination", name), ("ttl", "1")] + headers, "first")
                    broker.advance(milliseconds: 20)
                }
            }
            use(
                "/queue/few",
                [("x-max-length", "3"), ("x-overflow", "drop-head"), ("x-dead-letter-routing-key", "few\\:dead")])
            use("/queue/few", [("x-max-length", "9"), ("x-overflow", "reject")])
            use("/queue/newest", [("x-max-length", "1"), ("x-overflow", "drop-oldest")])
            use("/queue/tight", [("x-max-length", "1000"), ("x-max-length-bytes", "999999999999")])
            use("/queue/short", [("x-message-ttl", "500")])
            for index in 0..<5 { client.publish("/queue/few", "\(index)") }
            client.publish("/queue/short", "short")
            for text in ["old", "new"] { client.publish("/queue/newest", text) }
            client.publish("/queue/tight", "0")
            client.publish("/queue/tight", "1")
            broker.advance(milliseconds: 600)
            let reader = broker.connect(on: shards - 1)
            for name in ["few", "few\\:dead", "short", "newest"] {
                reader.confirmed(.subscribe, [("destination", "/queue/" + name), ("id", name)])
            }
            let messages = reader.messages()
            #expect(messages.filter { $0["subscription"] == "few" }.map(\.text) == ["2", "3", "4"])
            #expect(messages.filter { $0["subscription"] == "few\\:dead" }.map(\.text) == ["0", "1"])
            #expect(messages.filter { $0["subscription"] == "newest" }.map(\.text) == ["new"])
            #expect(messages.count == 6)
            client.publish("/queue/tight", "2")
            client.expectError("Queue full")
            reader.confirmed(.subscribe, [("destination", "/queue/tight"), ("id", "tight")])
            #expect(reader.bodies() == ["0", "1"])
        }
    }

    @Test("Full queues that are each other's dead-letter destination do not send a message round for ever")
    func circle() {
        withBroker(shards: 2, queued: 2) { broker in
            let client = broker.connect(on: 0)
            let names = (0..<2).map { broker.queueNames(ownedBy: $0)[0] }
            for (name, other) in zip(names, names.reversed()) {
                client.publish(
                    name, "first",
                    [("x-max-length", "1"), ("x-overflow", "drop-head"), ("x-dead-letter-routing-key", other)])
            }
            broker.run()
            client.publish(names[0], "second")
            broker.run()
            #expect(broker.counters.messagesDropped == 1)
            let reader = broker.connect(on: 1)
            for name in names { reader.subscribe(name, id: name, ack: "client") }
            broker.run()
            #expect(reader.bodies().sorted() == ["first", "second"])
        }
    }

    @Test(
        "Queue arguments that make no sense are ERRORs",
        arguments: [
            ("x-max-length", "0"), ("x-max-length", "x"), ("x-max-length-bytes", "-1"), ("x-message-ttl", ""),
            ("x-overflow", "block"), ("x-dead-letter-routing-key", ""), ("x-dead-letter-routing-key", "/temp-queue/x"),
        ])
    func badRequests(name: String, value: String) {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/q", [(name, value), ("receipt", "r")])
            broker.run()
            let error = client.frame()
            #expect(
                error?.command == .error && error?["receipt-id"] == "r"
                    && error?["message"]?.hasPrefix("Invalid") == true)
        }
    }

    @Test("What the kernel never took of an auto consumer's last messages returns to the queue", arguments: [1, 2])
    func failedFlush(shards: Int) {
        for ending in ["DISCONNECT", "error", "half-close"] {
            withBroker(shards: shards) { broker in
                let publisher = broker.connect(on: 0)
                let consumer = broker.connect(on: shards - 1)
                consumer.confirmed(.subscribe, [("destination", "/queue/q"), ("id", "0")])
                // Room for some of the messages only.
                consumer.socket.room = 400
                for index in 0..<10 { publisher.publish("/queue/q", "message \(index)") }
                broker.run()
                switch ending {
                case "DISCONNECT": consumer.send(.disconnect)
                case "error": consumer.send(.subscribe)
                default: consumer.hangUp()
                }
                broker.run()
                let seen = consumer.takeFrames().filter { $0.command == .message }.map(\.text)
                #expect(!seen.isEmpty && seen.count < 10)
                consumer.reset()
                broker.run()
                let other = broker.connect(on: 0)
                other.subscribe("/queue/q")
                let rest = other.messages()
                #expect(seen + rest.map(\.text) == (0..<10).map { "message \($0)" })
            }
        }
    }

    @Test("An auto consumer that ends in good order and reads on gets all that was given to it", arguments: [1, 2])
    func slowFlush(shards: Int) {
        withBroker(shards: shards) { broker in
            let publisher = broker.connect(on: 0)
            let consumer = broker.connect(on: shards - 1)
            consumer.confirmed(.subscribe, [("destination", "/queue/q"), ("id", "0")])
            consumer.socket.room = 400
            for index in 0..<10 { publisher.publish("/queue/q", "message \(index)") }
            broker.run()
            consumer.send(.disconnect, [("receipt", "bye")])
            broker.run()
            // What comes from now on is for others.
            publisher.publish("/queue/q", "message 10")
            broker.run()
            consumer.socket.room = .max
            broker.run()
            let frames = consumer.takeFrames()
            #expect(frames.dropLast().map(\.text) == (0..<10).map { "message \($0)" })
            #expect(frames.last?.command == .receipt)
            #expect(consumer.socket.isWriteShutDown)
            let other = broker.connect(on: 0)
            other.subscribe("/queue/q")
            #expect(other.bodies() == ["message 10"])
        }
    }
}
