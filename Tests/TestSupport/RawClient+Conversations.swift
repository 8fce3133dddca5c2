extension RawClient {
    /// Sends a frame with a receipt and waits until it is processed. MESSAGEs that come meanwhile wait for `nextFrame`.
    public func perform(
        _ command: String, _ headers: KeyValuePairs<String, String> = [:], body: [UInt8] = [],
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws {
        receiptCount += 1
        let receipt = "receipt-\(receiptCount)"
        try send(encoded(command, Array(headers) + [("receipt", receipt)], body))
        while true {
            guard let frame = try readFrame(Place(fileID, line)) else {
                throw Failure("the connection ended instead of the receipt of \(command)", at: Place(fileID, line))
            }
            switch frame.command {
            case "RECEIPT" where frame["receipt-id"] == receipt: return
            case "MESSAGE": setAside.append(frame)
            default: throw Failure("expected the receipt of \(command), got:\n\(frame)", at: Place(fileID, line))
            }
        }
    }

    public func perform(
        _ command: String, _ headers: KeyValuePairs<String, String>, body: String,
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws {
        try perform(command, headers, body: Array(body.utf8), fileID, line)
    }

    /// Subscribes, and waits until the broker has done so.
    public func subscribe(
        to destination: String, id: String = "0", ack: String = "auto",
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws {
        try perform("SUBSCRIBE", ["destination": destination, "id": id, "ack": ack], fileID, line)
    }

    /// Sends messages, and waits until the broker has taken the last (and so all).
    public func publish(
        to destination: String, _ bodies: String..., fileID: String = #fileID, line: Int = #line
    ) throws {
        for body in bodies.dropLast() { try send("SEND", ["destination": destination], body: body) }
        try perform("SEND", ["destination": destination], body: bodies.last!, fileID, line)
    }

    /// The headers by which an ACK or NACK in this client's version names `message`.
    public func acknowledgement(of message: Frame) -> KeyValuePairs<String, String> {
        switch version {
        case .v1_0: ["message-id": message["message-id"] ?? ""]
        case .v1_1: ["message-id": message["message-id"] ?? "", "subscription": message["subscription"] ?? ""]
        case .v1_2: ["id": message["ack"] ?? ""]
        }
    }

    public func acknowledge(_ message: Frame, _ fileID: String = #fileID, _ line: Int = #line) throws {
        try perform("ACK", acknowledgement(of: message), fileID, line)
    }

    public func reject(_ message: Frame, _ fileID: String = #fileID, _ line: Int = #line) throws {
        try perform("NACK", acknowledgement(of: message), fileID, line)
    }

    /// Disconnects and waits for the broker to end the connection: all that the client did is done. Messages that were
    /// under way are ignored, as a client that leaves does.
    public func disconnect(_ fileID: String = #fileID, _ line: Int = #line) throws {
        try perform("DISCONNECT", [:], fileID, line)
        setAside.removeAll()
        try expectClose(fileID, line)
    }
}
