import TestSupport
import Testing

/// STOMP 1.2, section "SUBSCRIBE".
@Suite("SUBSCRIBE")
struct SubscribeSection {
    /// "the SUBSCRIBE frame requires a destination header"
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `SUBSCRIBE without a destination is an ERROR`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.sendFaulty("SUBSCRIBE\nid:0\nreceipt:1\n\n\0")
        try client.expectError("Missing destination", receipt: "1")
    }

    /// "If the server cannot successfully create the subscription, the server MUST send the client an ERROR frame and
    /// then close the connection."
    @Test(arguments: drivers, ["", "/", "/queue/", "/topic/", "/queues/a", "/foo/bar", "/exchange/other/a"])
    func `SUBSCRIBE to an impossible destination is an ERROR`(
        on driver: DriverUnderTest, _ destination: String
    ) throws {
        let client = try driver.client()
        try client.sendFaulty("SUBSCRIBE\nid:0\ndestination:\(destination)\nreceipt:1\n\n\0")
        try client.expectError("Unknown destination", "Invalid destination", "Missing destination", receipt: "1")
    }

    /// "an id header MUST be included in the frame to uniquely identify the subscription"
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `SUBSCRIBE without an id is an ERROR`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.sendFaulty("SUBSCRIBE\ndestination:/topic/a\nreceipt:1\n\n\0")
        try client.expectError("id", receipt: "1")
    }

    /// "Within the same connection, different subscriptions MUST use different subscription identifiers."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["/topic/a", "/topic/b", "/queue/b"]))
    func `A subscription identifier used twice is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, second: String)
    ) throws {
        let client = try driver.client(example.version)
        try client.subscribe(to: "/topic/a", id: "same")
        try client.sendFaulty("SUBSCRIBE\nid:same\ndestination:\(example.second)\nreceipt:1\n\n\0")
        try client.expectError("Duplicated subscription identifier", receipt: "1")
    }

    /// Identifiers belong to their connection.
    @Test(arguments: drivers)
    func `Two connections may use the same identifier`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/subscribe")
        let clients = [try driver.client(), try driver.client()]
        for client in clients { try client.subscribe(to: topic, id: "0") }
        try clients[0].publish(to: topic, "hello")
        for client in clients { try client.expectMessage("hello", ["subscription": "0"]) }
    }

    @Test(arguments: drivers)
    func `An identifier is free again after UNSUBSCRIBE`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/subscribe")
        try client.subscribe(to: "/topic/other", id: "0")
        try client.perform("UNSUBSCRIBE", ["id": "0"])
        try client.subscribe(to: topic, id: "0")
        try client.publish(to: topic, "hello")
        try client.expectMessage("hello", ["subscription": "0", "destination": topic])
    }

    @Test(arguments: drivers, ["0", "", "sub-1", "a b", "日本", "/queue/a", "9223372036854775808"])
    func `An identifier is any text`(on driver: DriverUnderTest, _ id: String) throws {
        let client = try driver.client()
        let topic = unique("/topic/subscribe")
        try client.subscribe(to: topic, id: id)
        try client.publish(to: topic, "hello")
        try client.expectMessage("hello", ["subscription": id])
    }

    /// "Since a single connection can have multiple open subscriptions": MESSAGE names the one it is for.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A connection may have many subscriptions`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topics = (0..<20).map { _ in unique("/topic/subscribe") }
        for (index, topic) in topics.enumerated() { try client.subscribe(to: topic, id: "id-\(index)") }
        for (index, topic) in topics.enumerated().reversed() {
            try client.publish(to: topic, "for \(index)")
            try client.expectMessage("for \(index)", ["subscription": "id-\(index)", "destination": topic])
        }
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `Two subscriptions to one topic get a MESSAGE each`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/subscribe")
        try client.subscribe(to: topic, id: "a")
        try client.subscribe(to: topic, id: "b")
        try client.publish(to: topic, "hello")
        let first = try client.expectMessage("hello")
        let second = try client.expectMessage("hello")
        #expect(Set([first["subscription"], second["subscription"]]) == ["a", "b"])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `Two subscriptions to one queue share its messages`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let queue = unique("/queue/subscribe")
        try client.subscribe(to: queue, id: "a")
        try client.subscribe(to: queue, id: "b")
        try client.publish(to: queue, "1", "2", "3", "4")
        var bodies: [String] = []
        for _ in 0..<4 { bodies.append(try client.expectMessage().text) }
        #expect(bodies.sorted() == ["1", "2", "3", "4"])
        try client.expectNothing()
    }

    /// "Any messages received on the subscribed destination will henceforth be delivered": henceforth, for a topic.
    @Test(arguments: drivers)
    func `A topic's subscriber gets what is sent after it subscribed`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/subscribe")
        try client.publish(to: topic, "before")
        try client.subscribe(to: topic)
        try client.publish(to: topic, "after")
        try client.expectMessage("after")
        try client.expectNothing()
    }

    /// Convention: the SUBSCRIBE's RECEIPT precedes its first MESSAGE, also where messages wait already.
    @Test(arguments: drivers, ["auto", "client", "client-individual"])
    func `The RECEIPT of SUBSCRIBE precedes the first MESSAGE`(on driver: DriverUnderTest, _ ack: String) throws {
        let queue = unique("/queue/subscribe")
        try driver.client().publish(to: queue, "waits")
        let client = try driver.client()
        try client.send("SUBSCRIBE", ["id": "0", "destination": queue, "ack": ack, "receipt": "r"])
        try client.expectReceipt("r")
        try client.expectMessage("waits")
    }

    // MARK: SUBSCRIBE ack Header

    /// "The valid values for the ack header are auto, client, or client-individual." 1.0 has no client-individual, yet
    /// it is tolerated there.
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["auto", "client", "client-individual"]))
    func `The three ack modes are accepted in every version`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, ack: String)
    ) throws {
        let client = try driver.client(example.version)
        let queue = unique("/queue/subscribe")
        try client.subscribe(to: queue, ack: example.ack)
        try client.publish(to: queue, "hello")
        try client.expectMessage("hello")
    }

    @Test(
        arguments: drivers,
        pairs(ProtocolVersion.allCases, ["", "AUTO", "individual", "client_individual", "auto,client", "none"]))
    func `An unknown ack mode is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, ack: String)
    ) throws {
        let client = try driver.client(example.version)
        try client.sendFaulty("SUBSCRIBE\nid:0\ndestination:/queue/a\nack:\(example.ack)\nreceipt:1\n\n\0")
        try client.expectError("ack", receipt: "1")
    }

    /// "If the header is not set, it defaults to auto." "the client does not need to send the server ACK frames".
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Without an ack header messages need no ACK`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let queue = unique("/queue/subscribe")
        let client = try driver.client(version)
        try client.perform("SUBSCRIBE", ["id": "0", "destination": queue])
        try client.publish(to: queue, "hello")
        let message = try client.expectMessage("hello")
        #expect(message["ack"] == nil)
        try client.disconnect()
        let next = try driver.client()
        try next.subscribe(to: queue)
        try next.expectNothing()
    }

    /// "The server will assume the client has received the message as soon as it sends it to the client."
    @Test(arguments: drivers)
    func `With auto a message is gone once sent, though the connection is lost`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/subscribe")
        let client = try driver.client()
        try client.subscribe(to: queue)
        try client.publish(to: queue, "hello")
        try client.expectMessage("hello")
        client.abort()
        let next = try driver.client()
        try next.publish(to: queue, "next")
        try next.subscribe(to: queue)
        try next.expectMessage("next")
    }

    /// "If the connection fails before a client sends an ACK frame for the message the server will assume the message
    /// has not been processed and MAY redeliver the message to another client."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["client", "client-individual"]))
    func `An unacknowledged message goes to another client when the connection fails`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, ack: String)
    ) throws {
        let queue = unique("/queue/subscribe")
        let first = try driver.client(example.version)
        try first.subscribe(to: queue, ack: example.ack)
        try first.publish(to: queue, "1", "2")
        try first.expectMessage("1")
        try first.expectMessage("2")
        first.abort()
        let second = try driver.client(example.version)
        try second.subscribe(to: queue, ack: example.ack)
        for body in ["1", "2"] { try second.acknowledge(second.expectMessage(body, ["redelivered": "true"])) }
    }

    /// "The ACK frames sent by the client will be treated as a cumulative acknowledgment. This means the acknowledgment
    /// operates on the message specified in the ACK frame and all messages sent to the subscription before".
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `In client mode ACK is cumulative`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let queue = unique("/queue/subscribe")
        let first = try driver.client(version)
        try first.subscribe(to: queue, ack: "client")
        try first.publish(to: queue, "1", "2", "3", "4")
        let messages = try (1...4).map { try first.expectMessage("\($0)") }
        try first.acknowledge(messages[2])
        try first.disconnect()
        let second = try driver.client(version)
        try second.subscribe(to: queue)
        try second.expectMessage("4", ["redelivered": "true"])
        try second.expectNothing()
    }

    /// Cumulative within its subscription: another's messages are not touched.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A cumulative ACK ends at its subscription`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let queues = [unique("/queue/subscribe"), unique("/queue/subscribe")]
        let first = try driver.client(version)
        try first.subscribe(to: queues[0], id: "0", ack: "client")
        try first.subscribe(to: queues[1], id: "1", ack: "client")
        try first.publish(to: queues[0], "a")
        let early = try first.expectMessage("a")
        try first.publish(to: queues[1], "b")
        let late = try first.expectMessage("b")
        try first.acknowledge(late)
        try first.acknowledge(early)
        try first.disconnect()
        let second = try driver.client(version)
        for (id, queue) in queues.enumerated() { try second.subscribe(to: queue, id: "\(id)") }
        try second.expectNothing()
    }

    /// "This means that an ACK or NACK frame for a subsequent message MUST NOT cause a previous message to get
    /// acknowledged."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `In client-individual mode ACK is for one message`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let queue = unique("/queue/subscribe")
        let first = try driver.client(version)
        try first.subscribe(to: queue, ack: "client-individual")
        try first.publish(to: queue, "1", "2", "3", "4")
        let messages = try (1...4).map { try first.expectMessage("\($0)") }
        try first.acknowledge(messages[2])
        try first.acknowledge(messages[0])
        try first.disconnect()
        let second = try driver.client(version)
        try second.subscribe(to: queue)
        for body in ["2", "4"] { try second.expectMessage(body, ["redelivered": "true"]) }
        try second.expectNothing()
    }

    /// Topics' subscribers acknowledge like queues' do.
    @Test(arguments: drivers, ["client", "client-individual"])
    func `A topic's subscription may acknowledge`(on driver: DriverUnderTest, _ ack: String) throws {
        let client = try driver.client()
        let topic = unique("/topic/subscribe")
        try client.subscribe(to: topic, ack: ack)
        try client.publish(to: topic, "hello", "again")
        let first = try client.expectMessage("hello")
        #expect(first["ack"]?.isEmpty == false)
        try client.acknowledge(first)
        try client.acknowledge(client.expectMessage("again"))
    }

    /// "STOMP servers MAY support additional server specific headers": what is not known is no error.
    @Test(arguments: drivers)
    func `Unknown headers of SUBSCRIBE are ignored`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.perform("SUBSCRIBE", ["id": "0", "destination": "/topic/a", "foo": "bar", "x-unknown": "1"])
    }

    /// What would lose messages or deliver others than were asked for is refused, not ignored.
    @Test(
        arguments: drivers,
        [
            ("/topic/a", "selector", "price > 5", "elector"), ("/queue/subscribe-browse", "browser", "true", "rowsing"),
            ("/queue/subscribe-browse", "browser", "True", "rowsing"),
            ("/temp-topic/a", "durable", "true", "temporary topic"),
            ("/topic/a.*", "activemq.subscriptionName", "name", "needs a client-id"),
            ("/topic/a", "activemq.subcriptionName", "name", "needs a client-id"),
            ("/topic/a", "durable-subscription-name", "name", "needs a client-id"),
            ("/topic/a", "durable-subscriber-name", "name", "needs a client-id"),
            ("/topic/a", "x-queue-name", "name", "x-queue-name"),
            ("/queue/subscribe-a", "x-queue-name", "name", "x-queue-name"),
            ("/queue/subscribe-a", "x-queue-type", "quorum", "x-queue-type"),
            ("/queue/subscribe-a", "x-expires", "1000", "x-expires"),
            ("/queue/subscribe-a", "x-max-priority", "5", "x-max-priority"),
            ("/queue/subscribe-a", "x-single-active-consumer", "true", "x-single-active-consumer"),
            ("/dsub/x", "foo", "bar", "urable"), ("/queue/a.*", "foo", "bar", "not for queues"),
            ("/queue/a.#", "foo", "bar", "not for queues"), ("/queue/A.>", "foo", "bar", "not for queues"),
            ("/topic/a", "x-max-length", "10", "x-max-length"), ("/topic/a.*", "x-overflow", "reject", "x-overflow"),
            ("/temp-queue/a", "x-message-ttl", "1000", "x-message-ttl"),
        ])
    func `SUBSCRIBE for what the broker cannot do is an ERROR`(
        on driver: DriverUnderTest, _ wish: (destination: String, header: String, value: String, message: String)
    ) throws {
        let client = try driver.client()
        try client.send(
            "SUBSCRIBE", ["id": "0", "destination": wish.destination, wish.header: wish.value, "receipt": "1"])
        try client.expectError(wish.message, receipt: "1")
    }

    /// A wish that cannot be read is not ignored either.
    @Test(
        arguments: drivers,
        [
            ("prefetch-count", "many"), ("prefetch-count", ""), ("prefetch-count", "99999999999999999999"),
            ("activemq.prefetchSize", "-1"), ("consumer-window-size", "1k"), ("browser", "yes"), ("durable", "1"),
            ("persistent", "TRUE"), ("x-max-length", "x"), ("x-message-ttl", ""), ("ack", "Auto"),
        ])
    func `A value that its header cannot have is an ERROR that names it`(
        on driver: DriverUnderTest, _ header: (name: String, value: String)
    ) throws {
        let client = try driver.client()
        try client.send(
            "SUBSCRIBE",
            ["id": "0", "destination": "/queue/subscribe-odd", header.name: header.value, "receipt": "1"])
        #expect(try client.expectError("Invalid", receipt: "1").text.contains(header.name))
    }

    /// 1.0: "id: specify an ID to identify this subscription. Later, you will be able to UNSUBSCRIBE using this ID": clients
    /// choose a handler by the header where they gave an id, and by the destination where they did not.
    @Test(arguments: drivers, pairs(["/queue/subscribe", "/topic/subscribe"], ["auto", "client"]))
    func `In 1_0 MESSAGE names a subscription exactly where SUBSCRIBE did`(
        on driver: DriverUnderTest, _ example: (prefix: String, ack: String)
    ) throws {
        let client = try driver.client(.v1_0)
        let destination = unique(example.prefix)
        try client.perform("SUBSCRIBE", ["destination": destination, "ack": example.ack])
        try client.publish(to: destination, "hello")
        let message = try client.expectMessage("hello", ["destination": destination])
        #expect(message["subscription"] == nil)
        if example.ack == "client" { try client.acknowledge(message) }
        try client.perform("UNSUBSCRIBE", ["destination": destination])
        try client.subscribe(to: destination, id: "mine")
        try client.publish(to: destination, "again")
        try client.expectMessage("again", ["subscription": "mine"])
    }

    /// Both kinds of subscribers of one topic, who share everything else.
    @Test(arguments: drivers)
    func `A subscription with an id and one without get their own MESSAGE`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/subscribe")
        let unnamed = try driver.client(.v1_0)
        try unnamed.perform("SUBSCRIBE", ["destination": topic])
        let named = try driver.client(.v1_0)
        try named.subscribe(to: topic, id: topic)
        try named.publish(to: topic, "hello")
        #expect(try unnamed.expectMessage("hello")["subscription"] == nil)
        try named.expectMessage("hello", ["subscription": topic])
    }

    /// Clients of other brokers mark queues as durable as a matter of course.
    @Test(arguments: drivers)
    func `A queue's SUBSCRIBE may say durable`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let queue = unique("/queue/subscribe")
        try client.perform(
            "SUBSCRIBE", ["id": "0", "destination": queue, "durable": "true", "auto-delete": "false"])
        try client.publish(to: queue, "hello")
        try client.expectMessage("hello")
    }
}
