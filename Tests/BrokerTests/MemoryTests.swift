import Broker
import Testing

@Suite("Memory")
struct MemoryTests {
    /// Publishes `count` messages, numbered, from each of `publishers`.
    private func fill(_ publishers: [Client], _ queue: String, count: Int, byteCount: Int) {
        let filling = String(repeating: "x", count: byteCount)
        for (number, publisher) in publishers.enumerated() {
            for index in 0..<count { publisher.publish(queue, "\(number) \(index) \(filling)") }
        }
    }

    /// A broker whose memory 600 messages of the filler in `/queue/full` take up; the filler waits with the last of them.
    private func withFilledBroker(limit: Int, _ body: (TestBroker, _ filler: Client) -> Void) {
        withBroker(TestBroker.options { $0.limits.messageMemoryByteCountMax = limit }) { broker in
            let filler = broker.connect(name: "filler")
            fill([filler], "/queue/full", count: 600, byteCount: 8000)
            broker.advance(milliseconds: 100)
            #expect(filler.socket.isReceivePaused)
            body(broker, filler)
        }
    }

    /// Lets the consumers read at their pace until `count` messages have come, and checks that each publisher's come
    /// once and, to each consumer, in order.
    private func drain(
        _ broker: TestBroker, _ consumers: [Client], publishers: Int, count: Int, pace: Int, acknowledges: Set<Int>
    ) {
        var seen = Set<[Int]>()
        var latest = Array(repeating: Array(repeating: -1, count: publishers), count: consumers.count)
        for _ in 0..<20_000 {
            if seen.count >= count { break }
            broker.advance(milliseconds: 10)
            for (place, consumer) in consumers.enumerated() {
                for frame in consumer.takeFrames() {
                    guard frame.command == .message else {
                        Issue.record("a consumer got \(Client.describe(frame))")
                        return
                    }
                    let numbers = frame.text.split(separator: " ").prefix(2).map { Int($0)! }
                    #expect(seen.insert(numbers).inserted, "no message comes twice")
                    #expect(latest[place][numbers[0]] < numbers[1], "each publisher's come in order")
                    latest[place][numbers[0]] = numbers[1]
                    if acknowledges.contains(place) { consumer.ack(frame) }
                }
                #expect(!consumer.socket.isClosed, "no consumer is cut")
                if consumer.socket.room != .max { consumer.socket.room += pace }
            }
        }
        #expect(seen.count == count)
    }

    @Test(
        "A broker that is filled to its limit is drained by consumers who come then", arguments: [1, 2], [300, 8000])
    func drained(shards: Int, byteCount: Int) {
        let limit = 2 << 20
        let options = TestBroker.options { $0.limits.messageMemoryByteCountMax = limit }
        withBroker(shards: shards, options) { broker in
            let publishers = (0..<4).map { broker.connect(on: $0 % shards, name: "publisher \($0)") }
            let count = limit * 3 / 2 / 4 / byteCount
            fill(publishers, "/queue/full", count: count, byteCount: byteCount)
            broker.advance(milliseconds: 100)
            #expect(publishers.contains { $0.socket.isReceivePaused }, "publishers wait")
            for index in 0..<shards {
                #expect(broker.shard(index).pointee.blockByteCount < limit / 2 * 3)
            }
            let consumers = (0..<12).map { place in
                let consumer = broker.connect(on: place % shards, name: "consumer \(place)")
                consumer.socket.room = place % 3 == 0 ? .max : 1000
                consumer.subscribe("/queue/full", ack: place % 2 == 0 ? nil : "client-individual")
                return consumer
            }
            drain(
                broker, consumers, publishers: 4, count: 4 * count, pace: 3000,
                acknowledges: Set((0..<12).filter { $0 % 2 == 1 }))
            for publisher in publishers { #expect(publisher.takeFrames().isEmpty && !publisher.socket.isClosed) }
        }
    }

    @Test("Messages that pass through topics do so while queues that nobody drains fill the memory", arguments: [1, 2])
    func topicsGoOn(shards: Int) {
        let options = TestBroker.options { $0.limits.messageMemoryByteCountMax = 4 << 20 }
        withBroker(shards: shards, options) { broker in
            let subscribers = (0..<shards).map { shard in
                let subscriber = broker.connect(on: shard, name: "subscriber \(shard)")
                subscriber.confirmed(.subscribe, [("destination", "/topic/t"), ("id", "0")])
                return subscriber
            }
            let keeper = broker.connect(on: 0, name: "keeper")
            keeper.subscribe("/topic/kept.*", ack: "client")
            let fillers = (0..<shards).map { broker.connect(on: $0, name: "filler \($0)") }
            // Each worker owns some of them.
            for queue in 0..<8 { fill(fillers, "/queue/\(queue)", count: 160, byteCount: 8000) }
            broker.advance(milliseconds: 100)
            for filler in fillers { #expect(filler.socket.isReceivePaused) }

            let publishers = (0..<shards).map { broker.connect(on: $0, name: "publisher \($0)") }
            for (number, publisher) in publishers.enumerated() {
                for index in 0..<200 {
                    publisher.publish("/topic/t", "\(number) \(index) " + String(repeating: "x", count: 6000))
                    if index % 10 == 9 { broker.advance(milliseconds: 20) }
                }
            }
            for subscriber in subscribers {
                let texts = subscriber.messages().map { $0.text.prefix { $0 != "x" } }
                for number in 0..<shards {
                    #expect(texts.filter { $0.hasPrefix("\(number) ") } == (0..<200).map { "\(number) \($0) " })
                }
            }
            // These would stay, in the queue of the subscription that acknowledges.
            let kept = broker.connect(on: 0, name: "kept")
            kept.publish("/topic/kept.a", "kept")
            broker.advance(milliseconds: 100)
            #expect(kept.socket.isReceivePaused)
            for filler in fillers { #expect(filler.socket.isReceivePaused) }

            let consumer = broker.connect(on: 0, name: "consumer")
            for queue in 0..<8 {
                consumer.subscribe(
                    "/queue/\(queue)", id: "\(queue)", ack: "client-individual", [("prefetch-count", "10")])
            }
            var count = 0
            for _ in 0..<1000 where count < 8 * 160 * shards {
                broker.advance(milliseconds: 10)
                for message in consumer.messages() {
                    count += 1
                    consumer.ack(message)
                }
            }
            #expect(count == 8 * 160 * shards)
            broker.run()
            #expect(keeper.bodies() == ["kept"])
        }
    }

    @Test("Topics' publishers wait too when what their subscribers do not read fills the rest of the memory")
    func topicsWait() {
        let limit = 4 << 20
        withFilledBroker(limit: limit) { broker, filler in
            let slow = broker.connect(name: "slow")
            slow.confirmed(.subscribe, [("destination", "/topic/t"), ("id", "0")])
            slow.socket.room = 0
            let publisher = broker.connect(name: "publisher")
            for index in 0..<100 { publisher.publish("/topic/t", "\(index) " + String(repeating: "x", count: 8000)) }
            broker.advance(milliseconds: 100)
            #expect(publisher.socket.isReceivePaused)
            let inUse = broker.shard(0).pointee.blockByteCount
            #expect(inUse > limit / 100 * 112 && inUse < limit / 100 * 125)
            slow.socket.room = .max
            broker.advance(milliseconds: 1000)
            #expect(!publisher.socket.isReceivePaused)
            #expect(slow.messages().count == 100)
            #expect(filler.socket.isReceivePaused)
            let consumer = broker.connect(name: "consumer")
            consumer.subscribe("/queue/full")
            drain(broker, [consumer], publishers: 1, count: 600, pace: 0, acknowledges: [])
        }
    }

    @Test("Frames that are cut short while messages fill the memory wait, and are lost by nobody")
    func cutShort() {
        let limit = 4 << 20
        withFilledBroker(limit: limit) { broker, _ in
            let publishers = (0..<10).map { broker.connect(name: "publisher \($0)") }
            let body = String(repeating: "y", count: 100_000)
            for (number, publisher) in publishers.enumerated() {
                let frame = "SEND\ndestination:/queue/full\n\n\(number + 1) 0 \(body)\0"
                // In pieces, as a socket brings them.
                for start in stride(from: 0, to: frame.utf8.count, by: 10_000) {
                    publisher.write(Array(Array(frame.utf8)[start..<min(start + 10_000, frame.utf8.count)]))
                    broker.turn(0)
                    broker.turn(0)
                }
            }
            broker.advance(milliseconds: 60_000)
            for publisher in publishers { #expect(publisher.socket.isReceivePaused) }
            #expect(broker.shard(0).pointee.blockByteCount < limit / 4 * 5)
            let consumer = broker.connect(name: "consumer")
            consumer.subscribe("/queue/full", ack: "client-individual")
            drain(broker, [consumer], publishers: 11, count: 610, pace: 0, acknowledges: [0])
            for publisher in publishers {
                let frames = publisher.takeFrames()
                #expect(frames.isEmpty && !publisher.socket.isClosed, "\(frames.map { $0["message"] })")
            }
        }
    }

    @Test("What is kept for the next burst goes back to the kernel when none comes, and the broker rests then")
    func rests() {
        withBroker { broker in
            let subscriber = broker.connect(name: "subscriber")
            subscriber.confirmed(.subscribe, [("destination", "/topic/t"), ("id", "0")])
            let publisher = broker.connect(name: "publisher")
            func burst() {
                subscriber.socket.room = 0
                for byteCount in [100, 3000, 100_000] {
                    publisher.publish("/topic/t", String(repeating: "x", count: byteCount))
                }
                broker.run()
                subscriber.socket.room = .max
                broker.run()
                #expect(subscriber.messages().count == 3)
            }
            var kept: Int { broker.shard(0).pointee.keptByteCount }
            for _ in 0..<3 {
                burst()
                #expect(kept > 0)
                broker.advance(milliseconds: 4900)
                #expect(kept > 0, "it is kept for a while")
            }
            broker.advance(milliseconds: 200)
            #expect(kept == 0)
            #expect(broker.shard(0).pointee.deadline == .max, "nothing is left to do")
            burst()
            broker.advance(milliseconds: 5100)
            #expect(kept == 0, "the same after the next burst")
        }
    }

    private static let limitOfLargeBodies = 4 << 20
    /// A largest frame takes a twentieth of the memory.
    private static let optionsOfLargeBodies = TestBroker.options {
        $0.limits.messageMemoryByteCountMax = limitOfLargeBodies
        $0.limits.bodyByteCountMax = 200 << 10
    }

    @Test("Frames cut short share a part of the memory, and are finished one after the other")
    func inputAlone() {
        withBroker(Self.optionsOfLargeBodies) { broker in
            let publishers = (0..<40).map { broker.connect(name: "publisher \($0)") }
            // Frames whose ends do not come yet: more than there is for them.
            for publisher in publishers {
                publisher.write("SEND\ndestination:/topic/a\nreceipt:r\n\n" + String(repeating: "z", count: 30_000))
                broker.run()
                publisher.write(String(repeating: "z", count: 15_000))
                broker.run()
            }
            #expect(broker.shard(0).pointee.blockByteCount <= Self.limitOfLargeBodies / 2)
            #expect(publishers.contains { $0.socket.isReceivePaused }, "some wait")
            let honest = broker.connect(name: "honest")
            honest.confirmed(.send, [("destination", "/topic/a")], "small, and not their business")
            for publisher in publishers { publisher.write("\0") }
            broker.advance(milliseconds: 2000)
            for publisher in publishers { #expect(publisher.frame()?.command == .receipt) }
        }
    }

    @Test("While frames cut short wait for memory, those whose senders are slow end with ERROR, and the others go on")
    func slowInput() {
        withBroker(Self.optionsOfLargeBodies) { broker in
            let start = "SEND\ndestination:/topic/a\nreceipt:r\n\n" + String(repeating: "z", count: 45_000)
            let slow = (0..<40).map { broker.connect(name: "slow \($0)") }
            for client in slow {
                client.write(start)
                broker.run()
            }
            broker.advance(milliseconds: 3000)
            let honest = broker.connect(name: "honest")
            honest.write(start)
            broker.run()
            honest.write(String(repeating: "z", count: 100_000))
            broker.run()
            honest.write("\0")
            broker.advance(milliseconds: 20_000)
            #expect(honest.frame()?.command == .receipt)
            #expect(broker.counters.limits[.frameTimeout] > 0)
            #expect(slow.contains { $0.frame()?["message"] == "Frame too slow" })
        }
    }
}
