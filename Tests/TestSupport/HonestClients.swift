import Glibc

/// Well-behaved clients beside bad ones: a publisher, a subscriber of a topic, and a consumer of a queue that
/// acknowledges each message. They check that each message arrives once, in order and undamaged, and that no connection
/// ends.
public final class HonestClients {
    private let client: LoadClient
    private let topic = unique("/topic/honest")
    private let queue = unique("/queue/honest")
    private var publisher = 0
    private var subscriber = 0
    private var consumer = 0
    private var readyCount = 0
    private var sentCount = 0
    private var topicCount = 0
    private var queueCount = 0
    private static let padding = String(repeating: "honest ", count: 20)

    /// Connects and subscribes. On return the broker has confirmed all subscriptions.
    public init(_ broker: BrokerProcess) throws {
        client = LoadClient(port: broker.port)
        publisher = try client.open()
        subscriber = try client.open()
        consumer = try client.open()
        client.enqueue("SUBSCRIBE\nid:t\ndestination:\(topic)\nreceipt:s\n\n\0", on: subscriber)
        client.enqueue("SUBSCRIBE\nid:q\ndestination:\(queue)\nack:client-individual\nreceipt:s\n\n\0", on: consumer)
        try run { self.readyCount == 2 }
    }

    /// Sends `count` messages to the topic and to the queue, and waits until all have arrived.
    public func exchange(_ count: Int) throws {
        let last = sentCount + count
        while sentCount < last {
            let body = "\(sentCount) \(Self.padding)"
            for destination in [topic, queue] {
                client.enqueue("SEND\ndestination:\(destination)\n\n\(body)\0", on: publisher)
            }
            sentCount += 1
        }
        try run { self.topicCount == last && self.queueCount == last }
    }

    private func run(until isDone: () -> Bool) throws {
        try client.run(until: isDone) { try take($0, $1) }
    }

    private func take(_ connection: Int, _ frame: LoadFrame) throws {
        switch frame.kind {
        case .connected: break
        case .receipt: readyCount += 1
        case .error: throw Failure("an honest client got \(frame.text)", at: Place(#fileID, #line))
        case .message:
            let isTopic = connection == subscriber
            let expected = "\(isTopic ? topicCount : queueCount) \(Self.padding)"
            guard String(decoding: frame.body, as: UTF8.self) == expected else {
                throw Failure("expected \(expected), got \(frame.text)", at: Place(#fileID, #line))
            }
            if isTopic {
                topicCount += 1
            } else {
                queueCount += 1
                guard let id = frame.header("ack") else { throw Failure("no ack", at: Place(#fileID, #line)) }
                client.enqueue("ACK\nid:\(String(decoding: id, as: UTF8.self))\n\n\0", on: consumer)
            }
        }
    }
}
