import Glibc
import TestSupport
import Testing

/// Limits of users, on a broker with several workers.
extension Integration {
    @Suite("Limits of users")
    struct Quotas {
        private static let hash = "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"

        private static func users(_ limits: String) -> String {
            """
            users:
              alice: {hash: "\(hash)", roles: [client]}
              bob: {hash: "\(hash)", roles: [client], limits: {connections-max: 0, frames-per-second-max: 0}}
            roles:
              client: {publish: "#", subscribe: "#", limits: {\(limits)}}

            """
        }

        private func client(_ broker: BrokerProcess, _ login: String = "alice") throws -> RawClient {
            try RawClient(broker, .v1_2, ["login": login, "passcode": "secret"])
        }

        @Test(arguments: drivers, [1, 3])
        func `A user has no more connections than its limit, and a place that is free is taken again`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let file = try TemporaryFile(holding: Self.users("connections-max: 5"), suffix: ".yaml")
            let broker = try BrokerProcess(.init(driver, workers: workers, ["access.users": file.path]))
            let alices = try (0..<5).map { _ in try client(broker) }
            let bobs = try (0..<10).map { _ in try client(broker, "bob") }
            let sixth = try RawClient(broker)
            try sixth.send("CONNECT\naccept-version:1.2\nlogin:alice\npasscode:secret\n\n\0")
            let error = try sixth.expectError("too many connections")
            #expect(error.text.contains("user 'alice' may have 5 connections"), "\(error.text)")
            let counters = try broker.counters(workers: workers)
            #expect(counters["logins-refused"] == 1, "\(counters)")
            try alices[0].disconnect()
            // Its RECEIPT says that it has left.
            _ = try client(broker)
            for client in bobs { try client.disconnect() }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A user beyond its rate is not read for a while, and loses nothing`(on driver: DriverUnderTest) throws {
            let file = try TemporaryFile(holding: Self.users("frames-per-second-max: 200"), suffix: ".yaml")
            let broker = try BrokerProcess(.init(driver, workers: 2, ["access.users": file.path]))
            let alice = try client(broker)
            var start = timespec()
            clock_gettime(CLOCK_MONOTONIC, &start)
            let frame = "SEND\ndestination:/queue/slow\n\nx\0"
            try alice.send(String(repeating: frame, count: 499))
            try alice.send("SEND\ndestination:/queue/slow\nreceipt:last\n\nx\0")
            let bob = try client(broker, "bob")
            try bob.send(String(repeating: "SEND\ndestination:/queue/quick\n\nx\0", count: 2000))
            try bob.perform("SEND", ["destination": "/queue/quick"], body: "x")
            try alice.expectReceipt("last")
            var end = timespec()
            clock_gettime(CLOCK_MONOTONIC, &end)
            // 500 frames, of which 200 may come at once.
            #expect(end.tv_sec - start.tv_sec >= 1)
            let counters = try broker.counters(workers: 2)
            #expect(counters["clients-slowed"]! > 0 && counters["messages-received"] == 2501, "\(counters)")
            #expect(counters["errors"] == 0)
            let line = try broker.process.errorLine { $0.contains("client slowed down") }
            #expect(line?.contains("login=alice") == true, "\(line ?? "")")
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
