import Broker
import FakeKernel
import IO
import Testing

@Suite("Options of listeners")
struct ListenerOptionsTests {
    private static func options(_ change: (inout ListenerOptions) -> Void) -> BrokerOptions {
        TestBroker.options { options in
            var second = ListenerOptions(address: "127.0.0.1:2")
            change(&second)
            options.listeners = [ListenerOptions(address: "127.0.0.1:1"), second]
        }
    }

    private static func accept(_ broker: TestBroker, on shard: Int = 0, listener: UInt8) -> Client {
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: listener), address: 0)
        return broker.accept(on: shard, address: origin.packed)
    }

    @Test("A listener takes no more connections than its own limit, of all workers together", arguments: [1, 2])
    func connectionCountMax(shards: Int) {
        withBroker(shards: shards, Self.options { $0.connectionCountMax = 2 }) { broker in
            let first = Self.accept(broker, listener: 1)
            let second = Self.accept(broker, on: shards - 1, listener: 1)
            first.connect()
            second.connect()
            for shard in 0..<shards {
                let third = Self.accept(broker, on: shard, listener: 1)
                broker.run()
                #expect(third.socket.isClosed)
            }
            #expect(broker.kernel.refused.count == shards)
            #expect(broker.counters.connectionsRefused == UInt64(shards))
            #expect(broker.counters.limits[.connections] == UInt64(shards))
            let notice = broker.notices.last { $0.kind == .connectionRefused }
            #expect(notice?.text == "the listener has 2 connections already (listeners[].connections-max)")
            #expect(notice?.client?.listener == ListenerID(rawValue: 1))
            // The other listener has no limit, and a place that is free is taken again.
            Self.accept(broker, listener: 0).connect()
            second.hangUp()
            broker.advance(milliseconds: 100)
            Self.accept(broker, listener: 1).connect()
        }
    }

    @Test("A connection that is refused for another reason leaves its place at the listener")
    func placeIsLeft() {
        let options = TestBroker.options { options in
            options.listeners = [ListenerOptions(address: "127.0.0.1:1")]
            options.listeners[0].connectionCountMax = 2
            options.limits.connectionsPerSecondMax = 1
        }
        withBroker(options) { broker in
            Self.accept(broker, listener: 0).connect()
            let second = Self.accept(broker, listener: 0)
            broker.run()
            #expect(second.socket.isClosed)
            broker.advance(milliseconds: 1000)
            Self.accept(broker, listener: 0).connect()
        }
    }

    @Test("A heart-beat a minute suffices for a lenient listener, and only there")
    func lenientHeartBeats() {
        withBroker(Self.options { $0.hasLenientHeartBeats = true }) { broker in
            let strict = Self.accept(broker, listener: 0)
            let lenient = Self.accept(broker, listener: 1)
            strict.connect(heartBeat: "10000,0")
            lenient.connect(heartBeat: "10000,0")
            broker.advance(milliseconds: 60_000)
            _ = strict.expectError("Heart-beat missed")
            lenient.write("\n")
            broker.advance(milliseconds: 100_000)
            lenient.confirmed(.send, [("destination", "/topic/a")])
            broker.advance(milliseconds: 121_000)
            _ = lenient.expectError("Heart-beat missed")
        }
    }

    @Test("Connections of a Unix socket are shared out evenly, whichever worker accepts them")
    func balance() {
        withBroker(shards: 3, Self.options { $0.isUnix = true }) { broker in
            for _ in 0..<12 { Self.accept(broker, listener: 1).connect() }
            for shard in 0..<3 { #expect(broker.shard(shard).pointee.connectionCount == 4) }
            // TCP connections stay where the kernel put them.
            for _ in 0..<3 { Self.accept(broker, listener: 0).connect() }
            #expect(broker.shard(0).pointee.connectionCount == 7)
        }
    }

    @Test("What is in the output of an encrypted connection that breaks may have been read", arguments: [1, 2])
    func brokenConnection(shards: Int) {
        for (transport, marks) in [(TransportKind.stomp, ["true", nil, nil]), (.stomps, ["true", "true", "true"])] {
            withBroker(shards: shards, Self.options { $0.transport = transport }) { broker in
                let publisher = broker.connect(on: 0)
                for number in 0..<3 {
                    publisher.publish("/queue/q", "\(number)" + String(repeating: "x", count: 1000))
                }
                let consumer = Self.accept(broker, on: shards - 1, listener: 1)
                consumer.connect()
                consumer.socket.room = 1_600
                consumer.subscribe("/queue/q", ack: "client-individual")
                broker.run()
                #expect(consumer.messages().count == 1)
                consumer.reset()
                broker.run()
                let next = broker.connect(on: 0)
                next.subscribe("/queue/q")
                let messages = next.messages()
                #expect(messages.map { String($0.text.prefix(1)) } == ["0", "1", "2"])
                #expect(messages.map { $0["redelivered"] } == marks)
            }
        }
    }
}
