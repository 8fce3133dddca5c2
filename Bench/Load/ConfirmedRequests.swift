/// The prepared requests of publishers whose messages are confirmed one by one. A message is
///
/// ```
/// | before | the sequence in decimal digits, if it is numbered | after | body | tail |
/// ```
struct ConfirmedRequests: Sendable {
    /// For each publisher.
    let before: [Text]
    /// Whether the confirmation names the message. beanstalkd confirms in order.
    let isNumbered: Bool
    /// For each destination.
    let after: [Text]
    let tail: Text
    /// For each publisher: what it says before its first message.
    let listen: [Text]
    static let digitCountMax = 20

    init(_ plan: Plan) {
        let names = (0..<plan.destinationCount).map(plan.destinationName)
        let publishers = 0..<plan.publisherCount
        switch plan.dialect {
        case .stomp, .mqtt, .resp:
            let start = Text("SEND\nreceipt:")
            let nothing = Text("")
            before = publishers.map { _ in start }
            isNumbered = true
            after = names.map { Text("\n" + Self.head(plan, $0)) }
            tail = Text("\0")
            listen = publishers.map { _ in nothing }
        case .nats:
            before = publishers.map {
                Text("PUB \(names[$0 / plan.publishersPerDestination]) \(JetStream.inbox(plan.tag, $0))")
            }
            isNumbered = true
            after = names.map { _ in Text(" \(plan.bodyByteCount)\r\n") }
            tail = Text("\r\n")
            listen = publishers.map { Text("SUB \(JetStream.inbox(plan.tag, $0))* 1\r\n") }
        case .beanstalk:
            let start = Text(BeanstalkLine.putHead(bodyByteCount: plan.bodyByteCount))
            let nothing = Text("")
            before = publishers.map { _ in start }
            isNumbered = false
            after = names.map { _ in nothing }
            tail = Text("\r\n")
            listen = publishers.map { Text(BeanstalkLine.use(names[$0 / plan.publishersPerDestination])) }
        }
    }

    /// The head of a SEND behind its first line.
    static func head(_ plan: Plan, _ destination: String) -> String {
        "destination:\(destination)\n\(plan.isPersistent ? "persistent:true\n" : "")"
            + "content-length:\(plan.bodyByteCount)\n\n"
    }
}
