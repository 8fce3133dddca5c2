import Broker
import FakeKernel
import Glibc
import IO
import Slabs

extension MicroCase {
    static let shards = [
        MicroCase(name: "turn-idle", summary: "a turn of a shard without news") { ShardTurns(.idle) },
        MicroCase(name: "publish-nobody", summary: "SEND to a topic without subscribers, 16 in a turn") {
            ShardTurns(.publish(subscribers: 0, burst: 16))
        },
        MicroCase(name: "fanout-1", summary: "delivery to one subscriber, 16 SENDs in a turn") {
            ShardTurns(.publish(subscribers: 1, burst: 16))
        },
        MicroCase(name: "fanout-100", summary: "delivery to one of 100 subscribers, 16 SENDs in a turn") {
            ShardTurns(.publish(subscribers: 100, burst: 16))
        },
        MicroCase(name: "fanout-1000-single", summary: "delivery to one of 1,000 subscribers, one SEND in a turn") {
            ShardTurns(.publish(subscribers: 1000, burst: 1))
        },
        MicroCase(name: "queue-1", summary: "a message through a queue to one consumer, 16 in a turn") {
            ShardTurns(.queue(consumers: 1, burst: 16))
        },
        MicroCase(name: "queue-4", summary: "the same, to four consumers in turn") {
            ShardTurns(.queue(consumers: 4, burst: 16))
        },
        MicroCase(name: "queue-ack", summary: "a message through a queue and its ACK, 16 in a turn") {
            ShardTurns(.acknowledge(burst: 16))
        },
        MicroCase(name: "queue-receipt", summary: "the same with a RECEIPT for each SEND, 64 in a turn") {
            ShardTurns(.acknowledge(burst: 64, wantsReceipts: true))
        },
        MicroCase(name: "queue-stored", summary: "the same with persistent messages and a disk that is done at once") {
            ShardTurns(.acknowledge(burst: 64, wantsReceipts: true, areStored: true))
        },
        MicroCase(name: "heart-beat", summary: "a line end from a client, 16 clients in a turn") {
            ShardTurns(.heartBeats(16))
        },
        MicroCase(name: "connect", summary: "accept, CONNECT, SUBSCRIBE, close") { ShardTurns(.connect) },
    ]
}

/// Turns of a shard with a driver that completes everything at once and without errors.
private final class ShardTurns: Workload {
    enum Kind {
        case idle
        case publish(subscribers: Int, burst: Int)
        case queue(consumers: Int, burst: Int)
        case acknowledge(burst: Int, wantsReceipts: Bool = false, areStored: Bool = false)
        case heartBeats(Int)
        case connect
    }

    private let kind: Kind
    private let worker: FakeWorker
    private var publisher = Slot.none
    private var others: [Slot] = []
    private var now: UInt64 = 5_000_000_000
    private var nextDescriptor: Int32 = 10
    private static let wallMilliseconds: UInt64 = 1_700_000_000_000

    /// Bytes that are received again and again.
    private let burst: UnsafeMutableRawBufferPointer
    /// The ACKs of a turn.
    private let acks = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64)
    nonisolated(unsafe) private static let hello = bytes("CONNECT\naccept-version:1.2\nhost:localhost\n\n\0")
    nonisolated(unsafe) private static let helloAndSubscribe = bytes(
        "CONNECT\naccept-version:1.2\nhost:localhost\n\n\0SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0")
    nonisolated(unsafe) private static let helloAndConsume = bytes(
        "CONNECT\naccept-version:1.2\nhost:localhost\n\n\0SUBSCRIBE\nid:0\ndestination:/queue/a\n\n\0")
    nonisolated(unsafe) private static let helloAndAcknowledge = bytes(
        "CONNECT\naccept-version:1.2\nhost:localhost\n\n\0"
            + "SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client-individual\n\n\0")
    nonisolated(unsafe) private static let lineEnd = bytes("\n")

    init(_ kind: Kind) {
        self.kind = kind
        var options = BrokerOptions()
        options.seed = 42
        if case .acknowledge(_, _, true) = kind { options.storage = StorageOptions(directory: [1], life: 1) }
        worker = FakeWorker(
            index: 0, options: options,
            fabric: Fabric(shardCount: 1, mailboxByteCountMax: options.limits.mailboxByteCountMax),
            connectionCountMax: 20_000, now: now, wallMilliseconds: Self.wallMilliseconds)
        let rest = "content-length:64\n\n\(String(repeating: "x", count: 64))\0\n"
        let send = "SEND\ndestination:/topic/a\n" + rest
        switch kind {
        case .publish(let subscribers, let burst):
            self.burst = Self.bytes(String(repeating: send, count: burst))
            publisher = connect(Self.hello)
            for _ in 0..<subscribers { others.append(connect(Self.helloAndSubscribe)) }
        case .queue(let consumers, let burst):
            self.burst = Self.bytes(String(repeating: "SEND\ndestination:/queue/a\n" + rest, count: burst))
            publisher = connect(Self.hello)
            for _ in 0..<consumers { others.append(connect(Self.helloAndConsume)) }
        case .acknowledge(let burst, let wantsReceipts, let areStored):
            let headers = (areStored ? "persistent:true\n" : "") + (wantsReceipts ? "receipt:1\n" : "")
            self.burst = Self.bytes(String(repeating: "SEND\ndestination:/queue/a\n" + headers + rest, count: burst))
            // A turn for each step in which the store makes its first segments, and more than enough.
            if areStored { for _ in 0..<100 { turn(withFiles: true) } }
            publisher = connect(Self.hello)
            others.append(connect(Self.helloAndAcknowledge))
        case .heartBeats(let clients):
            burst = Self.lineEnd
            for _ in 0..<clients { others.append(connect(Self.hello)) }
        case .idle, .connect:
            burst = Self.lineEnd
        }
    }

    func run(_ count: Int) {
        switch kind {
        case .idle: for _ in 0..<count { turn() }
        case .publish(let subscribers, let burst):
            // An operation is a delivery, or a message if there are no subscribers.
            for _ in 0..<max(count / (burst * max(subscribers, 1)), 1) {
                worker.receive(UnsafeRawBufferPointer(self.burst), on: publisher)
                turn()
            }
        case .queue(_, let burst):
            for _ in 0..<max(count / burst, 1) {
                worker.receive(UnsafeRawBufferPointer(self.burst), on: publisher)
                turn()
            }
        case .acknowledge(let burst, _, let areStored):
            for _ in 0..<max(count / burst, 1) {
                worker.receive(UnsafeRawBufferPointer(self.burst), on: publisher)
                turn(withFiles: areStored)
                acknowledge(on: others[0])
                turn(withFiles: areStored)
            }
        case .heartBeats(let clients):
            for _ in 0..<max(count / clients, 1) {
                for client in others { worker.receive(UnsafeRawBufferPointer(burst), on: client) }
                turn()
            }
        case .connect:
            for _ in 0..<count {
                let client = connect(Self.helloAndSubscribe)
                worker.completions.pointee.append(Completion(.receiveFailed, connection: client, value: -104))
                turn()
                worker.completions.pointee.append(Completion(.closed, connection: client))
                turn()
            }
        }
        keep(worker.shard.pointee.submissions.count)
    }

    /// Acknowledges what the last turn has sent to a connection.
    private func acknowledge(on connection: Slot) {
        var end = acks.baseAddress!
        for place in 0..<worker.shard.pointee.submissions.count {
            let send = worker.shard.pointee.submissions[place]
            guard send.connection == connection else { continue }
            if send.kind == .send {
                end = writeAcks(UnsafeRawBufferPointer(start: send.pointer, count: send.byteCount), at: end)
            } else if send.kind == .sendVector {
                let vectors = send.pointer!.assumingMemoryBound(to: iovec.self)
                for vector in UnsafeBufferPointer(start: vectors, count: send.byteCount) {
                    end = writeAcks(UnsafeRawBufferPointer(start: vector.iov_base, count: vector.iov_len), at: end)
                }
            }
        }
        worker.receive(UnsafeRawBufferPointer(start: acks.baseAddress!, count: end - acks.baseAddress!), on: connection)
    }

    /// Writes an ACK for each MESSAGE in `bytes`; returns where the next one goes.
    private func writeAcks(
        _ bytes: UnsafeRawBufferPointer, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        var end = start
        var rest = bytes
        // The header that follows the message-id: no other line of these messages begins so.
        while let found = memchr(rest.baseAddress!, 10, rest.count) {
            let line = UnsafeRawPointer(found) + 1
            rest = UnsafeRawBufferPointer(start: line, count: rest.baseAddress! + rest.count - line)
            guard rest.count > 4, memcmp(line, "ack:", 4) == 0 else { continue }
            guard let lineEnd = memchr(line, 10, rest.count) else { break }
            let valueByteCount = UnsafeRawPointer(lineEnd) - line - 4
            memcpy(end, "ACK\nid:", 7)
            memcpy(end + 7, line + 4, valueByteCount)
            memcpy(end + 7 + valueByteCount, "\n\n\0", 3)
            end += 7 + valueByteCount + 3
        }
        return end
    }

    private func turn() {
        let step: UInt64 = 1000
        now += step
        worker.turn(now: now, wallMilliseconds: Self.wallMilliseconds)
        if worker.shard.pointee.hasNotices { _ = worker.shard.pointee.takeNotices() }
    }

    /// - Parameter withFiles: file operations are carried out, and the next turn hears that they are: what it has appended is
    ///   on stable storage.
    private func turn(withFiles: Bool) {
        turn()
        guard withFiles else { return }
        for place in 0..<worker.shard.pointee.submissions.count {
            let submission = worker.shard.pointee.submissions[place]
            let answer: Completion.Kind
            var value: Int32 = 0
            switch submission.kind {
            case .openDirectory, .createFile, .openFile: answer = .fileOpened
            case .appendFile, .appendFileDurably:
                answer = .fileAppended
                value = submission.value
            case .allocateFile:
                answer = .fileAllocated
                value = submission.value
            case .syncFile: answer = .fileSynced
            case .deleteFile: answer = .fileDeleted
            case .renameFile: answer = .fileRenamed
            case .closeFile: answer = .fileClosed
            default: continue
            }
            worker.completions.pointee.append(
                Completion(
                    answer, connection: submission.connection, value: value, pointer: submission.pointer,
                    address: UInt64(bitPattern: Int64(submission.byteCount))))
        }
    }

    /// A connection that has sent `bytes`.
    private func connect(_ bytes: UnsafeMutableRawBufferPointer) -> Slot {
        nextDescriptor = nextDescriptor == .max ? 10 : nextDescriptor + 1
        worker.completions.pointee.append(Completion(.accepted, value: nextDescriptor))
        turn()
        guard let connection = worker.adoptedConnection else { fatalError("a newcomer is adopted") }
        worker.receive(UnsafeRawBufferPointer(bytes), on: connection)
        turn()
        return connection
    }

    /// Lives as long as the process.
    private static func bytes(_ text: String) -> UnsafeMutableRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count, alignment: 64)
        bytes.copyBytes(from: text.utf8)
        return bytes
    }
}
