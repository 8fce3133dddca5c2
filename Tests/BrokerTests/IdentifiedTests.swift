import Broker
import FakeKernel
import IO
import STOMP
import Testing

/// The layer of transports reports `.identified` before a client's first frame.
@Suite("What a transport finds out about a client")
struct IdentifiedTests {
    /// A client whose transport says something of it.
    private func accept(_ broker: TestBroker, versions: UInt8 = 0, address: UInt64 = 0) -> Client {
        let client = broker.accept()
        broker.run()
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: 0), address: address)
        broker.kernel.post(
            Completion(
                .identified, connection: client.socket.connection, value: Int32(versions), address: origin.packed),
            to: 0)
        broker.run()
        return client
    }

    @Test("A subprotocol binds the version", arguments: Version.allCases)
    func boundVersion(version: Version) {
        withBroker { broker in
            let client = accept(broker, versions: 1 << version.rawValue)
            client.write("CONNECT\naccept-version:1.0,1.1,1.2\n\n\0")
            broker.run()
            #expect(client.frame()?["version"] == "\(version.text)")

            let other = accept(broker, versions: 1 << version.rawValue)
            other.write(version == .v1_0 ? "CONNECT\naccept-version:1.1,1.2\n\n\0" : "CONNECT\n\n\0")
            let error = other.expectError("Supported versions are \(version.text)")
            #expect(error?["version"] == "\(version.text)")
        }
    }

    @Test("Without a subprotocol all versions may be negotiated")
    func anyVersion() {
        withBroker { broker in
            for version in Version.allCases {
                let client = accept(broker, versions: 0b111)
                client.connect(version)
            }
        }
    }

    @Test("The address that a proxy names counts for the limit of connections")
    func address() {
        withBroker(TestBroker.options { $0.limits.connectionsPerAddressMax = 2 }) { broker in
            let first = accept(broker, address: 7)
            let second = accept(broker, address: 7)
            let third = accept(broker, address: 7)
            #expect(third.socket.isClosed)
            #expect(broker.counters.limits[.connectionsPerAddress] == 1)
            #expect(broker.notices.map(\.kind) == [.connectionRefused])
            let other = accept(broker, address: 8)
            for client in [first, second, other] { client.connect() }
            // A place is free again.
            first.hangUp()
            broker.run()
            accept(broker, address: 7).connect()
        }
    }

    @Test("What comes too late is ignored")
    func late() {
        withBroker { broker in
            let client = broker.accept()
            client.connect()
            broker.kernel.post(
                Completion(.identified, connection: client.socket.connection, value: 0b001, address: 7), to: 0)
            broker.run()
            #expect(broker.counters.staleCompletions == 1)
            client.confirmed(.begin, [("transaction", "t")])
        }
    }
}
