extension RawClient {
    /// Opens the session; the CONNECTED frame.
    @discardableResult
    public func connect(
        _ version: ProtocolVersion, _ headers: KeyValuePairs<String, String> = [:],
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> Frame {
        var all: [(key: String, value: String)] = []
        if version > .v1_0 { all += [("accept-version", version.rawValue), ("host", "localhost")] }
        all += Array(headers)
        try send(encoded("CONNECT", all, []))
        return try expectConnected(version, fileID, line)
    }

    /// The next frame is CONNECTED, with `version`; the client speaks that version from now on.
    @discardableResult
    public func expectConnected(
        _ version: ProtocolVersion, _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> Frame {
        let frame = try expect("CONNECTED", ["version": version.rawValue], fileID, line)
        self.version = version
        return frame
    }

    /// The next frame has this command and (at least) these headers.
    @discardableResult
    public func expect(
        _ command: String, _ headers: KeyValuePairs<String, String> = [:], body: String? = nil,
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> Frame {
        let frame = try nextFrame(fileID, line)
        guard frame.command == command else {
            throw Failure("expected \(command), got:\n\(frame)", at: Place(fileID, line))
        }
        for (name, value) in headers where frame[name] != value {
            throw Failure("expected \(name):\(value) in:\n\(frame)", at: Place(fileID, line))
        }
        if let body, frame.body != Array(body.utf8) {
            throw Failure("expected the body \(body) in:\n\(frame)", at: Place(fileID, line))
        }
        return frame
    }

    @discardableResult
    public func expectMessage(
        _ body: String? = nil, _ headers: KeyValuePairs<String, String> = [:],
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> Frame {
        try expect("MESSAGE", headers, body: body, fileID, line)
    }

    public func expectReceipt(_ id: String, _ fileID: String = #fileID, _ line: Int = #line) throws {
        try expect("RECEIPT", ["receipt-id": id], fileID, line)
    }

    /// The next frame is an ERROR whose `message` or body contains one of `texts` (any, where none is given), and
    /// behind it the connection ends in order.
    @discardableResult
    public func expectError(
        _ texts: String..., receipt: String? = nil, _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> Frame {
        let frame = try expect("ERROR", [:], fileID, line)
        let shown = ((frame["message"] ?? "") + "\n" + frame.text).lowercased()
        guard texts.isEmpty || texts.contains(where: { shown.contains($0.lowercased()) }) else {
            throw Failure("expected an ERROR about \(texts), got:\n\(frame)", at: Place(fileID, line))
        }
        if let receipt, frame["receipt-id"] != receipt {
            throw Failure("expected receipt-id:\(receipt) in:\n\(frame)", at: Place(fileID, line))
        }
        try expectClose(fileID, line)
        return frame
    }

    /// The broker ends the connection in order, with nothing more said.
    public func expectClose(_ fileID: String = #fileID, _ line: Int = #line) throws {
        if let frame = try nextFrameOrEnd(fileID, line) {
            throw Failure("expected the end of the connection, got:\n\(frame)", at: Place(fileID, line))
        }
    }

    /// The broker ends the connection, in order or not, whatever it says before.
    public func expectCut(_ fileID: String = #fileID, _ line: Int = #line) throws {
        let deadline = Deadline()
        while connection.end == nil {
            connection.consume(connection.received.count)
            guard try connection.receive(until: deadline) else {
                throw Failure("the connection was not closed", at: Place(fileID, line))
            }
        }
    }

    /// Nothing waits for this client: a round trip brings its RECEIPT and nothing before.
    public func expectNothing(_ fileID: String = #fileID, _ line: Int = #line) throws {
        receiptCount += 1
        let transaction = "round trip \(receiptCount)"
        try send("BEGIN", ["transaction": transaction])
        try send("ABORT", ["transaction": transaction, "receipt": transaction])
        let frame = try nextFrame(fileID, line)
        guard frame.command == "RECEIPT", frame["receipt-id"] == transaction else {
            throw Failure("expected nothing, got:\n\(frame)", at: Place(fileID, line))
        }
    }
}
