import Glibc
import TestSupport
import Testing

/// Logs of topics and retained messages survive the end of the broker, whatever ends it.
extension Integration {
    @Suite("Durability of topics")
    struct TopicLogDurability {
        private static func settings(
            _ driver: DriverUnderTest, _ folder: TemporaryFolder, workers: Int
        ) -> BrokerProcess.Settings {
            BrokerProcess.Settings(
                driver, workers: workers,
                [
                    "storage.directory": folder.path, "storage.segment-bytes": "256KiB",
                    "limits.body-bytes": "16KiB", "limits.headers-bytes": "8KiB", "limits.transaction-bytes": "64KiB",
                    "limits.frames-per-transaction-max": "100", "limits.linger-ms": "50",
                ],
                file: "destinations:\n  - match: /topic/log.#\n    log-messages-max: 100000\n    storage: always\n")
        }

        private final class Seen: Sendable {
            let bodies = Monitor([UInt64: String]())
            let promised = Monitor(0)
            let faults = Monitor([String]())

            func see(_ message: Frame) {
                guard let offset = message["x-stream-offset"].flatMap({ UInt64($0) }) else {
                    return faults.withLock { $0.append("no offset in \(message)") }
                }
                let former = bodies.withLock { $0.updateValue(message.text, forKey: offset) }
                if let former, former != message.text {
                    faults.withLock { $0.append("offset \(offset) was \(former) and is \(message.text)") }
                }
            }
        }

        private static func publish(_ broker: BrokerProcess, _ round: Int, _ seen: Seen) {
            guard let client = try? RawClient(broker, .v1_2) else { return }
            for number in 0..<100_000 {
                let text = "\(round)-\(number)"
                guard
                    (try? client.perform(
                        "SEND", ["destination": "/topic/log.kill", "retain": number % 10 == 0 ? "set" : "remove"],
                        body: text)) != nil
                else { return }
                seen.promised.withLock { $0 += 1 }
            }
        }

        private static func follow(_ broker: BrokerProcess, _ seen: Seen, from start: String) {
            guard let client = try? RawClient(broker, .v1_2),
                (try? client.perform(
                    "SUBSCRIBE", ["destination": "/topic/log.kill", "id": "0", "x-stream-offset": start])) != nil
            else { return }
            var last: UInt64?
            while let frame = try? client.nextFrame(), frame.command == "MESSAGE" {
                seen.see(frame)
                let offset = frame["x-stream-offset"].flatMap { UInt64($0) }
                if let last, let offset, offset <= last {
                    seen.faults.withLock { $0.append("offset \(offset) behind \(last)") }
                }
                last = offset ?? last
            }
        }

        @Test(arguments: drivers)
        func `Killed under load again and again, no offset is given to two messages, and none is lost`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            let seen = Seen()
            let running = Monitor(0)
            func start(_ body: @escaping @Sendable () -> Void) {
                running.withLock { $0 += 1 }
                startThread {
                    body()
                    running.withLock { $0 -= 1 }
                }
            }
            for round in 0..<8 {
                let broker = try BrokerProcess(Self.settings(driver, folder, workers: 1 + round % 3))
                for start_ in ["first", "next"] { start { Self.follow(broker, seen, from: start_) } }
                start { Self.publish(broker, round, seen) }
                let before = seen.promised.withLock { $0 }
                let deadline = Deadline()
                let wanted = Int.random(in: 5...150)
                while seen.promised.withLock({ $0 }) < before + wanted, !deadline.isOver { usleep(1000) }
                broker.process.signal(SIGKILL)
                #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
                let end = Deadline()
                while running.withLock({ $0 }) > 0, !end.isOver { usleep(1000) }
                try #require(running.withLock { $0 } == 0, "clients of a killed broker end")
            }
            let broker = try BrokerProcess(Self.settings(driver, folder, workers: 2))
            let client = try RawClient(broker, .v1_2)
            try client.perform(
                "SUBSCRIBE", ["destination": "/topic/log.kill", "id": "0", "x-stream-offset": "first"])
            try client.perform("SEND", ["destination": "/topic/log.kill"], body: "end")
            var count = 0
            var last: UInt64?
            while case let message = try client.nextFrame(), message.text != "end" {
                seen.see(message)
                let offset = message["x-stream-offset"].flatMap { UInt64($0) }
                if let last, let offset { #expect(offset > last) }
                last = offset
                count += 1
            }
            let promised = seen.promised.withLock { $0 }
            #expect(count >= promised && promised > 8)
            #expect(seen.faults.withLock { $0 } == [])
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A retained message and a log come back after an orderly end, and dump shows them`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            for round in 0..<3 {
                let broker = try BrokerProcess(Self.settings(driver, folder, workers: 1 + round))
                let client = try RawClient(broker, .v1_2)
                try client.perform(
                    "SUBSCRIBE", ["destination": "/topic/log.a", "id": "log", "x-stream-offset": "first"])
                for former in 0..<round {
                    try client.expectMessage("\(former)", ["x-stream-offset": "\(former)"])
                }
                try client.subscribe(to: "/topic/state", id: "state")
                if round > 0 { try client.expectMessage("state \(round - 1)", ["retained": "true"]) }
                try client.publish(to: "/topic/log.a", "\(round)")
                try client.perform(
                    "SEND", ["destination": "/topic/state", "retain": "set", "persistent": "true"],
                    body: "state \(round)")
                #expect(try broker.terminate() == .exited(0))
            }
            let dump = try ChildProcess(
                BuildDirectory.path(of: "stampede"), ["storage", "dump", folder.path, "--contents", "--json"])
            #expect(try dump.waitForExit() == .exited(0), "\(dump.errorLines)")
            let text = dump.outputLines.joined(separator: "\n")
            for part in ["topicOffsets", "offset-end", "kept-as", "retained", "logged", "/topic/log.a"] {
                #expect(text.contains(part), "\(part)")
            }
        }
    }
}
