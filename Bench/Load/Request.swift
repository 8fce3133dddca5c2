import Glibc

/// Bytes that are prepared once and sent often.
struct Text: @unchecked Sendable {
    let base: UnsafeRawPointer
    let byteCount: Int

    /// Lives until the process ends: there are a few for each destination.
    init(_ string: String) {
        var string = string
        (base, byteCount) = string.withUTF8 { source in
            let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(source.count, 1), alignment: 1)
            if let start = source.baseAddress { bytes.copyMemory(from: start, byteCount: source.count) }
            return (UnsafeRawPointer(bytes), source.count)
        }
    }
}

/// What the clients of a plan say.
struct Requests: Sendable {
    let connect: Text
    let subscribe: [Text]
    /// What stands before a body, for each destination.
    let sendHead: [Text]
    /// What stands behind it.
    let sendTail: Text
    let heartBeat = Text("\n")
    let pong = Text("PONG\r\n")

    /// In STOMP, a SEND with a receipt is `receiptStart`, the receipt's id, a line feed, and the head without its command.
    static let receiptStart = Text("SEND\nreceipt:")
    static let sendCommandByteCount = 5

    init(_ plan: Plan) {
        let names = (0..<Self.destinationCount(plan)).map(plan.destinationName)
        switch plan.dialect {
        case .stomp:
            let interval = plan.heartBeatMilliseconds
            connect = Text(
                "CONNECT\naccept-version:1.2\nhost:localhost\nlogin:guest\npasscode:guest\n"
                    + "heart-beat:\(interval),\(interval)\n\n\0")
            let mode = plan.acknowledgement.rawValue
            subscribe = names.map { Text("SUBSCRIBE\nid:1\ndestination:\($0)\nack:\(mode)\nreceipt:s\n\n\0") }
            sendHead = names.map { Text("SEND\ndestination:\($0)\ncontent-length:\(plan.bodyByteCount)\n\n") }
            sendTail = Text("\0")
        case .nats:
            connect = Text("CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")
            let group = plan.delivery == .queue ? "workers " : ""
            subscribe = names.map { Text("SUB \($0) \(group)1\r\nPING\r\n") }
            sendHead = names.map { Text("PUB \($0) \(plan.bodyByteCount)\r\n") }
            sendTail = Text("\r\n")
        }
    }

    /// With replies: 0 for the requests, then one for each requester.
    private static func destinationCount(_ plan: Plan) -> Int {
        plan.delivery == .reply ? 1 + plan.publisherCount : plan.destinationCount
    }
}
