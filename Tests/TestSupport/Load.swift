import Glibc

/// Many publishers and subscribers in one thread, with a check of every message. It takes little CPU compared with the
/// broker, also in a debug build.
///
/// Each message is a SEND whose body is 13 bytes, the publisher's index and its message's number:
///
/// 0042 00001234
public struct Load: Sendable {
    public enum Kind: String, Sendable {
        /// Each subscriber gets each message of its topic, each publisher's in their order.
        case topic
        /// Each message of a queue goes to one of its subscribers; each gets those of one publisher in their order.
        case queue
    }

    public var kind: Kind
    public var publisherCount: Int
    public var subscriberCount: Int
    /// Publisher and subscriber `n` use destination `n` modulo this; both counts are multiples of it.
    public var destinationCount: Int
    public var messagesPerPublisher: Int

    public init(
        _ kind: Kind, publishers: Int, subscribers: Int, destinations: Int, messagesPerPublisher: Int
    ) {
        precondition(publishers % destinations == 0 && subscribers % destinations == 0)
        precondition(publishers < 10_000 && messagesPerPublisher < 100_000_000)
        self.kind = kind
        publisherCount = publishers
        subscriberCount = subscribers
        destinationCount = destinations
        self.messagesPerPublisher = messagesPerPublisher
    }

    /// The total number of expected deliveries.
    public var deliveryCount: Int {
        let sent = publisherCount * messagesPerPublisher
        return kind == .topic ? sent * (subscriberCount / destinationCount) : sent
    }

    /// Runs the load to its end. Throws at the first message that is lost, doubled or out of order, and when nothing
    /// moves for `Deadline.defaultSeconds`.
    public func run(on broker: BrokerProcess) throws {
        let run = try LoadRun(self, broker)
        try run.subscribe()
        try run.publish()
    }
}

/// One connection of a load.
private final class LoadConnection {
    let descriptor: Int32
    let index: Int
    /// Received bytes that are not taken yet.
    private var input = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 1)
    private var inputEnd = 0
    /// The bytes that wait to be sent.
    private var output: [UInt8] = []
    private var outputStart = 0

    init(_ descriptor: Int32, index: Int) {
        self.descriptor = descriptor
        self.index = index
    }

    deinit {
        close(descriptor)
        input.deallocate()
    }

    /// Receives what is there and hands each whole frame, without its NUL, to `take`. False at the end of the
    /// connection.
    func receive(_ take: (UnsafeRawBufferPointer) throws -> Void) throws -> Bool {
        while true {
            if inputEnd == input.count { grow() }
            let count = recv(descriptor, input.baseAddress! + inputEnd, input.count - inputEnd, 0)
            if count < 0 && errno == EAGAIN { return true }
            if count <= 0 { return false }
            inputEnd += count
            try takeFrames(take)
        }
    }

    private func takeFrames(_ take: (UnsafeRawBufferPointer) throws -> Void) throws {
        let base = input.baseAddress!
        var start = 0
        while start < inputEnd, let nul = memchr(base + start, 0, inputEnd - start) {
            while (base + start).load(as: UInt8.self) == FrameDecoder.lineFeed { start += 1 }
            let end = UnsafeRawPointer(nul) - UnsafeRawPointer(base)
            try take(UnsafeRawBufferPointer(start: base + start, count: end - start))
            start = end + 1
        }
        memmove(base, base + start, inputEnd - start)
        inputEnd -= start
    }

    private func grow() {
        let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: input.count * 2, alignment: 1)
        larger.copyMemory(from: UnsafeRawBufferPointer(input))
        input.deallocate()
        input = larger
    }

    /// Appends bytes to be sent.
    func enqueue(_ bytes: some Sequence<UInt8>) { output.append(contentsOf: bytes) }

    var hasOutput: Bool { outputStart < output.count }

    /// Sends as much as the socket takes. False at the end of the connection.
    func send() -> Bool {
        while hasOutput {
            let count = output.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + outputStart, $0.count - outputStart, Int32(MSG_NOSIGNAL))
            }
            if count < 0 { return errno == EAGAIN }
            outputStart += count
        }
        output.removeAll(keepingCapacity: true)
        outputStart = 0
        return true
    }
}

/// A load under way.
private final class LoadRun {
    private let load: Load
    private var connections: [LoadConnection] = []
    /// Entry `n` is for connection `n`.
    private var entries: [pollfd] = []
    private let destinations: [String]
    private let broker: BrokerProcess
    private var readySubscriberCount = 0
    private var deliveredCount = 0
    private var finishedPublisherCount = 0
    /// Topic: for each subscriber and publisher the number of the next message. Queue: the number of the last message
    /// plus 1.
    private let next: UnsafeMutablePointer<Int32>
    /// Queue: for each message whether it arrived.
    private let came: UnsafeMutablePointer<Bool>

    private static let bodyByteCount = 13

    init(_ load: Load, _ broker: BrokerProcess) throws {
        self.load = load
        self.broker = broker
        destinations = (0..<load.destinationCount).map { _ in unique("/\(load.kind.rawValue)/load") }
        let nextCount = load.subscriberCount * load.publisherCount
        next = .allocate(capacity: nextCount)
        next.initialize(repeating: 0, count: nextCount)
        let messageCount = load.kind == .queue ? load.publisherCount * load.messagesPerPublisher : 0
        came = .allocate(capacity: messageCount)
        came.initialize(repeating: false, count: messageCount)
    }

    deinit {
        next.deallocate()
        came.deallocate()
    }

    /// Opens the subscribers' sessions and waits until each has the RECEIPT of its subscription.
    func subscribe() throws {
        for index in 0..<load.subscriberCount {
            let destination = destinations[index % load.destinationCount]
            try open(index).enqueue(
                "CONNECT\naccept-version:1.2\nhost:x\nlogin:guest\npasscode:guest\n\n\0SUBSCRIBE\nid:0\ndestination:\(destination)\nreceipt:s\n\n\0"
                    .utf8)
        }
        try turn { readySubscriberCount == load.subscriberCount }
    }

    /// Opens the publishers' sessions, sends everything and waits until everything has come.
    func publish() throws {
        for index in 0..<load.publisherCount {
            try open(load.subscriberCount + index).enqueue(
                "CONNECT\naccept-version:1.2\nhost:x\nlogin:guest\npasscode:guest\n\n\0".utf8)
        }
        var sentCounts = [Int](repeating: 0, count: load.publisherCount)
        try turn {
            for index in 0..<load.publisherCount where sentCounts[index] < load.messagesPerPublisher {
                let connection = connections[load.subscriberCount + index]
                guard !connection.hasOutput else { continue }
                let count = min(64, load.messagesPerPublisher - sentCounts[index])
                for number in sentCounts[index]..<(sentCounts[index] + count) {
                    connection.enqueue(frame(publisher: index, number: number).utf8)
                }
                sentCounts[index] += count
                guard connection.send() else { throw failure("publisher \(index) was cut") }
            }
            return deliveredCount == load.deliveryCount && finishedPublisherCount == load.publisherCount
        }
    }

    private func frame(publisher: Int, number: Int) -> String {
        let receipt = number == load.messagesPerPublisher - 1 ? "receipt:end\n" : ""
        let body = "\(padded(publisher, 4)) \(padded(number, 8))"
        return "SEND\ndestination:\(destinations[publisher % load.destinationCount])\n\(receipt)\n\(body)\0"
    }

    private func padded(_ number: Int, _ count: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: count - digits.count) + digits
    }

    private func open(_ index: Int) throws -> LoadConnection {
        let connection = LoadConnection(try Connection.open(port: broker.port), index: index)
        connections.append(connection)
        entries.append(pollfd(fd: connection.descriptor, events: Int16(POLLIN), revents: 0))
        return connection
    }

    /// Moves bytes until `isDone`, which is asked after each batch of events.
    private func turn(until isDone: () throws -> Bool) throws {
        var deadline = Deadline()
        var progress = -1
        while try !isDone() {
            for connection in connections {
                entries[connection.index].events = Int16(connection.hasOutput ? POLLIN | POLLOUT : POLLIN)
            }
            poll(&entries, nfds_t(entries.count), deadline.millisecondsLeft)
            for connection in connections where entries[connection.index].revents != 0 {
                guard connection.send() else { throw failure("connection \(connection.index) was cut") }
                guard try connection.receive({ try take($0, connection.index) }) else {
                    throw failure("connection \(connection.index) was ended")
                }
            }
            let now = deliveredCount + readySubscriberCount + finishedPublisherCount
            if now != progress {
                progress = now
                deadline = Deadline()
            } else if deadline.isOver {
                throw failure("nothing moves")
            }
        }
    }

    private func take(_ frame: UnsafeRawBufferPointer, _ index: Int) throws {
        switch frame[0] {
        case UInt8(ascii: "M"): try takeMessage(frame, subscriber: index)
        case UInt8(ascii: "R"):
            if index < load.subscriberCount { readySubscriberCount += 1 } else { finishedPublisherCount += 1 }
        case UInt8(ascii: "C"): break
        default: throw failure("connection \(index) got \(String(decoding: frame, as: UTF8.self))")
        }
    }

    private func takeMessage(_ frame: UnsafeRawBufferPointer, subscriber: Int) throws {
        let body = frame.baseAddress! + (frame.count - Self.bodyByteCount)
        let publisher = decimal(body, 4)
        let number = decimal(body + 5, 8)
        guard publisher < load.publisherCount, publisher % load.destinationCount == subscriber % load.destinationCount,
            number < load.messagesPerPublisher
        else { throw failure("subscriber \(subscriber) got \(String(decoding: frame, as: UTF8.self))") }
        let slot = next + (subscriber * load.publisherCount + publisher)
        switch load.kind {
        case .topic:
            guard number == slot.pointee else {
                throw failure(
                    "subscriber \(subscriber): \(number) of publisher \(publisher) instead of \(slot.pointee)")
            }
        case .queue:
            guard number >= slot.pointee else {
                throw failure(
                    "subscriber \(subscriber): \(number) of publisher \(publisher) behind \(slot.pointee - 1)")
            }
            let message = came + (publisher * load.messagesPerPublisher + number)
            guard !message.pointee else { throw failure("\(number) of publisher \(publisher) came twice") }
            message.pointee = true
        }
        slot.pointee = Int32(number + 1)
        deliveredCount += 1
    }

    private func decimal(_ start: UnsafeRawPointer, _ count: Int) -> Int {
        var value = 0
        for offset in 0..<count {
            value = value &* 10 &+ Int((start + offset).load(as: UInt8.self) &- UInt8(ascii: "0"))
        }
        return value
    }

    private func failure(_ message: String) -> Failure {
        let log = broker.process.errorLines.suffix(10).joined(separator: "\n")
        return Failure(
            "\(message); \(deliveredCount) of \(load.deliveryCount) delivered; the broker's last lines:\n\(log)",
            at: Place(#fileID, #line))
    }
}
