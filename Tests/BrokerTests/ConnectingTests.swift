import Broker
import IO
import Glibc
import STOMP
import Slabs
import Testing

@Suite("Connecting")
struct ConnectingTests {
    @Test("CONNECT and STOMP are answered with CONNECTED", arguments: Version.allCases)
    func connects(version: Version) {
        withBroker { broker in
            let client = broker.accept()
            client.version = version
            client.send(.stomp, [("accept-version", "\(version.text)"), ("host", "x")])
            broker.run()
            let answer = client.frame()
            #expect(answer?.command == .connected)
            #expect(answer?["version"] == "\(version.text)")
            #expect(answer?["session"] != nil && answer?["server"] != nil && answer?["heart-beat"] != nil)
        }
    }

    /// The log names a client's login. What most clients share is kept once, and by nobody when they are gone.
    @Test("Connections with one login share what is kept of it, and those with others have their own")
    func sharedLogins() {
        withBroker { broker in
            let shard = broker.shard(0)
            func connect(_ login: String) -> Client {
                let client = broker.accept()
                client.send(.connect, [("accept-version", "1.2"), ("host", "x"), ("login", login)])
                broker.run()
                #expect(client.frame()?.command == .connected)
                return client
            }
            func shareCount(_ client: Client) -> Int { shard.pointee.loginShareCount(of: client.socket.connection) }
            let guests = (0..<50).map { _ in connect("guest") }
            let alice = connect("alice")
            #expect(guests.allSatisfy { shareCount($0) == 50 })
            #expect(shareCount(alice) == 1)
            for guest in guests.dropLast() { guest.reset() }
            broker.run()
            #expect(shareCount(guests[49]) == 1)
            // The log still knows who is left, also when the block has been given up and taken again.
            guests[49].write("NONSENSE\n\n\0")
            broker.run()
            #expect(broker.notices.last?.client?.login == "guest")
            guests[49].reset()
            broker.run()
            let next = connect("guest")
            #expect(shareCount(next) == 1)
            next.write("NONSENSE\n\n\0")
            broker.run()
            #expect(broker.notices.last?.client?.login == "guest")
            // So many that some share a place: each of these has a block of its own all the same.
            for _ in 0..<4 {
                let others = (0..<200).map { connect("user-\($0)") }
                #expect(others.allSatisfy { shareCount($0) == 1 })
                for other in others { other.reset() }
                broker.run()
            }
        }
    }

    @Test("No common version is answered with the versions there are")
    func noCommonVersion() {
        withBroker { broker in
            let client = broker.accept()
            client.send(.connect, [("accept-version", "2.0"), ("host", "x")])
            let error = client.expectError("Supported versions are 1.0,1.1,1.2")
            #expect(error?["version"] == "1.0,1.1,1.2")
        }
    }

    @Test("Each command but CONNECT is refused before CONNECTED", arguments: Command.allCases)
    func beforeConnected(command: Command) {
        if command == .connect || command == .stomp { return }
        withBroker { broker in
            let client = broker.accept()
            client.send(command, [("destination", "/queue/a"), ("receipt", "r"), ("id", "1"), ("transaction", "t")])
            client.expectError(command.isFromServer ? "Bad command" : "Illegal command")
        }
    }

    @Test(
        "A second CONNECT, and each server command, ends the session",
        arguments: [Command.connect, .stomp, .connected, .message, .receipt, .error])
    func illegalWhenConnected(command: Command) {
        withBroker { broker in
            let client = broker.connect()
            client.send(command, [("accept-version", "1.2"), ("host", "x")])
            client.expectError(command.isFromServer ? "Bad command" : "Illegal command")
        }
    }

    @Test("Who does not CONNECT in time is closed")
    func connectDeadline() {
        withBroker { broker in
            let client = broker.accept()
            broker.advance(milliseconds: 4_900)
            #expect(!client.socket.isClosed)
            broker.advance(milliseconds: 200)
            #expect(client.socket.isClosed)
        }
    }

    @Test("Bytes before CONNECTED are bounded, in one frame or in line ends")
    func preConnectBytes() {
        withBroker { broker in
            let long = broker.accept()
            long.write(
                "CONNECT\naccept-version:1.2\nhost:" + String(repeating: "x", count: 7_000) + "\nlogin:"
                    + String(repeating: "x", count: 3_000))
            long.expectError("Frame too large")
            let lines = broker.accept()
            for _ in 0..<9 {
                lines.write(String(repeating: "\n", count: 1_000))
                broker.run()
            }
            lines.expectError("Frame too large")
        }
    }

    @Test("What is pipelined behind CONNECT is processed, however much it is")
    func pipelining() {
        withBroker { broker in
            let client = broker.accept()
            let connect = ClientFrame(.connect, [("accept-version", "1.2"), ("host", "x")]).encoded(.v1_2)
            let subscribe = ClientFrame(.subscribe, [("destination", "/topic/a"), ("id", "0")]).encoded(.v1_2)
            var bytes = connect + subscribe
            for i in 0..<1000 {
                bytes += ClientFrame(
                    .send, [("destination", "/topic/a")], text: "\(i)" + String(repeating: "x", count: 100)
                ).encoded(.v1_2)
            }
            client.write(bytes)
            broker.run()
            let frames = client.takeFrames()
            #expect(frames.count == 1001)
            #expect(frames.first?.command == .connected)
        }
    }

    @Test("Frames may be split at every byte")
    func splitAtEveryByte() {
        withBroker { broker in
            let client = broker.accept()
            let bytes =
                ClientFrame(.connect, [("accept-version", "1.2"), ("host", "x")]).encoded(.v1_2)
                + ClientFrame(.subscribe, [("destination", "/queue/a"), ("id", "0"), ("receipt", "r")]).encoded(.v1_2)
                + ClientFrame(.send, [("destination", "/queue/a"), ("key", "v:w\n")], text: "body").encoded(.v1_2)
            for byte in bytes {
                client.write([byte])
                broker.run()
            }
            let frames = client.takeFrames()
            #expect(frames.map(\.command) == [.connected, .receipt, .message])
            #expect(frames.last?.text == "body")
            #expect(frames.last?["key"] == "v:w\n")
        }
    }

    @Test("A frame that comes too slowly is refused", arguments: ["", "0,4000000000", "0,3000000000"])
    func frameDeadline(heartBeat: String) {
        withBroker { broker in
            let client = broker.connect(heartBeat: heartBeat.isEmpty ? nil : heartBeat)
            client.write("SEND\ndestination:/topic/a\n")
            broker.advance(milliseconds: 29_000)
            #expect(!client.socket.isWriteShutDown)
            broker.advance(milliseconds: 2_000)
            client.expectError("Frame too slow")
        }
    }

    @Test("A session that lingers is closed after a while, or when its client leaves")
    func linger() {
        withBroker { broker in
            let patient = broker.connect()
            patient.send(.disconnect, [("receipt", "bye")])
            broker.run()
            #expect(patient.takeFrames().map(\.command) == [.receipt])
            #expect(patient.socket.isWriteShutDown && !patient.socket.isClosed)
            patient.publish("/queue/never", "dropped")
            broker.advance(milliseconds: 3_100)
            #expect(patient.socket.isClosed)

            let polite = broker.connect()
            polite.send(.disconnect)
            broker.run()
            polite.hangUp()
            broker.run()
            #expect(polite.socket.isClosed && !polite.socket.wasReset)
        }
    }

    @Test("Heart-beats are sent while nothing else is, and missed ones end the session")
    func heartBeats() {
        withBroker { broker in
            let client = broker.connect(heartBeat: "1000,500")
            broker.advance(milliseconds: 1_900)
            #expect(client.socket.takeReceived().filter { $0 == 10 }.count >= 3)
            client.write("\n")
            broker.advance(milliseconds: 1_900)
            #expect(!client.socket.isWriteShutDown)
            broker.advance(milliseconds: 300)
            client.expectError("Heart-beat missed")
        }
    }

    @Test("The check of heart-beats survives a pause of receiving")
    func heartBeatsAfterPause() {
        let options = TestBroker.options {
            var policy = DestinationPolicy(pattern: "/queue/full")
            policy.queueMessageCountMax = 1
            policy.overflow = .block
            $0.destinationPolicies = [policy]
        }
        withBroker(queued: 1, options) { broker in
            let publisher = broker.connect(heartBeat: "1000,0")
            publisher.publish("/queue/full", "1")
            publisher.publish("/queue/full", "2")
            broker.advance(milliseconds: 5_000)
            #expect(publisher.socket.isReceivePaused)
            let consumer = broker.connect()
            consumer.subscribe("/queue/full", ack: "client")
            let first = consumer.messages()
            #expect(first.map(\.text) == ["1"])
            consumer.ack(first[0])
            #expect(consumer.bodies() == ["2"])
            #expect(!publisher.socket.isReceivePaused)
            broker.advance(milliseconds: 1_500)
            #expect(!publisher.socket.isWriteShutDown)
            broker.advance(milliseconds: 1_000)
            publisher.expectError("Heart-beat missed")
        }
    }

    @Test("A full worker hands newcomers to one with room, also to one that never had a connection")
    func handOff() {
        withBroker(shards: 2, connectionCountMax: 2) { broker in
            let clients = (0..<5).map { _ in broker.accept(on: 0) }
            broker.run()
            #expect(broker.kernel.handOffs.allSatisfy { $0.peer == 1 } && broker.kernel.handOffs.count >= 2)
            #expect(broker.kernel.refused.count == 1)
            for client in clients.prefix(4) { client.connect() }
        }
    }

    @Test("Newcomers beyond the rate or the number per address are refused")
    func acceptLimits() {
        let options = TestBroker.options {
            $0.limits.connectionsPerAddressMax = 2
            $0.limits.connectionsPerSecondMax = 5
        }
        withBroker(options) { broker in
            let first = (0..<3).map { _ in broker.accept(address: 7) }
            broker.run()
            #expect(broker.kernel.refused.count == 1)
            first[0].reset()
            broker.run()
            _ = broker.accept(address: 7)
            broker.run()
            #expect(broker.kernel.refused.count == 1)
            for address in 10..<14 { _ = broker.accept(address: UInt64(address)) }
            broker.run()
            #expect(broker.kernel.refused.count == 4)
            broker.advance(milliseconds: 1_100)
            _ = broker.accept(address: 99)
            broker.run()
            #expect(broker.kernel.refused.count == 4)
        }
    }

    @Test("A newcomer whose address is not known is not counted as another's neighbour")
    func unknownAddress() {
        let options = TestBroker.options { $0.limits.connectionsPerAddressMax = 1 }
        withBroker(options) { broker in
            for _ in 0..<5 { _ = broker.accept(address: 0) }
            _ = broker.accept(address: 7)
            broker.run()
            #expect(broker.kernel.refused.isEmpty)
            _ = broker.accept(address: 7)
            broker.run()
            #expect(broker.kernel.refused.count == 1)
        }
    }

    @Test("A newcomer that is handed on counts for its address where it arrives")
    func addressOfHandedOn() {
        let options = TestBroker.options { $0.limits.connectionsPerAddressMax = 1 }
        withBroker(shards: 2, connectionCountMax: 1, options) { broker in
            _ = broker.accept(on: 0, address: 8)
            _ = broker.accept(on: 0, address: 9)
            broker.run()
            #expect(broker.kernel.handOffs.count == 1 && broker.kernel.refused.isEmpty)
            _ = broker.accept(on: 1, address: 9)
            broker.run()
            #expect(broker.kernel.refused.count == 1)
            #expect(broker.shard(1).pointee.counters.limits[.connectionsPerAddress] == 1)
        }
    }

    @Test("When accepting fails, it is tried again")
    func acceptFailed() {
        withBroker { broker in
            broker.kernel.failAccepting(on: 0, errno: EMFILE)
            broker.run()
            #expect(broker.kernel.acceptResumptionCount == 0)
            let notice = broker.notices.first { $0.kind == .acceptFailed }
            #expect(notice?.text.contains("Too many open files") == true)
            broker.advance(milliseconds: 150)
            #expect(broker.kernel.acceptResumptionCount == 1)
        }
    }
}

/// Where a connection came in.
@Suite("Listeners")
struct ListenerTests {
    @Test("A connection keeps its listener, also with the worker that takes it over")
    func handOff() {
        withBroker(shards: 2, TestBroker.options { $0.limits.connectionCountMax = 2 }) { broker in
            var clients: [Client] = []
            for listener in 0..<4 as Range<UInt8> {
                let origin = ConnectionOrigin(listener: ListenerID(rawValue: listener), address: 7)
                let client = broker.accept(on: 0, address: origin.packed)
                client.connect()
                clients.append(client)
            }
            #expect(broker.kernel.handOffs.count == 2)
            for client in clients { client.write("nonsense\n\n\0") }
            broker.run()
            let errors = broker.notices.filter { $0.kind == .protocolError }
            #expect(Set(errors.compactMap { $0.client?.listener.rawValue }) == [0, 1, 2, 3])
        }
    }

    @Test("Who is refused is told of with the listener")
    func refused() {
        withBroker(TestBroker.options { $0.limits.connectionsPerAddressMax = 1 }) { broker in
            let origin = ConnectionOrigin(listener: ListenerID(rawValue: 5), address: 7)
            for _ in 0..<2 { _ = broker.accept(address: origin.packed) }
            broker.run()
            #expect(broker.notices.compactMap { $0.client?.listener.rawValue } == [5])
        }
    }

    @Test("Listener and address travel together in 56 bits", arguments: [0, 1, 0x7F00_0001, 1 << 48 - 1])
    func packing(address: UInt64) {
        for listener in [0, 1, 255] as [UInt8] {
            let origin = ConnectionOrigin(listener: ListenerID(rawValue: listener), address: address)
            #expect(origin.listener.rawValue == listener && origin.address == address)
            #expect(origin.packed >> 56 == 0 && ConnectionOrigin(packed: origin.packed) == origin)
        }
    }
}
