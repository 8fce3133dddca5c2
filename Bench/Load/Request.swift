import ClientWebSocket
import Glibc

/// Bytes that are prepared once and sent many times.
struct Text: @unchecked Sendable {
    let base: UnsafeRawPointer
    let byteCount: Int

    /// It is never freed. There are only a few for each destination.
    init(_ source: some Collection<UInt8>) {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: max(source.count, 1), alignment: 1)
        bytes.copyBytes(from: source)
        base = UnsafeRawPointer(bytes.baseAddress!)
        byteCount = source.count
    }

    init(_ string: String) { self.init(string.utf8) }
}

/// The prepared requests of the clients of a plan.
struct Requests: Sendable {
    let connect: Text
    let subscribe: [Text]
    /// The bytes before a body, for each destination.
    let sendHead: [Text]
    /// The bytes after a body.
    let sendTail: Text
    let heartBeat = Text("\n")
    let pong = Text("PONG\r\n")
    /// For protocols without receipts: a request whose answer shows the progress of the server.
    let ping: Text
    /// The bytes before and after the identifier of an acknowledged message.
    let acknowledgementStart: Text
    let acknowledgementEnd: Text
    /// nil: messages are not confirmed one by one.
    let confirmed: ConfirmedRequests?

    /// In STOMP, a SEND with a receipt consists of `receiptStart`, the id of the receipt, a line feed, and the head
    /// without its command.
    static let receiptStart = Text("SEND\nreceipt:")
    static let sendCommandByteCount = 5

    /// With WebSocket: the handshake of every client. They share a key, which only tells that the server answers it.
    let handshake: WebSocketHandshake
    let upgrade: Text

    init(_ plan: Plan, credentials: Load.Credentials = Load.Credentials(), webSocketPath: String = "/") {
        handshake = WebSocketHandshake(host: "localhost", path: webSocketPath, subprotocols: ["v12.stomp"])
        upgrade = Text(handshake.request)
        let names = (0..<Self.destinationCount(plan)).map(plan.destinationName)
        (acknowledgementStart, acknowledgementEnd) = Self.acknowledgement(plan.dialect)
        confirmed = plan.isConfirmed ? ConfirmedRequests(plan) : nil
        switch plan.dialect {
        case .stomp:
            let interval = plan.heartBeatMilliseconds
            connect = Text(
                "CONNECT\naccept-version:1.2\nhost:localhost\nlogin:\(credentials.login)\n"
                    + "passcode:\(credentials.passcode)\nheart-beat:\(interval),\(interval)\n\n\0")
            let mode = plan.acknowledgement.rawValue
            subscribe = names.map { Text("SUBSCRIBE\nid:1\ndestination:\($0)\nack:\(mode)\nreceipt:s\n\n\0") }
            sendHead = names.map { Text("SEND\n\(ConfirmedRequests.head(plan, $0))") }
            sendTail = Text("\0")
            ping = heartBeat
        case .nats:
            connect = Text("CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")
            let group = plan.delivery == .queue ? "workers " : ""
            subscribe = names.map {
                Text("SUB \(plan.isConfirmed ? JetStream.deliverySubject($0) : $0) \(group)1\r\nPING\r\n")
            }
            sendHead = names.map { Text("PUB \($0) \(plan.bodyByteCount)\r\n") }
            sendTail = Text("\r\n")
            ping = Text("PING\r\n")
        case .mqtt:
            connect = Text(MQTTPacket.connect)
            let group = plan.delivery == .queue ? "$share/workers/" : ""
            subscribe = names.map { Text(MQTTPacket.subscribe(to: group + $0)) }
            sendHead = names.map { Text(MQTTPacket.publishHead(to: $0, bodyByteCount: plan.bodyByteCount)) }
            sendTail = Text("")
            ping = Text(MQTTPacket.ping)
        case .beanstalk:
            connect = Text(BeanstalkLine.use(names[0]))
            subscribe = names.map { Text(BeanstalkLine.watch($0)) }
            sendHead = names.map { _ in Text(BeanstalkLine.putHead(bodyByteCount: plan.bodyByteCount)) }
            sendTail = Text("\r\n")
            ping = Text("")
        case .resp:
            connect = Text(RESPValue.connect)
            subscribe = names.map { Text(RESPValue.subscribe(to: $0)) }
            sendHead = names.map { Text(RESPValue.publishHead(to: $0, bodyByteCount: plan.bodyByteCount)) }
            sendTail = Text("\r\n")
            ping = Text(RESPValue.ping)
        }
    }

    private static func acknowledgement(_ dialect: Plan.Dialect) -> (start: Text, end: Text) {
        switch dialect {
        case .beanstalk: (Text(BeanstalkLine.deleteStart), Text(BeanstalkLine.deleteEnd))
        case .nats: (Text(JetStream.acknowledgementStart), Text(JetStream.acknowledgementEnd))
        case .stomp, .mqtt, .resp: (Text("ACK\nid:"), Text("\n\n\0"))
        }
    }

    /// With replies: index 0 for the requests, then one for each requester.
    private static func destinationCount(_ plan: Plan) -> Int {
        plan.delivery == .reply ? 1 + plan.publisherCount : plan.destinationCount
    }
}
