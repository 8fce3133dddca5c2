import TestSupport
import Testing

/// `/temp-queue/NAME` and `/temp-topic/NAME`: private to the connection, in both dialects that clients use.
@Suite("Temporary destinations")
struct TemporaryDestinations {
    /// A service that answers each request of a queue of its own.
    private func service(_ driver: DriverUnderTest, _ version: ProtocolVersion = .v1_2) throws -> (RawClient, String) {
        let queue = unique("/queue/service")
        let client = try driver.client(version)
        try client.subscribe(to: queue)
        return (client, queue)
    }

    // MARK: By an explicit SUBSCRIBE

    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["/temp-queue/a", "/temp-topic/a"]))
    func `A connection may use its own temporary destination`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, destination: String)
    ) throws {
        let client = try driver.client(example.version)
        try client.subscribe(to: example.destination, id: "mine")
        try client.publish(to: example.destination, "hello")
        try client.expectMessage("hello", ["subscription": "mine"])
    }

    @Test(arguments: drivers, ["/temp-queue/a", "/temp-topic/a"])
    func `The same name on another connection is another destination`(
        on driver: DriverUnderTest, _ destination: String
    ) throws {
        let clients = [try driver.client(), try driver.client()]
        for client in clients { try client.subscribe(to: destination) }
        try clients[0].publish(to: destination, "mine")
        try clients[0].expectMessage("mine")
        try clients[1].expectNothing()
    }

    /// The requester subscribes and names its queue in `reply-to`; the replier sends to what it reads there.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A reply reaches a temporary queue that was subscribed to`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let (service, queue) = try service(driver, version)
        let client = try driver.client(version)
        try client.subscribe(to: "/temp-queue/replies", id: "r")
        try client.send(
            "SEND", ["destination": queue, "reply-to": "/temp-queue/replies", "correlation-id": "7"], body: "ask")
        let request = try service.expectMessage("ask", ["correlation-id": "7"])
        let address = try #require(request["reply-to"])
        try service.send("SEND", ["destination": address, "correlation-id": "7"], body: "answer")
        try client.expectMessage("answer", ["correlation-id": "7", "subscription": "r"])
        try client.expectNothing()
    }

    // MARK: By reply-to alone

    /// `reply-to:/temp-queue/x` on SEND subscribes by itself, is rewritten to an address that works from any
    /// connection, and replies carry `subscription:/temp-queue/x`.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `reply-to subscribes by itself`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let (service, queue) = try service(driver, version)
        let client = try driver.client(version)
        try client.send(
            "SEND", ["destination": queue, "reply-to": "/temp-queue/x", "correlation-id": "7"], body: "ask")
        let request = try service.expectMessage("ask", ["correlation-id": "7"])
        let address = try #require(request["reply-to"])
        #expect(address.hasPrefix("/reply-queue/"))
        try service.send("SEND", ["destination": address, "correlation-id": "7"], body: "answer")
        try client.expectMessage("answer", ["subscription": "/temp-queue/x", "correlation-id": "7"])
        try client.expectNothing()
    }

    /// Clients split an address into `/TYPE/NAME`: NAME has no slash, whatever the temporary name has.
    @Test(arguments: drivers, ["/temp-queue/x", "/temp-queue/a/b", "/temp-queue/a%2Fb", "/temp-topic/x/y"])
    func `A reply address has one level behind its prefix`(on driver: DriverUnderTest, _ name: String) throws {
        let (service, queue) = try service(driver)
        let client = try driver.client()
        try client.subscribe(to: name, id: "mine")
        try client.subscribe(to: "/temp-queue/a.b", id: "other")
        try client.send("SEND", ["destination": queue, "reply-to": name], body: "ask")
        let address = try #require(service.expectMessage("ask")["reply-to"])
        let levels = address.split(separator: "/", omittingEmptySubsequences: false)
        #expect(levels.count == 3 && levels[0].isEmpty && (levels[1] == "reply-queue" || levels[1] == "reply-topic"))
        try service.send("SEND", ["destination": address], body: "answer")
        try client.expectMessage("answer", ["subscription": "mine"])
    }

    @Test(arguments: drivers)
    func `Many requests share one reply queue`(on driver: DriverUnderTest) throws {
        let (service, queue) = try service(driver)
        let client = try driver.client()
        for index in 0..<50 {
            try client.send(
                "SEND", ["destination": queue, "reply-to": "/temp-queue/x", "correlation-id": "\(index)"], body: "ask")
        }
        var addresses: Set<String> = []
        for index in 0..<50 {
            let address = try #require(service.expectMessage("ask")["reply-to"])
            addresses.insert(address)
            try service.send("SEND", ["destination": address, "correlation-id": "\(index)"], body: "answer")
        }
        #expect(addresses.count == 1)
        for index in 0..<50 {
            try client.expectMessage("answer", ["correlation-id": "\(index)", "subscription": "/temp-queue/x"])
        }
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `A connection may have several reply queues`(on driver: DriverUnderTest) throws {
        let (service, queue) = try service(driver)
        let client = try driver.client()
        for name in ["x", "y"] {
            try client.send("SEND", ["destination": queue, "reply-to": "/temp-queue/\(name)"], body: name)
            let address = try #require(service.expectMessage(name)["reply-to"])
            try service.send("SEND", ["destination": address], body: "answer to \(name)")
            try client.expectMessage("answer to \(name)", ["subscription": "/temp-queue/\(name)"])
        }
    }

    @Test(arguments: drivers)
    func `Connections with the same reply-to get their own replies`(on driver: DriverUnderTest) throws {
        let (service, queue) = try service(driver)
        let clients = try (0..<3).map { _ in try driver.client() }
        var addresses: [String] = []
        for (index, client) in clients.enumerated() {
            try client.send("SEND", ["destination": queue, "reply-to": "/temp-queue/x"], body: "\(index)")
            addresses.append(try #require(service.expectMessage("\(index)")["reply-to"]))
        }
        #expect(Set(addresses).count == 3)
        for (index, address) in addresses.enumerated().reversed() {
            try service.publish(to: address, "for \(index)")
            try clients[index].expectMessage("for \(index)")
        }
        for client in clients { try client.expectNothing() }
    }

    /// Other destinations in `reply-to` are the user's header.
    @Test(arguments: drivers, ["/queue/replies", "/topic/replies", "anything", ""])
    func `Another reply-to passes through`(on driver: DriverUnderTest, _ replyTo: String) throws {
        let (service, queue) = try service(driver)
        try driver.client().send("SEND", ["destination": queue, "reply-to": replyTo], body: "ask")
        try service.expectMessage("ask", ["reply-to": replyTo])
    }

    @Test(arguments: drivers)
    func `reply-to in a transaction works when it is committed`(on driver: DriverUnderTest) throws {
        let (service, queue) = try service(driver)
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform(
            "SEND", ["destination": queue, "reply-to": "/temp-queue/x", "transaction": "t"], body: "ask")
        try service.expectNothing()
        try client.perform("COMMIT", ["transaction": "t"])
        try service.publish(to: #require(service.expectMessage("ask")["reply-to"]), "answer")
        try client.expectMessage("answer", ["subscription": "/temp-queue/x"])
    }

    // MARK: Many

    /// More than a connection may have at a time (`subscriptions-per-connection-max`), one after the other.
    @Test(arguments: drivers)
    func `A connection may use temporary queues one after the other without end`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        for index in 0..<1200 {
            try client.send("SUBSCRIBE", ["destination": "/temp-queue/\(index)", "id": "0"])
            try client.send("UNSUBSCRIBE", ["id": "0"])
        }
        try client.expectNothing()
        try client.subscribe(to: "/temp-queue/last")
        try client.publish(to: "/temp-queue/last", "hello")
        try client.expectMessage("hello")
    }

    @Test(arguments: drivers)
    func `A connection may use reply queues one after the other without end`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/service")
        let client = try driver.client()
        for index in 0..<1200 {
            try client.send("SEND", ["destination": topic, "reply-to": "/temp-queue/\(index)"], body: "ask")
            try client.send("UNSUBSCRIBE", ["id": "/temp-queue/\(index)"])
        }
        try client.expectNothing()
        let (service, queue) = try service(driver)
        try client.send("SEND", ["destination": queue, "reply-to": "/temp-queue/last"], body: "ask")
        try service.publish(to: #require(service.expectMessage("ask")["reply-to"]), "answer")
        try client.expectMessage("answer", ["subscription": "/temp-queue/last"])
    }

    // MARK: Privacy and end

    /// Replies are for the one who asked.
    @Test(arguments: drivers)
    func `Nobody else may subscribe to a reply queue`(on driver: DriverUnderTest) throws {
        let (service, queue) = try service(driver)
        let client = try driver.client()
        try client.send("SEND", ["destination": queue, "reply-to": "/temp-queue/x"], body: "ask")
        let address = try #require(service.expectMessage("ask")["reply-to"])
        let eavesdropper = try driver.client()
        try eavesdropper.send("SUBSCRIBE", ["id": "0", "destination": address, "receipt": "1"])
        try eavesdropper.expectError("destination", receipt: "1")
        try service.publish(to: address, "answer")
        try client.expectMessage("answer")
    }

    /// A reply address cannot be guessed from another.
    @Test(arguments: drivers)
    func `An invented reply address reaches nobody`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let (service, queue) = try service(driver)
        try client.send("SEND", ["destination": queue, "reply-to": "/temp-queue/x"], body: "ask")
        try service.expectMessage("ask")
        let forger = try driver.client()
        for name in ["x", "0", "1", "", "../x", "18446744073709551615"] {
            guard (try? forger.send("SEND", ["destination": "/reply-queue/\(name)"], body: "forged")) != nil else {
                break
            }
        }
        forger.close()
        try client.expectNothing()
    }

    /// What the owner left is gone with it: a late reply is refused or dropped, and nothing worse.
    @Test(arguments: drivers)
    func `A reply to one who left does no harm`(on driver: DriverUnderTest) throws {
        let (service, queue) = try service(driver)
        let client = try driver.client()
        try client.send("SEND", ["destination": queue, "reply-to": "/temp-queue/x"], body: "ask")
        let address = try #require(service.expectMessage("ask")["reply-to"])
        try client.disconnect()
        try service.send("SEND", ["destination": address, "receipt": "1"], body: "late")
        #expect(try ["RECEIPT", "ERROR"].contains(service.nextFrame().command))
        // A newcomer, in whose place the one who left may have been, does not get it.
        let newcomer = try driver.client()
        try newcomer.subscribe(to: "/temp-queue/x")
        try newcomer.expectNothing()
    }

    @Test(arguments: drivers)
    func `What waits in a temporary queue ends with its connection`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.subscribe(to: "/temp-queue/x", ack: "client")
        try client.publish(to: "/temp-queue/x", "hello")
        try client.expectMessage("hello")
        try client.disconnect()
        let next = try driver.client()
        try next.subscribe(to: "/temp-queue/x")
        try next.expectNothing()
    }

    @Test(arguments: drivers)
    func `A temporary queue acknowledges and redelivers like a queue`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.subscribe(to: "/temp-queue/x", ack: "client-individual")
        try client.publish(to: "/temp-queue/x", "hello")
        try client.reject(client.expectMessage("hello"))
        try client.acknowledge(client.expectMessage("hello", ["redelivered": "true"]))
    }
}
