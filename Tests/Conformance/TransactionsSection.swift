import TestSupport
import Testing

/// STOMP 1.2, sections "BEGIN", "COMMIT" and "ABORT".
@Suite("BEGIN, COMMIT, ABORT")
struct TransactionsSection {
    /// "The transaction header is REQUIRED".
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["BEGIN", "COMMIT", "ABORT"]))
    func `A transaction frame without its header is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let client = try driver.client(example.version)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.sendFaulty("\(example.command)\nid:t\nreceipt:1\n\n\0")
        try client.expectError("transaction", receipt: "1")
    }

    /// "Within the same connection, different transactions MUST use different transaction identifiers."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `BEGIN of an open transaction is an ERROR`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.sendFaulty("BEGIN\ntransaction:t\nreceipt:1\n\n\0")
        try client.expectError("transaction", receipt: "1")
    }

    /// "MUST specify the identifier of the transaction to commit" / "to abort".
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["COMMIT", "ABORT"]))
    func `The end of an unknown transaction is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let client = try driver.client(example.version)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.sendFaulty("\(example.command)\ntransaction:other\nreceipt:1\n\n\0")
        try client.expectError("transaction", receipt: "1")
    }

    @Test(arguments: drivers, pairs(["COMMIT", "ABORT"], ["COMMIT", "ABORT"]))
    func `A transaction ends once`(on driver: DriverUnderTest, _ commands: (String, String)) throws {
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform(commands.0, ["transaction": "t"])
        try client.sendFaulty("\(commands.1)\ntransaction:t\nreceipt:1\n\n\0")
        try client.expectError("transaction", receipt: "1")
    }

    @Test(arguments: drivers, ["COMMIT", "ABORT"])
    func `An identifier may be used again once its transaction ended`(
        on driver: DriverUnderTest, _ command: String
    ) throws {
        let client = try driver.client()
        for _ in 0..<50 {
            try client.perform("BEGIN", ["transaction": "t"])
            try client.perform(command, ["transaction": "t"])
        }
    }

    @Test(arguments: drivers)
    func `Identifiers belong to their connection`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/transactions")
        let clients = [try driver.client(), try driver.client()]
        for (index, client) in clients.enumerated() {
            try client.perform("BEGIN", ["transaction": "t"])
            try client.perform("SEND", ["destination": queue, "transaction": "t"], body: "\(index)")
        }
        try clients[0].perform("ABORT", ["transaction": "t"])
        try clients[1].perform("COMMIT", ["transaction": "t"])
        try clients[0].subscribe(to: queue)
        try clients[0].expectMessage("1")
        try clients[0].expectNothing()
    }

    @Test(arguments: drivers, ["t 1", " ", "日本", "a:b", "\\"])
    func `An identifier is any text`(on driver: DriverUnderTest, _ id: String) throws {
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": id])
        try client.perform("COMMIT", ["transaction": id])
    }

    // MARK: SEND

    /// "any messages sent or acknowledged during a transaction will be processed atomically based on the transaction"
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["/queue/transactions", "/topic/transactions"]))
    func `Messages of a transaction come when it is committed, in order`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, prefix: String)
    ) throws {
        let destination = unique(example.prefix)
        let subscriber = try driver.client(example.version)
        try subscriber.subscribe(to: destination)
        let client = try driver.client(example.version)
        try client.perform("BEGIN", ["transaction": "t"])
        for body in ["1", "2", "3"] {
            try client.perform("SEND", ["destination": destination, "transaction": "t"], body: body)
        }
        try subscriber.expectNothing()
        try client.perform("COMMIT", ["transaction": "t"])
        for body in ["1", "2", "3"] { try subscriber.expectMessage(body, ["destination": destination]) }
        try subscriber.expectNothing()
    }

    /// "ABORT is used to roll back a transaction in progress."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["/queue/transactions", "/topic/transactions"]))
    func `Messages of an aborted transaction never come`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, prefix: String)
    ) throws {
        let destination = unique(example.prefix)
        let subscriber = try driver.client(example.version)
        try subscriber.subscribe(to: destination)
        let client = try driver.client(example.version)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": destination, "transaction": "t"], body: "never")
        try client.perform("ABORT", ["transaction": "t"])
        try client.publish(to: destination, "outside")
        try subscriber.expectMessage("outside")
        try subscriber.expectNothing()
    }

    /// Frames without the header are not bound.
    @Test(arguments: drivers)
    func `What names no transaction is in none`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/transactions")
        try client.subscribe(to: topic)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.publish(to: topic, "outside")
        try client.expectMessage("outside")
    }

    @Test(arguments: drivers)
    func `Transactions of one connection do not mix`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let queue = unique("/queue/transactions")
        try client.subscribe(to: queue)
        for id in ["a", "b", "c"] { try client.perform("BEGIN", ["transaction": id]) }
        for (id, body) in [("a", "a1"), ("b", "b1"), ("c", "c1"), ("a", "a2"), ("c", "c2")] {
            try client.perform("SEND", ["destination": queue, "transaction": id], body: body)
        }
        try client.perform("COMMIT", ["transaction": "c"])
        try client.perform("ABORT", ["transaction": "b"])
        try client.perform("COMMIT", ["transaction": "a"])
        for body in ["c1", "c2", "a1", "a2"] { try client.expectMessage(body) }
        try client.expectNothing()
    }

    /// Also over several destinations and with bodies and headers of all kinds.
    @Test(arguments: drivers)
    func `A transaction keeps headers and bodies as they were sent`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/transactions")
        try client.subscribe(to: topic)
        try client.perform("BEGIN", ["transaction": "t"])
        let body = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
        try client.perform(
            "SEND",
            ["destination": topic, "transaction": "t", "content-length": "\(body.count)", "foo": "a:b\\c\n"], body: body
        )
        try client.perform("COMMIT", ["transaction": "t"])
        let message = try client.expectMessage(nil, ["foo": "a:b\\c\n"])
        #expect(message.body == body)
    }

    @Test(arguments: drivers)
    func `An empty transaction may be committed`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("COMMIT", ["transaction": "t"])
        try client.expectNothing()
    }

    /// The RECEIPT of a frame within a transaction does not wait for its end.
    @Test(arguments: drivers)
    func `A bound SEND has its RECEIPT at once`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("BEGIN", ["transaction": "t", "receipt": "1"])
        try client.send("SEND", ["destination": "/topic/a", "transaction": "t", "receipt": "2"], body: "x")
        try client.send("COMMIT", ["transaction": "t", "receipt": "3"])
        for id in ["1", "2", "3"] { try client.expectReceipt(id) }
    }

    /// A bad frame is refused when it comes, not when its transaction is committed; and its transaction goes with it.
    @Test(arguments: drivers)
    func `A refused SEND in a transaction aborts it`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/transactions")
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": queue, "transaction": "t"], body: "good")
        try client.send("SEND", ["destination": "/nowhere/a", "transaction": "t", "receipt": "1"], body: "bad")
        try client.expectError("destination", receipt: "1")
        let witness = try driver.client()
        try witness.subscribe(to: queue)
        try witness.expectNothing()
    }

    // MARK: The end of the connection

    /// "Any started transactions which have not been committed will be implicitly aborted if the client sends a
    /// DISCONNECT frame or if the TCP connection fails for any reason."
    @Test(arguments: drivers, ["DISCONNECT", "FIN", "RST", "ERROR"])
    func `The end of the connection aborts its transactions`(on driver: DriverUnderTest, _ end: String) throws {
        let queue = unique("/queue/transactions")
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": queue, "transaction": "t"], body: "never")
        switch end {
        case "DISCONNECT": try client.disconnect()
        case "FIN":
            client.finishSending()
            try client.expectClose()
        case "RST": client.abort()
        default:
            try client.send("FOO\n\n\0")
            try client.expectError()
        }
        let witness = try driver.client()
        try witness.publish(to: queue, "outside")
        try witness.subscribe(to: queue)
        try witness.expectMessage("outside")
        try witness.expectNothing()
    }

    // MARK: ACK and NACK

    /// A subscriber that holds the messages "1" to "3" of a queue and has begun the transaction "t".
    private func holder(
        _ driver: DriverUnderTest, _ version: ProtocolVersion = .v1_2, ack: String = "client-individual"
    ) throws -> (client: RawClient, messages: [Frame], queue: String) {
        let queue = unique("/queue/transactions")
        let client = try driver.client(version)
        try client.subscribe(to: queue, ack: ack)
        try client.publish(to: queue, "1", "2", "3")
        let messages = try (1...3).map { try client.expectMessage("\($0)") }
        try client.perform("BEGIN", ["transaction": "t"])
        return (client, messages, queue)
    }

    private func perform(_ command: String, _ message: Frame, in transaction: String, _ client: RawClient) throws {
        let name = client.acknowledgement(of: message)
        if name.count == 2 {
            try client.perform(
                command, [name[0].key: name[0].value, name[1].key: name[1].value, "transaction": transaction])
        } else {
            try client.perform(command, [name[0].key: name[0].value, "transaction": transaction])
        }
    }

    private func expectLeft(_ bodies: [String], in queue: String, _ driver: DriverUnderTest) throws {
        let next = try driver.client()
        try next.subscribe(to: queue)
        for body in bodies { try next.expectMessage(body) }
        try next.expectNothing()
    }

    /// "Optionally, a transaction header MAY be specified, indicating that the message acknowledgment SHOULD be part of
    /// the named transaction."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `An ACK of a committed transaction counts`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let (client, messages, queue) = try holder(driver, version)
        try perform("ACK", messages[1], in: "t", client)
        try client.perform("COMMIT", ["transaction": "t"])
        try client.disconnect()
        try expectLeft(["1", "3"], in: queue, driver)
    }

    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `An ACK of an aborted transaction does not count`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let (client, messages, queue) = try holder(driver, version)
        try perform("ACK", messages[1], in: "t", client)
        try client.perform("ABORT", ["transaction": "t"])
        try client.disconnect()
        try expectLeft(["1", "2", "3"], in: queue, driver)
    }

    /// The message stays with its consumer, who may decide anew.
    @Test(arguments: drivers)
    func `After ABORT the message may be acknowledged again`(on driver: DriverUnderTest) throws {
        let (client, messages, queue) = try holder(driver)
        try perform("ACK", messages[0], in: "t", client)
        try client.perform("ABORT", ["transaction": "t"])
        try client.expectNothing()
        try client.acknowledge(messages[0])
        try client.disconnect()
        try expectLeft(["2", "3"], in: queue, driver)
    }

    /// DISCONNECT or a lost socket aborts, and messages acknowledged in the transaction return.
    @Test(arguments: drivers, [true, false])
    func `Messages acknowledged in an open transaction return when the connection ends`(
        on driver: DriverUnderTest, _ isOrderly: Bool
    ) throws {
        let (client, messages, queue) = try holder(driver)
        try perform("ACK", messages[0], in: "t", client)
        if isOrderly { try client.disconnect() } else { client.abort() }
        let next = try driver.client()
        try next.subscribe(to: queue, ack: "client-individual")
        for body in ["1", "2", "3"] { try next.acknowledge(next.expectMessage(body, ["redelivered": "true"])) }
    }

    @Test(arguments: drivers)
    func `A NACK of a committed transaction counts`(on driver: DriverUnderTest) throws {
        let (client, messages, _) = try holder(driver)
        try perform("NACK", messages[0], in: "t", client)
        try client.expectNothing()
        try client.perform("COMMIT", ["transaction": "t"])
        try client.expectMessage("1", ["redelivered": "true"])
    }

    @Test(arguments: drivers)
    func `A NACK of an aborted transaction does not count`(on driver: DriverUnderTest) throws {
        let (client, messages, _) = try holder(driver)
        try perform("NACK", messages[0], in: "t", client)
        try client.perform("ABORT", ["transaction": "t"])
        try client.expectNothing()
        try client.acknowledge(messages[0])
    }

    @Test(arguments: drivers)
    func `A cumulative ACK of a transaction is cumulative at COMMIT`(on driver: DriverUnderTest) throws {
        let (client, messages, queue) = try holder(driver, ack: "client")
        try perform("ACK", messages[1], in: "t", client)
        try client.perform("COMMIT", ["transaction": "t"])
        try client.disconnect()
        try expectLeft(["3"], in: queue, driver)
    }

    @Test(arguments: drivers, ["ACK", "NACK"])
    func `An acknowledgement in an unknown transaction is an ERROR`(
        on driver: DriverUnderTest, _ command: String
    ) throws {
        let (client, messages, queue) = try holder(driver)
        let id = try #require(messages[0]["ack"])
        try client.send(command, ["id": id, "transaction": "other", "receipt": "1"])
        try client.expectError("transaction", receipt: "1")
        try expectLeft(["1", "2", "3"], in: queue, driver)
    }

    /// Sending and acknowledging together: the consume-and-produce step of a pipeline.
    @Test(arguments: drivers, ["COMMIT", "ABORT"])
    func `SEND and ACK of a transaction share its fate`(on driver: DriverUnderTest, _ command: String) throws {
        let (client, messages, queue) = try holder(driver)
        let output = unique("/queue/transactions")
        try perform("ACK", messages[0], in: "t", client)
        try client.perform("SEND", ["destination": output, "transaction": "t"], body: "result")
        try client.perform(command, ["transaction": "t"])
        try client.disconnect()
        try expectLeft(command == "COMMIT" ? ["2", "3"] : ["1", "2", "3"], in: queue, driver)
        try expectLeft(command == "COMMIT" ? ["result"] : [], in: output, driver)
    }
}
