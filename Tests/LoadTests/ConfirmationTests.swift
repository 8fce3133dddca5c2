import Foundation
import Testing

@testable import Load
@testable import stampede_bench

/// Messages that are confirmed one by one: what is written, read and counted.
struct ConfirmationTests {
    private static let bodyByteCount = 32

    private static func body(_ sequence: UInt64) -> [UInt8] {
        let body = Body(byteCount: bodyByteCount)
        return [UInt8](unsafeUninitializedCapacity: bodyByteCount) { buffer, count in
            body.write(to: buffer.baseAddress!, publisher: 0, sequence: sequence, stamp: 9)
            count = bodyByteCount
        }
    }

    private static func text(_ text: Text) -> String {
        String(decoding: UnsafeRawBufferPointer(start: text.base, count: text.byteCount), as: UTF8.self)
    }

    private static func plan(_ dialect: Plan.Dialect) throws -> Plan {
        var plan = try DurableLoad(publishers: 2, window: 4, body: bodyByteCount).plan(dialect)
        plan.tag = ".7"
        return plan
    }

    @Test func `messages are written as each protocol has them`() throws {
        let stomp = ConfirmedRequests(try Self.plan(.stomp))
        #expect(stomp.isNumbered)
        #expect(
            Self.text(stomp.before[1]) + "12" + Self.text(stomp.after[0])
                == "SEND\nreceipt:12\ndestination:/queue/bench.7.0\npersistent:true\ncontent-length:32\n\n")
        let nats = ConfirmedRequests(try Self.plan(.nats))
        #expect(
            Self.text(nats.before[1]) + "12" + Self.text(nats.after[0]) == "PUB bench.7.0 _INBOX.7.1.12 32\r\n")
        #expect(Self.text(nats.listen[1]) == "SUB _INBOX.7.1.* 1\r\n")
        let beanstalk = ConfirmedRequests(try Self.plan(.beanstalk))
        #expect(!beanstalk.isNumbered)
        #expect(Self.text(beanstalk.before[0]) + Self.text(beanstalk.after[0]) == "put 0 0 3600 32\r\n")
    }

    @Test func `without persistence the head of a SEND is as it was`() throws {
        var plan = try DurableLoad(publishers: 1, window: 1, body: 32).inMemory.plan(.stomp)
        plan.tag = ""
        #expect(
            Self.text(Requests(plan).sendHead[0]) == "SEND\ndestination:/queue/bench.0\ncontent-length:32\n\n")
    }

    @Test func `JetStream's confirmations and deliveries are told apart, cut at any byte`() {
        var stream = Array("MSG _INBOX.7.1.12 1 29\r\n{\"stream\":\"bench\", \"seq\":113}\r\n".utf8)
        stream += Array("MSG bench.7.0 1 $JS.ACK.b.workers.1.5.5.1.0 \(Self.bodyByteCount)\r\n".utf8)
        stream += Self.body(1) + [13, 10]
        stream += Array("MSG _INBOX.7.1.13 1 23\r\n{\"error\":{\"code\":503}} \r\n".utf8)
        for cut in 0...stream.count {
            var scanner = FrameScanner(dialect: .nats, bodyByteCount: Self.bodyByteCount)
            var kinds: [FrameScanner.Kind] = []
            var names: [String?] = []
            var offset = 0
            for end in [cut, stream.count] {
                // A buffer of its own: nothing behind the part may be looked at.
                let part = Array(stream[offset..<end])
                part.withUnsafeBytes { part in
                    guard let base = part.baseAddress else { return }
                    var next = base
                    while next < base + part.count, let frame = scanner.scan(next, base + part.count) {
                        kinds.append(frame.kind)
                        let name =
                            frame.kind == .message
                            ? JetStream.replySubject(of: frame) : JetStream.confirmedNumber(of: frame)
                        names.append(name.map { String(decoding: $0, as: UTF8.self) })
                        next = frame.next
                    }
                    offset += next - base
                }
            }
            #expect(kinds == [.receipt, .message, .error], "cut at \(cut)")
            #expect(names == ["12", "$JS.ACK.b.workers.1.5.5.1.0", "13"], "cut at \(cut)")
        }
    }

    @Test func `a NATS message without a reply has no subject to acknowledge to`() {
        Array("MSG bench.0 1 0\r\n\r\n".utf8).withUnsafeBytes { bytes in
            var scanner = FrameScanner(dialect: .nats, bodyByteCount: 0)
            let frame = scanner.scan(bytes.baseAddress!, bytes.baseAddress! + bytes.count)
            #expect(frame?.kind == .message)
            #expect(frame.flatMap(JetStream.replySubject) == nil)
        }
    }

    // MARK: Rows

    @Test func `rows have a load in memory beside them, where the peer has one`() {
        let loads = DurableLoad.all(publishers: [1, 10], windows: [1, 64], body: 64)
        #expect(loads.map(\.name) == ["durable P=1 W=1", "durable P=1 W=64", "durable P=10 W=1", "durable P=10 W=64"])
        #expect(loads[3].inMemory.name == "in memory P=10 W=64")
        #expect(loads[0].isPossible(.beanstalk) && !loads[0].inMemory.isPossible(.beanstalk))
        #expect(loads[0].inMemory.isPossible(.nats) && !loads[0].isPossible(.mqtt))
    }

    @Test func `a row whose windows a server would not answer in time is left out`() {
        let row = Row(DurableLoad(publishers: 100, window: 1024, body: 64))
        #expect(row.isWithinReach(ofRate: nil))
        #expect(row.isWithinReach(ofRate: 102_400 / DurableLoad.windowSecondsMax))
        #expect(!row.isWithinReach(ofRate: 139))
        #expect(Row.all.allSatisfy { $0.isWithinReach(ofRate: 1) })
    }

    @Test func `the tables compare with the floor, the best peer and the load in memory`() {
        let load = DurableLoad(publishers: 1, window: 64, body: 64)
        var field = Comparison(
            rows: [load.name, load.inMemory.name], servers: ["uring", "floor_log", "nats", "beanstalkd"])
        func add(_ load: DurableLoad, _ server: String, rate: Double, cost: Double, p50: Double) {
            var outcome = Outcome()
            outcome.scenario = load.name
            outcome.server = server
            var confirmation = Confirmation()
            confirmation.isPersistent = load.isPersistent
            confirmation.messagesPerSecond = rate
            confirmation.serverMicrosecondsPerMessage = cost
            confirmation.writtenBytesPerMessage = 200
            confirmation.latency.p50 = p50
            outcome.confirmation = confirmation
            field.add(outcome)
        }
        add(load, "uring", rate: 90_000, cost: 3, p50: 120)
        add(load, "floor_log", rate: 100_000, cost: 2, p50: 100)
        add(load, "nats", rate: 30_000, cost: 12, p50: 400)
        add(load, "beanstalkd", rate: 10_000, cost: 6, p50: 800)
        add(load.inMemory, "uring", rate: 150_000, cost: 2, p50: 50)
        let sections = DurableComparison(loads: [load], field: field).sections
        #expect(sections[0].lines == [[load.name, "90,000", "100,000", "30,000", "10,000", "0.90", "3.00"]])
        #expect(sections[1].lines.first?.suffix(2) == ["1.20", "0.30"])
        #expect(sections[2].lines.first?.suffix(2) == ["1.50", "0.50"])
        #expect(sections[3].lines == [[load.name, "200", "200", "200", "200"]])
        #expect(sections[4].lines == [[load.inMemory.name, "150,000 (0.60)", "-", "-", "-"]])
        #expect(field.bestConfirmedRate("uring", isPersistent: true) == 90_000)
        #expect(field.bestConfirmedRate("uring", isPersistent: false) == 150_000)
        #expect(field.bestConfirmedRate("beanstalkd", isPersistent: false) == nil)
    }

    // MARK: The command line

    @Test(arguments: [
        ["--window", "3"], ["--window", "0"], ["-p", "0"], ["-b", "8"], ["--restart"], ["--depth", "10", "--kill"],
        ["--depth", "0"], ["--depth", "10", "-p", "1", "-p", "2"], ["--depth", "10", "--peers", "nats"],
        ["--depth", "10", "--output", "r.md"], ["--start", "epoll"], ["--rounds", "0"],
    ])
    func `what cannot be measured is refused`(_ arguments: [String]) {
        #expect(throws: (any Error).self) { try Durable.parse(arguments) }
    }

    @Test func `peers that promise less are refused`() throws {
        let folder = try StorageFolder(
            FileManager.default.temporaryDirectory.path + "/stampede-bench-storage-\(UUID())")
        defer { try? FileManager.default.removeItem(atPath: folder.path) }
        let options = try DurableServerOptions.parse(["--peers", "valkey"])
        #expect(throws: (any Error).self) { try options.kinds(folder) }
    }

    @Test func `a folder in memory is refused`() throws {
        guard StorageFolder.isMemory("/dev/shm") else { return }
        let path = "/dev/shm/stampede-bench-\(UUID())"
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: (any Error).self) { try StorageFolder(path) }
    }
}
