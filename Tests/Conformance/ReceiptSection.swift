import TestSupport
import Testing

/// STOMP 1.2, section "RECEIPT", and "Header receipt" of "Standard Headers".
@Suite("RECEIPT")
struct ReceiptSection {
    /// "Any client frame other than CONNECT MAY specify a receipt header with an arbitrary value."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Every frame but CONNECT gets the RECEIPT it asks for`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let queue = unique("/queue/receipt")
        let client = try driver.client(version)
        func request(_ command: String, _ headers: KeyValuePairs<String, String>) throws {
            try client.perform(command, headers)
        }
        try request("SUBSCRIBE", ["id": "0", "destination": queue, "ack": "client-individual"])
        try request("SEND", ["destination": queue])
        let message = try client.expectMessage("")
        try request("NACK", client.acknowledgement(of: message))
        try request("ACK", client.acknowledgement(of: client.expectMessage("")))
        try request("BEGIN", ["transaction": "a"])
        try request("COMMIT", ["transaction": "a"])
        try request("BEGIN", ["transaction": "a"])
        try request("ABORT", ["transaction": "a"])
        try request("UNSUBSCRIBE", ["id": "0"])
        try request("DISCONNECT", [:])
    }

    /// "the value is the value of the receipt header in the frame which this is a receipt for"
    @Test(
        arguments: drivers,
        ["1", "", "message-12345", "a b", "日本", "a:b", "a\\b", "a\nb", String(repeating: "x", count: 1000)])
    func `receipt-id is the value of receipt`(on driver: DriverUnderTest, _ value: String) throws {
        let client = try driver.client()
        try client.send("BEGIN", ["transaction": "t", "receipt": value])
        try client.expectReceipt(value)
    }

    /// 1.0 and 1.1: "The receipt body will be empty."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A RECEIPT has no body and no other header of importance`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.send("BEGIN", ["transaction": "t", "receipt": "r"])
        let receipt = try client.expect("RECEIPT", ["receipt-id": "r"])
        #expect(receipt.body.isEmpty)
        #expect(receipt.headers.map(\.name).allSatisfy { ["receipt-id", "content-length"].contains($0) })
    }

    @Test(arguments: drivers)
    func `A frame that asks for none gets no RECEIPT`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/topic/a\n\n\0COMMIT\ntransaction:t\n\n\0")
        try client.expectNothing()
    }

    /// "Since STOMP is stream based, the receipt is also a cumulative acknowledgment that all the previous frames have
    /// been received by the server."
    @Test(arguments: drivers)
    func `RECEIPTs come in the order of their frames`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/receipt")
        try client.send((0..<500).map { "SEND\ndestination:\(topic)\nreceipt:\($0)\n\nbody\0" }.joined())
        for index in 0..<500 { try client.expectReceipt("\(index)") }
    }

    /// Receipts need not be different; each frame gets its own.
    @Test(arguments: drivers)
    func `The same receipt value twice gets two RECEIPTs`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("BEGIN\ntransaction:t\nreceipt:same\n\n\0COMMIT\ntransaction:t\nreceipt:same\n\n\0")
        try client.expectReceipt("same")
        try client.expectReceipt("same")
        try client.expectNothing()
    }

    /// "A RECEIPT frame is an acknowledgment that the corresponding client frame has been processed by the server."
    @Test(arguments: drivers)
    func `With its RECEIPT a SEND is in the queue`(on driver: DriverUnderTest) throws {
        for _ in 0..<20 {
            let queue = unique("/queue/receipt")
            try driver.client().publish(to: queue, "hello")
            let reader = try driver.client()
            try reader.subscribe(to: queue)
            try reader.expectMessage("hello")
        }
    }

    /// Guarantee: a RECEIPT to SUBSCRIBE means that every message sent from then on reaches the subscription.
    @Test(arguments: drivers)
    func `With its RECEIPT a SUBSCRIBE is in force`(on driver: DriverUnderTest) throws {
        let publisher = try driver.client()
        for _ in 0..<20 {
            let topic = unique("/topic/receipt")
            let reader = try driver.client()
            try reader.subscribe(to: topic)
            try publisher.publish(to: topic, "hello")
            try reader.expectMessage("hello")
        }
    }

    /// "If the client disconnects, previously received frames SHOULD continue to get processed by the server."
    @Test(arguments: drivers)
    func `Frames of a client that left are processed`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/receipt")
        let client = try driver.client()
        for index in 0..<100 { try client.send("SEND", ["destination": queue], body: "\(index)") }
        client.finishSending()
        client.close()
        let reader = try driver.client()
        try reader.subscribe(to: queue)
        for index in 0..<100 { try reader.expectMessage("\(index)") }
    }
}
