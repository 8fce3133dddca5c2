import TestSupport
import Testing

/// Destinations as existing clients write them: aliases, bare names, wildcards. The specifications leave their syntax
/// to the server.
@Suite("Destinations")
struct Destinations {
    /// `/amq/queue/X` = `/queue/X`; `/exchange/amq.topic/K` = `/topic/K`; a bare name is a topic.
    @Test(
        arguments: drivers,
        [
            ("/amq/queue/NAME", "/queue/NAME"), ("/queue/NAME", "/amq/queue/NAME"),
            ("/exchange/amq.topic/NAME", "/topic/NAME"), ("/topic/NAME", "/exchange/amq.topic/NAME"),
            ("NAME", "/topic/NAME"), ("/topic/NAME", "NAME"), ("NAME", "/exchange/amq.topic/NAME"),
        ])
    func `Aliases name the same destination`(
        on driver: DriverUnderTest, _ example: (sent: String, subscribed: String)
    ) throws {
        let name = unique("alias")
        let sent = example.sent.replacing("NAME", with: name)
        let client = try driver.client()
        try client.subscribe(to: example.subscribed.replacing("NAME", with: name))
        try client.publish(to: sent, "hello")
        try client.expectMessage("hello", ["destination": sent])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `A queue and a topic of one name are two destinations`(on driver: DriverUnderTest) throws {
        let name = unique("name")
        let client = try driver.client()
        try client.subscribe(to: "/queue/\(name)", id: "q")
        try client.subscribe(to: "/topic/\(name)", id: "t")
        try client.publish(to: "/queue/\(name)", "queue")
        try client.expectMessage("queue", ["subscription": "q"])
        try client.publish(to: "/topic/\(name)", "topic")
        try client.expectMessage("topic", ["subscription": "t"])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `Names are case sensitive`(on driver: DriverUnderTest) throws {
        let name = unique("/topic/name")
        let client = try driver.client()
        try client.subscribe(to: name + "a")
        try client.publish(to: name + "A", "other")
        try client.expectNothing()
    }

    /// Neither is a prefix of the other's name, nor the other way round.
    @Test(arguments: drivers)
    func `A longer name is another name`(on driver: DriverUnderTest) throws {
        let name = unique("/topic/name")
        let client = try driver.client()
        try client.subscribe(to: name)
        for other in [name + "x", String(name.dropLast()), name + "/x", name + ".x"] {
            try client.publish(to: other, "other")
        }
        try client.expectNothing()
    }

    /// Topics: every subscriber. Queues: competing consumers.
    @Test(arguments: drivers)
    func `A topic's message goes to every subscriber, a queue's to one`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/fan")
        let queue = unique("/queue/fan")
        let clients = try (0..<5).map { _ in try driver.client() }
        for client in clients {
            try client.subscribe(to: topic, id: "t")
            try client.subscribe(to: queue, id: "q")
        }
        try clients[0].publish(to: topic, "for all")
        for client in clients { try client.expectMessage("for all", ["subscription": "t"]) }
        try clients[0].publish(to: queue, "for one")
        // One more topic message to each tells that the queue's message has come wherever it went.
        try clients[0].publish(to: topic, "end")
        var receivers = 0
        for client in clients {
            while case let message = try client.expectMessage(), message.text != "end" { receivers += 1 }
        }
        #expect(receivers == 1)
    }

    // MARK: Wildcards

    /// One level `*`; many levels `#`, `>`, `**`; separators `.` and `/`.
    @Test(
        arguments: drivers,
        [
            ("*", ["a"], ["a.b", "a/b"]),
            ("a.*", ["a.b", "a.c"], ["a", "b.a", "a.b.c", "ab"]),
            ("a/*", ["a/b", "a/c"], ["a", "b/a", "a/b/c"]),
            ("*.b", ["a.b", "c.b"], ["b", "a.c", "a.b.c", "a.a.b"]),
            ("a.*.c", ["a.b.c", "a.x.c"], ["a.c", "a.b.c.d", "a.b.b.c"]),
            ("*.*", ["a.b", "c.d"], ["a", "a.b.c"]),
            ("a.#", ["a", "a.b", "a.b.c"], ["b", "b.a", "ab"]),
            ("a.>", ["a.b", "a.b.c"], ["b", "ab.c"]),
            ("a/**", ["a/b", "a/b/c"], ["b", "ab/c"]),
            ("#.c", ["c", "b.c", "a.b.c"], ["c.d", "a.bc"]),
            ("a.#.c", ["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.b", "b.c"]),
            ("a.*.#", ["a.b", "a.b.c"], ["a", "b.a"]),
            ("#.*", ["a", "a.b"], []),
            ("a.#.b.#.c", ["a.b.c", "a.x.b.y.c", "a.b.b.c", "a.b.c.c", "a.c.b.c"], ["a.c", "a.b", "a.b.c.d"]),
        ])
    func `A wildcard matches whole levels`(
        on driver: DriverUnderTest, _ example: (pattern: String, matching: [String], others: [String])
    ) throws {
        let root = unique("/topic/wildcard") + "/"
        let client = try driver.client()
        try client.subscribe(to: root + example.pattern)
        for name in example.others { try client.publish(to: root + name, name) }
        try client.expectNothing()
        for name in example.matching {
            try client.publish(to: root + name, name)
            try client.expectMessage(name, ["destination": root + name, "subscription": "0"])
        }
    }

    @Test(arguments: drivers, ["#", ">", "**"])
    func `A wildcard alone matches every topic`(on driver: DriverUnderTest, _ wildcard: String) throws {
        let client = try driver.client()
        try client.subscribe(to: "/topic/\(wildcard)")
        let topic = unique("/topic/every/one.of-them")
        try client.publish(to: topic, "hello")
        // Other cases of this run publish too.
        while try client.expectMessage()["destination"] != topic {}
    }

    /// A message is one MESSAGE for each subscription, however many ways a pattern matches.
    @Test(arguments: drivers)
    func `A pattern that matches in two ways delivers once`(on driver: DriverUnderTest) throws {
        let root = unique("/topic/wildcard")
        let client = try driver.client()
        try client.subscribe(to: "\(root).#.#.x")
        try client.publish(to: "\(root).x.x.x", "hello")
        try client.expectMessage("hello")
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `Overlapping patterns deliver to each subscription`(on driver: DriverUnderTest) throws {
        let root = unique("/topic/wildcard")
        let client = try driver.client()
        let patterns = ["\(root).a.b", "\(root).*.b", "\(root).#", "\(root).a.*", "\(root).>"]
        for pattern in patterns { try client.subscribe(to: pattern, id: pattern) }
        try client.publish(to: "\(root).a.b", "hello")
        let ids = try patterns.map { _ in try client.expectMessage("hello")["subscription"] }
        #expect(Set(ids) == Set(patterns))
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `A wildcard reaches topics that come into being later`(on driver: DriverUnderTest) throws {
        let root = unique("/topic/wildcard")
        let client = try driver.client()
        try client.subscribe(to: "\(root).*")
        let publisher = try driver.client()
        for index in 0..<50 { try publisher.publish(to: "\(root).\(index)", "\(index)") }
        for index in 0..<50 { try client.expectMessage("\(index)") }
    }

    @Test(arguments: drivers)
    func `After UNSUBSCRIBE a wildcard delivers no more`(on driver: DriverUnderTest) throws {
        let root = unique("/topic/wildcard")
        let client = try driver.client()
        try client.subscribe(to: "\(root).*", id: "w")
        try client.subscribe(to: "\(root).a", id: "exact")
        try client.perform("UNSUBSCRIBE", ["id": "w"])
        try client.publish(to: "\(root).a", "hello")
        try client.expectMessage("hello", ["subscription": "exact"])
        try client.expectNothing()
    }

    /// A wildcard for topics does not open queues.
    @Test(arguments: drivers)
    func `A wildcard does not match queues`(on driver: DriverUnderTest) throws {
        let name = unique("wildcard")
        let client = try driver.client()
        try client.subscribe(to: "/topic/\(name).*")
        try client.publish(to: "/queue/\(name).a", "hello")
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `An alias may hold a wildcard`(on driver: DriverUnderTest) throws {
        let name = unique("wildcard")
        let client = try driver.client()
        try client.subscribe(to: "/exchange/amq.topic/\(name).*.c")
        try client.publish(to: "/topic/\(name).b.c", "hello")
        try client.expectMessage("hello")
    }

    // MARK: Configuration

    @Test(arguments: drivers)
    func `A bare name may be configured to be a queue`(on driver: DriverUnderTest) throws {
        let client = try RawClient(driver.broker(["bare-names": "queue"]), .v1_2)
        let name = unique("bare")
        try client.publish(to: name, "hello")
        try client.subscribe(to: "/queue/\(name)")
        try client.expectMessage("hello", ["destination": name])
    }

    @Test(arguments: drivers, ["SEND", "SUBSCRIBE"])
    func `A bare name may be configured to be refused`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try RawClient(driver.broker(["bare-names": "reject"]), .v1_2)
        try client.send(command, ["destination": "bare", "id": "0", "receipt": "1"])
        let error = try client.expectError("destination", receipt: "1")
        #expect(error.text.contains("(bare-names)"), "\(error)")
    }

    @Test(arguments: drivers, ["SEND", "SUBSCRIBE"])
    func `Clients may be kept from creating destinations`(on driver: DriverUnderTest, _ command: String) throws {
        let broker = try driver.broker(
            ["clients-create-destinations": "false"], file: "destinations:\n  - match: /queue/known\n")
        let client = try RawClient(broker, .v1_2)
        try client.perform(command, ["destination": "/queue/known", "id": "0"])
        try client.send(command, ["destination": "/queue/unknown", "id": "1", "receipt": "1"])
        while case let frame = try client.nextFrame(), frame.command != "ERROR" {
            #expect(frame.command == "MESSAGE")
        }
        try client.expectClose()
    }
}
