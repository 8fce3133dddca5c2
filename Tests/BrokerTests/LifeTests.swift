import Broker
import Foundation
import STOMP
import Testing

/// Each is a run of its own of "A connection may end in any way at any moment".
private let seeds = 0..<(ProcessInfo.processInfo.environment["STAMPEDE_TEST_SEEDS"].flatMap { Int($0) } ?? 12)

@Suite("Drain, ends")
struct LifeTests {
    @Test(
        "Draining refuses newcomers and messages, lets consumers finish, and reports what is left",
        arguments: [1, 2, 8])
    func drain(shards: Int) {
        let broker = TestBroker(shards: shards, TestBroker.options())
        let consumer = broker.connect(on: 0)
        consumer.subscribe("/queue/busy", ack: "client")
        let publisher = broker.connect(on: shards - 1)
        publisher.confirmed(.send, [("destination", "/queue/busy")], "x")
        publisher.confirmed(.send, [("destination", "/queue/left")], "y")
        let message = consumer.messages()
        broker.kernel.beginDrain()
        for shard in 0..<shards { broker.turn(shard) }
        broker.advance(milliseconds: 1_000)
        #expect(!(0..<shards).contains { broker.shard($0).pointee.isDrained })
        _ = broker.accept(on: 0)
        broker.run()
        #expect(broker.kernel.refused.count == 1)
        publisher.send(.send, [("destination", "/queue/left"), ("receipt", "r")])
        publisher.expectError("Shutting down", receipt: "r")
        consumer.ack(message[0])
        broker.advance(milliseconds: 200)
        #expect(consumer.socket.isWriteShutDown)
        consumer.hangUp()
        publisher.hangUp()
        broker.advance(milliseconds: 50)
        #expect((0..<shards).allSatisfy { broker.shard($0).pointee.isDrained })
        let reports = broker.notices.filter { $0.kind == .undelivered }
        #expect(reports.map(\.text) == ["/queue/left"] && reports.map(\.messageCount) == [1])
    }

    @Test("A drain does not wait for who has nothing to get, though they keep their sockets open", arguments: [1, 2])
    func drainOfTheIdle(shards: Int) {
        var policy = DestinationPolicy(pattern: "/queue/small")
        policy.queueMessageCountMax = 1
        policy.overflow = .block
        let options = TestBroker.options { $0.destinationPolicies = [policy] }
        let broker = TestBroker(shards: shards, options)
        let idle = broker.connect(on: 0)
        idle.confirmed(.subscribe, [("destination", "/topic/t"), ("id", "0")])
        let publisher = broker.connect(on: shards - 1)
        publisher.confirmed(.send, [("destination", "/queue/small")], "kept")
        let blocked = (0..<shards).map { broker.connect(on: $0) }
        for client in blocked { client.publish("/queue/small", "waits", [("receipt", "r")]) }
        let half = broker.connect(on: 0)
        half.write("SEND\ndestination:/queue/small\n\nnot the end")
        broker.advance(milliseconds: options.limits.lingerMillisecondsMax + 500)
        for client in blocked { #expect(client.socket.isReceivePaused) }
        broker.kernel.beginDrain()
        for shard in 0..<shards { broker.turn(shard) }
        broker.advance(milliseconds: 200)
        for client in [idle, publisher, half] { #expect(client.socket.isClosed && client.frame() == nil) }
        for client in blocked {
            client.expectError("Shutting down", receipt: "r")
            client.hangUp()
        }
        broker.advance(milliseconds: 50)
        #expect((0..<shards).allSatisfy { broker.shard($0).pointee.isDrained })
        let reports = broker.notices.filter { $0.kind == .undelivered }
        #expect(reports.map(\.text) == ["/queue/small"] && reports.map(\.messageCount) == [1])
    }

    @Test("Room that was promised is no message that a drain loses")
    func drainOfPromises() {
        var policy = DestinationPolicy(pattern: "/queue/#")
        policy.overflow = .block
        let options = TestBroker.options {
            $0.limits.drainMillisecondsMax = 0
            $0.destinationPolicies = [policy]
        }
        let broker = TestBroker(shards: 2, options)
        let name = broker.queueNames(ownedBy: 0)[0]
        let publisher = broker.connect(on: 1)
        publisher.send(.send, [("destination", name), ("receipt", "r")], "refused")
        // The request for room is on its way when the drain ends the publisher, and granted when it ends the queue.
        broker.turn(1)
        broker.kernel.beginDrain()
        broker.turn(1)
        broker.turn(0)
        broker.advance(milliseconds: 50)
        publisher.hangUp()
        broker.advance(milliseconds: 50)
        #expect((0..<2).allSatisfy { broker.shard($0).pointee.isDrained })
        #expect(!broker.notices.contains { $0.kind == .undelivered })
    }

    @Test("A message that the end of a drain makes a dead letter of another worker is reported there")
    func drainOfDeadLetters() {
        var policy = DestinationPolicy(pattern: "/queue/#")
        policy.deadLettersExpired = true
        policy.deadLetterDestination = "/queue/DLQ"
        let options = TestBroker.options {
            $0.limits.drainMillisecondsMax = 0
            $0.destinationPolicies = [policy]
        }
        let broker = TestBroker(shards: 2, options)
        let undertaker = broker.owner(ofQueue: "/queue/DLQ")
        let name = broker.queueNames(ownedBy: 1 - undertaker)[0]
        let consumer = broker.connect(on: undertaker)
        consumer.subscribe(name, ack: "client")
        consumer.publish(name, "held", [("ttl", "20")])
        #expect(consumer.bodies() == ["held"])
        // It expires when it returns.
        broker.advance(milliseconds: 30)
        broker.kernel.beginDrain()
        broker.turn(undertaker)
        broker.advance(milliseconds: 50)
        consumer.hangUp()
        broker.advance(milliseconds: 50)
        #expect((0..<2).allSatisfy { broker.shard($0).pointee.isDrained })
        let reports = broker.notices.filter { $0.kind == .undelivered }
        #expect(reports.map(\.text) == ["/queue/DLQ"] && reports.map(\.messageCount) == [1])
    }

    @Test("A drain does not wait for a worker that does not answer for ever")
    func drainWithoutAnswer() {
        let options = TestBroker.options()
        let broker = TestBroker(shards: 2, options)
        broker.shard(0).pointee.beginDrain()
        broker.turn(0)
        broker.advance(milliseconds: options.limits.drainMillisecondsMax + options.limits.lingerMillisecondsMax)
        let wasPatient = !broker.shard(0).pointee.isDrained
        broker.advance(milliseconds: options.limits.drainMillisecondsMax + 2_000)
        let ends = broker.shard(0).pointee.isDrained
        #expect(wasPatient && ends)
    }

    @Test("A drain gives who got something lately the time to read it")
    func drainOfTheBusy() {
        let broker = TestBroker(TestBroker.options())
        let consumer = broker.connect()
        consumer.confirmed(.subscribe, [("destination", "/queue/q"), ("id", "0")])
        broker.advance(milliseconds: 10_000)
        consumer.confirmed(.send, [("destination", "/queue/q")], "late")
        broker.advance(milliseconds: 1_000)
        broker.kernel.beginDrain()
        broker.turn(0)
        broker.advance(milliseconds: 500)
        #expect(consumer.socket.isWriteShutDown && !consumer.socket.isClosed)
        broker.advance(milliseconds: broker.options.limits.lingerMillisecondsMax - 1_000)
        #expect(consumer.socket.isClosed && broker.shard(0).pointee.isDrained)
    }

    @Test("A drain ends in time, whatever its clients do", arguments: [1, 2])
    func stubbornDrain(shards: Int) {
        let broker = TestBroker(shards: shards, TestBroker.options())
        let stubborn = broker.connect(on: 0)
        stubborn.subscribe("/topic/t")
        stubborn.subscribe("/queue/q", id: "q", ack: "client")
        broker.run()
        stubborn.publish("/queue/q", "x")
        stubborn.write("SEND\ndestination:/queue/q\n")
        broker.run()
        stubborn.socket.room = 0
        broker.connect(on: shards - 1).publish("/topic/t", "y")
        broker.run()
        broker.kernel.beginDrain()
        for shard in 0..<shards { broker.turn(shard) }
        broker.advance(milliseconds: 8_500)
        #expect((0..<shards).allSatisfy { broker.shard($0).pointee.isDrained })
    }

    @Test("A connection may end in any way at any moment", arguments: [1, 3], seeds)
    func endsAnyTime(shards: Int, seed: Int) {
        let options = TestBroker.options {
            var policy = DestinationPolicy(pattern: "/queue/full")
            policy.queueMessageCountMax = 2
            policy.overflow = .block
            var limited = DestinationPolicy(pattern: "/queue/q0")
            limited.deliveryCountMax = 2
            limited.deadLetterDestination = "/topic/t"
            $0.destinationPolicies = [policy, limited]
            $0.limits.outputByteCountMax = 5_000
            $0.limits.destinationCountMax = 30
        }
        let broker = TestBroker(shards: shards, options)
        var random = SplitMix(state: UInt64(seed) * 77 + 1)
        var clients: [Client] = []
        for step in 0..<400 {
            if clients.count < 6 {
                let version = Version.allCases[random.next(3)]
                clients.append(broker.connect(version, on: random.next(shards), name: "client \(step)"))
            }
            let place = random.next(clients.count)
            let client = clients[place]
            let destinations = [
                "/queue/q0", "/queue/q1", "/queue/full", "/topic/t", "/topic/#", "/temp-queue/x", "/topic/a.\(step)",
            ]
            let destination = destinations[random.next(destinations.count)]
            switch random.next(16) {
            case 0...4:
                var headers: [(String, String)] = []
                if random.next(3) == 0 { headers.append(("receipt", "\(step)")) }
                if random.next(8) == 0 { headers.append(("transaction", "tx")) }
                if random.next(8) == 0 { headers.append(("ttl", "50")) }
                if random.next(8) == 0 { headers.append(("reply-to", "/temp-queue/r")) }
                client.publish(
                    destination.hasSuffix("#") ? "/topic/t" : destination,
                    String(repeating: "x", count: random.next(900)), headers)
            case 5...6:
                client.subscribe(
                    destination, id: random.next(4) == 0 ? "same" : "\(step)",
                    ack: ["auto", "client", "client-individual"][random.next(3)],
                    [("receipt", "s"), ("prefetch-count", "\(random.next(4))")])
            case 7: client.send(.begin, [("transaction", "tx")])
            case 8: client.send(random.next(2) == 0 ? .commit : .abort, [("transaction", "tx"), ("receipt", "c")])
            case 9...11:
                broker.run()
                for message in client.takeFrames() where message.command == .message {
                    client.ack(message, random.next(9) == 0 ? [("transaction", "tx")] : [], nack: random.next(3) == 0)
                }
            case 12: client.socket.room = random.next(3) == 0 ? .max : random.next(2_000)
            case 13: broker.turn(random.next(shards))
            case 14: broker.advance(milliseconds: random.next(200))
            default:
                switch random.next(5) {
                case 0: client.reset()
                case 1: client.hangUp()
                case 2: client.send(.disconnect, [("receipt", "d")])
                case 3: client.socket.sendFailure = 32
                default: client.write("nonsense")
                }
                clients.remove(at: place)
            }
            clients.removeAll { $0.socket.isClosed || $0.socket.isWriteShutDown }
            if random.next(2) == 0 { broker.run() }
        }
        broker.run()
        for client in broker.clients where !client.socket.isClosed { client.reset() }
        broker.run()
        // Those with a time to live end while the broker is watched.
        broker.advance(milliseconds: 1_000)
        let queued = (0..<shards).reduce(0) { $0 + broker.audit($1).entries }
        broker.finish(queued: queued)
        let counters = broker.counters
        #expect(counters.messagesDelivered > 0 && counters.messagesReceived > 0)
    }
}

/// A small generator of numbers that are the same in every run.
struct SplitMix {
    var state: UInt64

    mutating func next(_ bound: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ (z >> 31)) % UInt64(bound))
    }
}
