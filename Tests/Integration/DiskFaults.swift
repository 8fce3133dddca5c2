import Glibc
import TestSupport
import Testing

/// A file system in memory, of a few megabytes. It goes with its owner.
private final class SmallDisk {
    let path: String
    private let folder: TemporaryFolder

    /// Whether file systems may be mounted here.
    static let isPermitted = (try? SmallDisk(megabytes: 1)) != nil

    init(megabytes: Int) throws {
        folder = try TemporaryFolder()
        path = folder.path
        guard mount("stampede-test", path, "tmpfs", 0, "size=\(megabytes)m") == 0 else {
            throw Failure("mount: errno \(errno)", at: Place(#fileID, #line))
        }
    }

    /// Somebody makes room.
    func grow(megabytes: Int) {
        #expect(mount("stampede-test", path, "tmpfs", UInt(MS_REMOUNT), "size=\(megabytes)m") == 0, "errno \(errno)")
    }

    deinit { umount2(path, Int32(MNT_DETACH)) }
}

/// Disks of real processes that fail, or are full.
extension Integration {
    @Suite("Faults of the disk")
    struct DiskFaults {
        private static let body = String(repeating: "x", count: 4000)

        private static func settings(
            _ driver: DriverUnderTest, _ path: String, _ others: [String: String] = [:]
        ) -> BrokerProcess.Settings {
            let values = [
                "storage.directory": path, "storage.segment-bytes": "256KiB", "storage.staged-bytes": "64KiB",
                "limits.body-bytes": "16KiB", "limits.headers-bytes": "8KiB", "limits.header-bytes": "4KiB",
                "limits.transaction-bytes": "64KiB", "limits.frames-per-transaction-max": "20",
                "limits.linger-ms": "50", "limits.drain-timeout-ms": "1000",
            ]
            return BrokerProcess.Settings(driver, workers: 1, values.merging(others) { $1 })
        }

        // MARK: Full

        /// Publishes until a RECEIPT does not come. Returns the bodies that were promised, and what came instead.
        private static func fill(_ broker: BrokerProcess, _ name: String) throws -> (promised: [String], frame: Frame?)
        {
            let client = try RawClient(broker, .v1_2)
            var promised: [String] = []
            for number in 0..<2000 {
                let text = "\(name)-\(number)-\(body)"
                try client.send(
                    "SEND", ["destination": "/queue/full", "persistent": "true", "receipt": "r"], body: text)
                let frame = try client.nextFrameOrEnd()
                guard let frame, frame.command == "RECEIPT" else { return (promised, frame) }
                promised.append(text)
            }
            throw Failure("the disk takes all", at: Place(#fileID, #line))
        }

        /// Takes these messages, in order, and acknowledges them.
        private static func drain(_ broker: BrokerProcess, _ bodies: [String]) throws {
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: "/queue/full", ack: "client-individual")
            for body in bodies { try client.acknowledge(try client.expectMessage(body)) }
            try client.disconnect()
        }

        @Test(.enabled(if: SmallDisk.isPermitted, "needs the permission to mount"), arguments: drivers)
        func `On a disk that fills up SENDs are refused, consumers drain, and SENDs go on`(
            on driver: DriverUnderTest
        ) throws {
            let disk = try SmallDisk(megabytes: 2)
            var broker = try BrokerProcess(Self.settings(driver, disk.path))
            for round in 0..<3 {
                let (promised, frame) = try Self.fill(broker, "\(round)")
                #expect(promised.count > 100)
                #expect(frame?["message"] == "Disk full", "\(String(describing: frame))")
                var left = promised
                if round == 1 {
                    // Nothing that was promised is lost with a broker that is killed on a full disk. The next one needs room for
                    // a segment: until it has, nobody is told that something is stored, an acknowledgement either.
                    broker.process.signal(SIGKILL)
                    #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
                    broker = try BrokerProcess(Self.settings(driver, disk.path))
                    let client = try RawClient(broker, .v1_2)
                    try client.subscribe(to: "/queue/full", ack: "client-individual")
                    let message = try client.expectMessage(promised[0])
                    try client.send("ACK", ["id": message["ack"] ?? "", "receipt": "1"])
                    var frame = try client.nextFrame()
                    while frame.command == "MESSAGE" { frame = try client.nextFrame() }
                    #expect(frame["message"] == "Disk full, not confirmed", "\(frame)")
                    disk.grow(megabytes: 4)
                    left.removeFirst()
                }
                let client = try RawClient(broker, .v1_2)
                try client.publish(to: "/queue/other", "not stored")
                try client.disconnect()
                try Self.drain(broker, left)
            }
            let lines = broker.process.errorLines.filter { $0.contains("disk full") }
            #expect((1...3).contains(lines.count), "\(lines)")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(.enabled(if: SmallDisk.isPermitted, "needs the permission to mount"), arguments: drivers)
        func `On a disk without room for a segment SENDs are refused at once, and the broker ends in time`(
            on driver: DriverUnderTest
        ) throws {
            let disk = try SmallDisk(megabytes: 1)
            let broker = try BrokerProcess(Self.settings(driver, disk.path, ["storage.segment-bytes": "2MiB"]))
            for _ in 0..<3 {
                let (promised, frame) = try Self.fill(broker, "0")
                #expect(promised.isEmpty)
                #expect(frame?["message"]?.hasPrefix("Disk full") == true, "\(String(describing: frame))")
            }
            let lines = broker.process.errorLines.filter { $0.contains("disk full") }
            #expect(lines.count == 1, "\(lines)")
            #expect(try broker.terminate(within: 10) == .exited(0))
            #expect(broker.process.errorLines.contains { $0.contains("could not be ended in order") })
        }

        // MARK: Errors

        /// A call that fails once, and with which of the two ways to bring an append to stable storage it is made. The count
        /// is that of one thread.
        struct CallFault: CustomTestStringConvertible, Sendable {
            var call: String
            var error: String
            var commit: String
            var count: String

            init(_ call: String, _ error: String, _ commit: String, _ count: String) {
                (self.call, self.error, self.commit, self.count) = (call, error, commit, count)
            }

            var testDescription: String { "\(call) \(error) \(count), \(commit)" }
        }

        private static let errors = [
            CallFault("pwritev2", "EIO", "durable-write", "7"),
            CallFault("pwritev2", "EROFS", "write-and-sync", "12"),
            CallFault("fdatasync", "EIO", "write-and-sync", "9"),
            CallFault("fdatasync", "ENOSPC", "write-and-sync", "3"),
            CallFault("fsync", "EIO", "durable-write", "1"), CallFault("fallocate", "EIO", "durable-write", "1"),
        ]

        @Test(
            .enabled(if: Strace.isPermitted, "needs strace, and the permission to trace"), arguments: errors,
            ["stop", "refuse"])
        func `After an error of the disk the broker stops or refuses, and nothing that was promised is lost`(
            _ fault: CallFault, _ policy: String
        ) throws {
            let folder = try TemporaryFolder()
            let ledger = Ledger()
            let broker = try BrokerProcess(
                Self.settings(.epoll, folder.path, ["storage.on-error": policy, "storage.commit": fault.commit]))
            ledger.begin(round: 0)
            Self.work(0, broker, ledger)
            let strace = try Strace.inject("\(fault.call):error=\(fault.error):when=\(fault.count)", into: broker)
            if policy == "stop" {
                #expect(try broker.process.waitForExit(within: 60) == .exited(1))
                #expect(broker.process.errorLines.contains { $0.contains("critical") && $0.contains("on-error") })
            } else {
                let failed = try broker.process.errorLine { $0.contains("storage failed") }
                #expect(failed != nil)
                let client = try RawClient(broker, .v1_2)
                try client.publish(to: "/queue/other", "not stored")
                try client.send(
                    "SEND", ["destination": "/queue/kill-0", "persistent": "true", "receipt": "1"], body: "refused")
                #expect(try client.nextFrame()["message"] == "Storage failed")
                broker.process.signal(SIGKILL)
                #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
            }
            _ = try strace.waitForExit()
            try #require(ledger.awaitClients(), "clients of a broker that is gone end")
            try Self.verify(folder, ledger)
        }

        @Test(
            .enabled(if: Strace.isPermitted, "needs strace, and the permission to trace"),
            arguments: [
                CallFault("pwritev2", "ENOSPC", "durable-write", "5+3"),
                CallFault("pwritev2", "EDQUOT", "write-and-sync", "2+2"),
                CallFault("fallocate", "ENOSPC", "durable-write", "1..5"),
            ])
        func `Want of space that passes stops nobody, and nothing that was promised is lost`(_ fault: CallFault) throws
        {
            let folder = try TemporaryFolder()
            let ledger = Ledger()
            let broker = try BrokerProcess(Self.settings(.epoll, folder.path, ["storage.commit": fault.commit]))
            ledger.begin(round: 0)
            Self.work(0, broker, ledger)
            let strace = try Strace.inject("\(fault.call):error=\(fault.error):when=\(fault.count)", into: broker)
            let short = try broker.process.errorLine { $0.contains("disk full") }
            #expect(short != nil)
            try Strace.end(strace)
            #expect(try broker.process.errorLine { $0.contains("room for the log again") } != nil)
            let client = try RawClient(broker, .v1_2)
            ledger.willSend(["0-again"])
            try client.perform("SEND", ["destination": "/queue/kill-1", "persistent": "true"], body: "0-again")
            ledger.didPromise(["0-again"])
            broker.process.signal(SIGKILL)
            #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
            try #require(ledger.awaitClients(), "clients of a broker that is gone end")
            try Self.verify(folder, ledger)
        }

        /// Returns when they have begun to be promised something.
        private static func work(_ round: Int, _ broker: BrokerProcess, _ ledger: Ledger) {
            for number in 0..<3 {
                ledger.start { try Durability.publish("\(round)-\(number)", broker, ledger) }
                ledger.start { try Durability.consume("/queue/kill-\(number)", broker, ledger, untilEmpty: false) }
            }
            let deadline = Deadline()
            while ledger.promisedCount < 20, !deadline.isOver { usleep(1000) }
        }

        /// Another broker, on a disk that works, has all that was promised.
        private static func verify(_ folder: TemporaryFolder, _ ledger: Ledger) throws {
            ledger.begin(round: 1)
            let broker = try BrokerProcess(Self.settings(.epoll, folder.path))
            for number in 0..<4 {
                ledger.start { try Durability.consume("/queue/kill-\(number)", broker, ledger, untilEmpty: true) }
            }
            #expect(ledger.awaitClients())
            try Durability.takeDead(broker, ledger)
            #expect(ledger.faults == [])
            #expect(ledger.promisedCount > 0)
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
