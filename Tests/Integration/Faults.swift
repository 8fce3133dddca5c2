import Attacks
import Glibc
import TestSupport
import Testing

/// What a machine does to a broker: too few descriptors, a sudden end, resets.
extension Integration {
    @Suite("Faults")
    struct Faults {
        private static let queue = "/queue/faults"
        /// The clients of a test may still be there when its broker ends.
        private static let values = ["limits.linger-ms": "50"]

        /// Each is answered or told at once that there is no room: nobody waits in vain.
        @Test(arguments: drivers, [1, 2])
        func `With 64 descriptors it serves as many as fit, refuses the others, and recovers`(
            on driver: DriverUnderTest, workers: Int
        ) throws {
            var settings = BrokerProcess.Settings(driver, workers: workers, Self.values)
            settings.descriptorCountMax = 64
            let broker = try BrokerProcess(settings)
            var clients: [RawClient] = []
            var refusedCount = 0
            for _ in 0..<100 * workers {
                let client = try RawClient(broker)
                if try client.isAnswered() { clients.append(client) } else { refusedCount += 1 }
            }
            #expect((8...64 * workers).contains(clients.count), "\(clients.count)")
            #expect(refusedCount > 0)
            // The log is written by a thread of its own.
            #expect(try broker.process.errorLine { $0.contains("connection refused") } != nil)
            let refusals = broker.process.errorLines.filter { $0.contains("connection refused") }
            #expect(refusals.count <= refusedCount)
            for client in clients { try client.subscribe(to: "/topic/few") }
            try clients[0].publish(to: "/topic/few", "to all")
            for client in clients { try client.expectMessage("to all") }
            #expect(try broker.counters(workers: workers)["limit.connections-max"] == refusedCount)

            for client in clients { try client.disconnect() }
            let deadline = Deadline()
            clients.removeAll()
            while clients.count < 16 {
                let client = try RawClient(broker)
                if try client.isAnswered() { clients.append(client) }
                try #require(!deadline.isOver, "no room again")
            }
            #expect(try broker.terminate() == .exited(0))
        }

        /// Without a store, messages live in memory.
        @Test(arguments: drivers)
        func `After kill -9 a new broker takes the port, its clients come back, and the queue is empty`(
            on driver: DriverUnderTest
        ) throws {
            var settings = BrokerProcess.Settings(driver, workers: 2, Self.values)
            var broker = try BrokerProcess(settings)
            settings.address = "127.0.0.1:\(broker.port)"
            for round in 0..<3 {
                let clients = try (0..<10).map { _ in try RawClient(broker, .v1_2) }
                for client in clients { try client.subscribe(to: "/topic/faults") }
                try clients[0].publish(to: "/topic/faults", "round \(round)")
                for client in clients { try client.expectMessage("round \(round)") }
                try clients[0].publish(to: Self.queue, "lost")
                broker.process.signal(SIGKILL)
                #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
                for client in clients { try client.expectCut() }
                broker = try BrokerProcess(settings)
                let reader = try RawClient(broker, .v1_2)
                try reader.subscribe(to: Self.queue)
                try reader.expectNothing()
            }
            #expect(try broker.terminate() == .exited(0))
        }

        /// `ss -K` resets sockets from inside the kernel, of both ends; it needs CAP_NET_ADMIN and a kernel that knows
        /// how. Elsewhere the clients reset.
        @Test(arguments: drivers)
        func `Resets under load cost only those who are reset, and no message`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2, Self.values))
            let attacker = Attacker(.headerFlood, port: broker.port, connectionCount: 4)
            attacker.start()
            defer { attacker.stop() }
            let messageCount = 100
            let publisher = try RawClient(broker, .v1_2)
            for index in 0..<messageCount {
                try publisher.send("SEND", ["destination": Self.queue], body: "\(index)")
            }
            try publisher.disconnect()
            var isByKernel = true
            for round in 0..<3 {
                let victims = try (0..<10).map { _ in try RawClient(broker, .v1_2) }
                for victim in victims {
                    try victim.perform(
                        "SUBSCRIBE",
                        ["id": "0", "destination": Self.queue, "ack": "client-individual", "prefetch-count": "10"])
                    try victim.subscribe(to: "/topic/faults", id: "topic")
                }
                for victim in victims { try victim.expectMessage() }
                isByKernel = isByKernel && reset(connectionsTo: broker.port)
                if !isByKernel { for victim in victims { victim.abort() } }
                if isByKernel { for victim in victims { try victim.expectCut() } }
                if round == 0 { print("resets on \(driver): \(isByKernel ? "ss -K" : "SO_LINGER 0")") }
            }
            attacker.stop()
            let reader = try RawClient(broker, .v1_2)
            try reader.subscribe(to: Self.queue, ack: "client-individual")
            var bodies: Set<String> = []
            for _ in 0..<messageCount {
                let message = try reader.expectMessage()
                bodies.insert(message.text)
                try reader.acknowledge(message)
            }
            #expect(bodies.count == messageCount)
            try reader.expectNothing()
            let deadline = Deadline()
            while try broker.counters(workers: 2)["connections-now"] != 1 {
                try #require(!deadline.isOver, "connections that were reset stay")
            }
            #expect(try broker.terminate() == .exited(0))
        }

        /// False: this machine does not let us.
        private func reset(connectionsTo port: UInt16) -> Bool {
            let filter = ["-K", "-t", "-n", "-H", "state", "established", "dport = :\(port)"]
            guard let process = try? ChildProcess("ss", filter), (try? process.waitForExit()) == .exited(0) else {
                return false
            }
            // It lists those that it has closed.
            return !process.outputLines.isEmpty
        }
    }
}

extension RawClient {
    /// Whether the broker takes this client; false: it ended the connection at once.
    fileprivate func isAnswered() throws -> Bool {
        do {
            try connect(.v1_2)
            return true
        } catch let failure as Failure {
            // Whatever else happens, waiting in vain above all, is a fault.
            guard failure.description.contains("ended") || failure.description.contains("reset") else { throw failure }
            return false
        }
    }
}
