import Glibc
import TestSupport
import Testing

/// Life of messages: `expires`, `expiration`, `ttl`; and where those go that nobody takes.
@Suite("Expiry")
struct Expiry {
    private static var nowMilliseconds: Int {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    /// `expires`: milliseconds since 1970.
    @Test(arguments: drivers, ["/queue/expiry", "/topic/expiry"])
    func `A message that is expired when it comes is never delivered`(
        on driver: DriverUnderTest, _ prefix: String
    ) throws {
        let destination = unique(prefix)
        let client = try driver.client()
        try client.subscribe(to: destination)
        try client.perform(
            "SEND", ["destination": destination, "expires": "\(Self.nowMilliseconds - 60_000)"], body: "old")
        try client.expectNothing()
    }

    @Test(arguments: drivers, ["expires", "expiration", "ttl"])
    func `A message that is not expired is delivered with its header`(
        on driver: DriverUnderTest, _ header: String
    ) throws {
        let queue = unique("/queue/expiry")
        let client = try driver.client()
        let value = header == "expires" ? "\(Self.nowMilliseconds + 3_600_000)" : "3600000"
        try client.perform("SEND", ["destination": queue, header: value], body: "fresh")
        try client.subscribe(to: queue)
        try client.expectMessage("fresh", [header: value])
    }

    /// 0: never, as JMS has it.
    @Test(arguments: drivers, ["expires", "expiration", "ttl"])
    func `Zero is no expiry`(on driver: DriverUnderTest, _ header: String) throws {
        let queue = unique("/queue/expiry")
        let client = try driver.client()
        try client.perform("SEND", ["destination": queue, header: "0"], body: "eternal")
        try client.subscribe(to: queue)
        try client.expectMessage("eternal")
    }

    /// On time, by the timer wheel: the queue forgets it though nobody asks. Its dead letter tells when.
    @Test(arguments: drivers, ["expires", "expiration", "ttl"])
    func `A message expires while it waits`(on driver: DriverUnderTest, _ header: String) throws {
        let name = unique("expiry")
        let queue = "/queue/expiring/\(name)"
        let broker = try driver.broker([:], file: expiryConfiguration)
        let client = try RawClient(broker, .v1_2)
        try client.subscribe(to: "/topic/expired", id: "dead")
        let value = header == "expires" ? "\(Self.nowMilliseconds + 100)" : "100"
        try client.perform("SEND", ["destination": queue, header: value], body: name)
        try client.perform("SEND", ["destination": queue], body: "stays")
        try expectDead(name, client)
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue)
        try reader.expectMessage("stays")
        try reader.expectNothing()
    }

    /// A message without expiry of its own has its destination's.
    @Test(arguments: drivers)
    func `A destination may have a life for its messages`(on driver: DriverUnderTest) throws {
        let name = unique("expiry")
        let queue = "/queue/short/\(name)"
        let broker = try driver.broker([:], file: expiryConfiguration)
        let client = try RawClient(broker, .v1_2)
        try client.subscribe(to: "/topic/expired", id: "dead")
        try client.perform("SEND", ["destination": queue], body: name)
        try expectDead(name, client)
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue)
        try reader.expectNothing()
    }

    /// A delivered message is its consumer's: it does not expire under its hands, but it is not delivered again.
    @Test(arguments: drivers)
    func `A message may be acknowledged though it expired meanwhile`(on driver: DriverUnderTest) throws {
        let name = unique("expiry")
        let queue = "/queue/expiring/\(name)"
        let broker = try driver.broker([:], file: expiryConfiguration)
        let client = try RawClient(broker, .v1_2)
        try client.subscribe(to: queue, ack: "client-individual")
        try client.perform("SEND", ["destination": queue, "ttl": "100"], body: "held")
        let held = try client.expectMessage("held")
        // A second message with the same life, which nobody holds, says when it is over.
        try client.subscribe(to: "/topic/expired", id: "dead")
        try client.perform("SEND", ["destination": "/queue/expiring/\(name)-clock", "ttl": "100"], body: name)
        try expectDead(name, client)
        try client.perform("ACK", client.acknowledgement(of: held))
    }

    /// A topic is where these cases' dead letters go, so that each hears of its own among the others'.
    private func expectDead(_ body: String, _ client: RawClient) throws {
        while try client.expectMessage().text != body {}
    }
}

private let expiryConfiguration = """
    destinations:
      - match: /queue/expiring/#
        dead-letter: /topic/expired
        dead-letter-expired: true
      - match: /queue/short/#
        message-ttl-ms: 100
        dead-letter: /topic/expired
        dead-letter-expired: true

    """

@Suite("Dead letters", .serialized)
struct DeadLetters {
    private static let configuration = """
        destinations:
          - match: /queue/impatient/#
            deliveries-max: 2
            dead-letter: /queue/graveyard
          - match: /queue/patient/#
            deliveries-max: 0
          - match: /queue/dropping/#
            deliveries-max: 1
            dead-letter: ""

        """

    /// These cases read /queue/DLQ, so their broker is no other cases'.
    private func broker(_ driver: DriverUnderTest) throws -> BrokerProcess {
        try driver.broker([:], file: Self.configuration)
    }

    private func nackHeaders(_ message: Frame, _ requeue: String = "false") -> KeyValuePairs<String, String> {
        ["id": message["ack"] ?? "", "requeue": requeue]
    }

    /// "[The server can] put it in a dead letter queue": after 10 deliveries.
    @Test(arguments: drivers)
    func `A message that was delivered ten times goes to the dead-letter queue`(on driver: DriverUnderTest) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dead")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.perform(
            "SEND", ["destination": queue, "foo": "bar", "content-type": "text/plain"], body: "unwanted")
        for delivery in 1...10 {
            let message = try client.expectMessage("unwanted")
            if delivery > 1 { #expect(message["delivery-count"] == "\(delivery)") }
            try client.reject(message)
        }
        try client.expectNothing()
        try client.subscribe(to: "/queue/DLQ", id: "dlq")
        try client.expectMessage("unwanted", ["foo": "bar", "content-type": "text/plain", "subscription": "dlq"])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `Lost consumers count as deliveries`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/impatient/a")
        try RawClient(broker, .v1_2).publish(to: queue, "deadly")
        for _ in 0..<2 {
            let victim = try RawClient(broker, .v1_2)
            try victim.subscribe(to: queue, ack: "client-individual")
            try victim.expectMessage("deadly")
            victim.abort()
        }
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: "/queue/graveyard")
        try reader.expectMessage("deadly")
    }

    /// What a consumer had in its buffer without acknowledging, and gives back in order, was delivered too.
    /// Python clients write booleans with a capital.
    @Test(arguments: drivers, ["false", "False"])
    func `NACK with requeue false goes to the dead-letter queue at once`(
        on driver: DriverUnderTest, _ requeue: String
    ) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dead")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "refused", "taken")
        try client.perform("NACK", nackHeaders(client.expectMessage("refused"), requeue))
        try client.acknowledge(client.expectMessage("taken"))
        try client.expectNothing()
        try client.subscribe(to: "/queue/DLQ", id: "dlq")
        try client.expectMessage("refused", ["subscription": "dlq"])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `NACK with requeue false is cumulative in client mode`(on driver: DriverUnderTest) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dead")
        try client.subscribe(to: queue, ack: "client")
        try client.publish(to: queue, "1", "2", "3")
        try client.expectMessage("1")
        let second = try client.expectMessage("2")
        try client.expectMessage("3")
        try client.perform("NACK", nackHeaders(second))
        try client.subscribe(to: "/queue/DLQ", id: "dlq")
        for body in ["1", "2"] { try client.expectMessage(body, ["subscription": "dlq"]) }
        try client.expectNothing()
    }

    @Test(arguments: drivers, ["true", "True"])
    func `NACK with requeue true goes back to the queue`(on driver: DriverUnderTest, _ requeue: String) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dead")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "again")
        let message = try client.expectMessage("again")
        try client.perform("NACK", nackHeaders(message, requeue))
        try client.acknowledge(client.expectMessage("again", ["redelivered": "true"]))
    }

    /// A wish that is not understood is not taken for another, and costs the message nothing.
    @Test(arguments: drivers, ["no", "FALSE", "0", ""])
    func `NACK with another requeue is an ERROR`(on driver: DriverUnderTest, _ requeue: String) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dead")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "kept")
        try client.send("NACK", nackHeaders(client.expectMessage("kept"), requeue))
        try client.expectError("requeue must be true or false")
        let next = try RawClient(broker(driver), .v1_2)
        try next.subscribe(to: queue, ack: "client-individual")
        try next.acknowledge(next.expectMessage("kept"))
    }

    @Test(arguments: drivers)
    func `A destination may have its own limit and dead-letter queue`(on driver: DriverUnderTest) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/impatient/b")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "twice")
        for _ in 0..<2 { try client.reject(client.expectMessage("twice")) }
        try client.expectNothing()
        try client.subscribe(to: "/queue/graveyard", id: "grave")
        try client.expectMessage("twice", ["subscription": "grave"])
    }

    @Test(arguments: drivers)
    func `Without a limit a message returns for ever`(on driver: DriverUnderTest) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/patient/a")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "again")
        for _ in 0..<50 { try client.reject(client.expectMessage("again")) }
        try client.acknowledge(client.expectMessage("again", ["delivery-count": "51"]))
    }

    @Test(arguments: drivers)
    func `Without a dead-letter queue there is no limit, and requeue false drops a message`(
        on driver: DriverUnderTest
    ) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dropping/a")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "again")
        for _ in 0..<12 { try client.reject(client.expectMessage("again")) }
        try client.perform("NACK", nackHeaders(client.expectMessage("again")))
        try client.expectNothing()
        try client.subscribe(to: "/queue/DLQ", id: "dlq")
        try client.expectNothing()
    }

    /// A dead letter that is refused has nowhere to go: it stays where it is, unless it is refused for good.
    @Test(arguments: drivers)
    func `A dead letter comes back until it is refused for good`(on driver: DriverUnderTest) throws {
        let client = try RawClient(broker(driver), .v1_2)
        let queue = unique("/queue/dead")
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "unwanted")
        try client.perform("NACK", nackHeaders(client.expectMessage("unwanted")))
        try client.subscribe(to: "/queue/DLQ", id: "dlq", ack: "client-individual")
        for _ in 0..<12 { try client.reject(client.expectMessage("unwanted")) }
        try client.perform("NACK", nackHeaders(client.expectMessage("unwanted")))
        try client.expectNothing()
    }
}
