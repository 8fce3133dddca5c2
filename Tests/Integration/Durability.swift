import Glibc
import TestSupport
import Testing

/// What is stored survives the end of the broker, whatever ends it.
extension Integration {
    @Suite("Durability")
    struct Durability {
        /// Small segments, so that many are begun and removed.
        static func settings(_ driver: DriverUnderTest, _ folder: TemporaryFolder, workers: Int = 2)
            -> BrokerProcess.Settings
        {
            BrokerProcess.Settings(
                driver, workers: workers,
                [
                    "storage.directory": folder.path, "storage.segment-bytes": "256KiB",
                    "limits.body-bytes": "16KiB", "limits.headers-bytes": "8KiB", "limits.transaction-bytes": "64KiB",
                    "limits.frames-per-transaction-max": "100", "limits.linger-ms": "50",
                ])
        }

        private static func publish(_ client: RawClient, _ body: String, to queue: String) throws {
            try client.perform("SEND", ["destination": queue, "persistent": "true"], body: body)
        }

        @Test(arguments: drivers, [1, 3])
        func `A persistent message whose RECEIPT came is there after kill -9, and one that was acknowledged is not`(
            on driver: DriverUnderTest, workers: Int
        ) throws {
            let folder = try TemporaryFolder()
            var broker = try BrokerProcess(Self.settings(driver, folder, workers: workers))
            let client = try RawClient(broker, .v1_2)
            for number in 0..<10 { try Self.publish(client, "\(number)", to: "/queue/kept-\(number % 3)") }
            try client.perform("SEND", ["destination": "/queue/kept-0"], body: "not persistent")
            try client.subscribe(to: "/queue/kept-1", ack: "client-individual")
            let first = try client.expectMessage("1")
            try client.acknowledge(first)
            broker.process.signal(SIGKILL)
            #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
            #expect(try TemporaryFile.contents(of: "\(folder.path)/life") == "1\n")
            // Another number of workers: the queues have other owners.
            broker = try BrokerProcess(Self.settings(driver, folder, workers: workers == 1 ? 2 : 1))
            let reader = try RawClient(broker, .v1_2)
            for (queue, bodies) in [["0", "3", "6", "9"], ["4", "7"], ["2", "5", "8"]].enumerated() {
                try reader.subscribe(to: "/queue/kept-\(queue)", id: "\(queue)")
                for body in bodies {
                    let message = try reader.expectMessage(body)
                    #expect(message["redelivered"] == "true")
                }
            }
            try reader.expectNothing()
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `After an orderly end what was not delivered is not marked as redelivered`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            for round in 0..<3 {
                let broker = try BrokerProcess(Self.settings(driver, folder))
                let client = try RawClient(broker, .v1_2)
                try Self.publish(client, "\(round)", to: "/queue/orderly")
                if round == 2 {
                    try client.subscribe(to: "/queue/orderly")
                    for body in ["0", "1", "2"] {
                        #expect(try client.expectMessage(body)["redelivered"] != "true")
                    }
                }
                try client.disconnect()
                #expect(try broker.terminate() == .exited(0))
            }
        }

        @Test(arguments: drivers)
        func `A second broker on the same directory does not start, and names the first`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            let broker = try BrokerProcess(Self.settings(driver, folder))
            let second = try BrokerProcess.start(Self.settings(driver, folder))
            #expect(try second.waitForExit() == .exited(1))
            let line = try #require(second.errorLines.last)
            #expect(line.contains("\(folder.path) is in use by process \(broker.process.pid)"), "\(line)")
            #expect(try broker.terminate() == .exited(0))
        }

        /// The number of rounds: 20, or STAMPEDE_KILL_ROUNDS.
        private static let roundCount = getenv("STAMPEDE_KILL_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 20

        @Test(arguments: drivers)
        func `Killed under load again and again, the broker keeps every promise`(on driver: DriverUnderTest) throws {
            let folder = try TemporaryFolder()
            let ledger = Ledger()
            var random = SystemRandomNumberGenerator()
            for round in 0..<Self.roundCount {
                ledger.begin(round: round)
                var settings = Self.settings(driver, folder, workers: 1 + round % 3)
                settings.values["storage.commit"] = round % 2 == 0 ? "durable-write" : "write-and-sync"
                // The kernel outlives the broker, so even then nothing is lost.
                if round % 5 == 4 { settings.values["storage.sync"] = "interval" }
                let broker = try BrokerProcess(settings)
                for number in 0..<4 {
                    ledger.start { try Self.publish("\(round)-\(number)", broker, ledger) }
                    ledger.start { try Self.consume("/queue/kill-\(number)", broker, ledger, untilEmpty: false) }
                }
                let before = ledger.promisedCount
                let deadline = Deadline()
                // At some moment after it has begun to promise.
                let wanted = Int.random(in: 1...200, using: &random)
                while ledger.promisedCount < before + wanted, !deadline.isOver { usleep(1000) }
                usleep(UInt32.random(in: 0..<20_000, using: &random))
                broker.process.signal(SIGKILL)
                #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
                try #require(ledger.awaitClients(), "clients of a killed broker end")
                try Self.keep(folder, round)
            }
            ledger.begin(round: Self.roundCount)
            let broker = try BrokerProcess(Self.settings(driver, folder))
            for number in 0..<4 {
                ledger.start { try Self.consume("/queue/kill-\(number)", broker, ledger, untilEmpty: true) }
            }
            #expect(ledger.awaitClients())
            try Self.takeDead(broker, ledger)
            #expect(ledger.faults == [])
            #expect(ledger.promisedCount > Self.roundCount)
            #expect(ledger.doneCount > 0)
            #expect(ledger.deadCount > 0)
            #expect(try broker.terminate() == .exited(0))
            #expect(folder.names().count < 40, "segments of earlier runs are removed: \(folder.names())")
        }

        /// STAMPEDE_KEEP_ROUNDS names a folder to which the store is copied after each round, to be looked at by
        /// `stampede storage dump`.
        private static func keep(_ folder: TemporaryFolder, _ round: Int) throws {
            guard let kept = getenv("STAMPEDE_KEEP_ROUNDS").map({ String(cString: $0) }) else { return }
            let process = try ChildProcess("cp", ["-r", "--sparse=always", folder.path, "\(kept)/\(round)"])
            #expect(try process.waitForExit() == .exited(0), "\(process.errorLines)")
        }

        static func takeDead(_ broker: BrokerProcess, _ ledger: Ledger) throws {
            let client = try RawClient(broker, .v1_2)
            try client.perform("SEND", ["destination": "/queue/DLQ"], body: "end")
            try client.subscribe(to: "/queue/DLQ")
            while case let message = try client.nextFrame(), message.text != "end" { ledger.didSeeDead(message.text) }
        }

        /// Sends messages and transactions until the broker is gone. Bodies are told apart by their beginnings.
        static func publish(_ name: String, _ broker: BrokerProcess, _ ledger: Ledger) throws {
            let client = try RawClient(broker, .v1_2)
            for number in 0..<100_000 {
                func body(_ part: Int) -> String {
                    "\(name)-\(number)-\(part)-" + String(repeating: "x", count: number * 37 % 1500)
                }
                if number % 7 == 3 {
                    let bodies = (0..<3).map(body)
                    ledger.willSend(bodies)
                    let transaction = "\(number)"
                    try client.send("BEGIN", ["transaction": transaction])
                    for (part, body) in bodies.enumerated() {
                        try client.send(
                            "SEND",
                            [
                                "destination": "/queue/kill-\((number + part) % 4)", "persistent": "true",
                                "transaction": transaction,
                            ], body: body)
                    }
                    try client.perform("COMMIT", ["transaction": transaction])
                    ledger.didPromise(bodies)
                } else {
                    ledger.willSend([body(0)])
                    try publish(client, body(0), to: "/queue/kill-\(number % 4)")
                    ledger.didPromise([body(0)])
                }
            }
        }

        /// Takes messages and acknowledges them, until the broker is gone, or until the queue is empty.
        static func consume(
            _ queue: String, _ broker: BrokerProcess, _ ledger: Ledger, untilEmpty: Bool
        ) throws {
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: queue, ack: "client-individual")
            // A message of its own, not stored, comes behind all others.
            if untilEmpty { try client.perform("SEND", ["destination": queue], body: "end") }
            while true {
                let message = try client.nextFrame()
                guard message.command == "MESSAGE" else {
                    return ledger.add(fault: "a consumer got \(message)")
                }
                if untilEmpty, message.text == "end" { return }
                ledger.didSee(message.text)
                if message.body.count % 9 == 5 {
                    // It moves to the dead-letter queue, which another worker may own, or stays: never both or neither.
                    ledger.willReject(message.text)
                    try client.perform("NACK", ["id": message["ack"] ?? "", "requeue": "false"])
                } else {
                    ledger.willAcknowledge(message.text)
                    try client.acknowledge(message)
                }
                ledger.didFinish(message.text)
            }
        }
    }
}
