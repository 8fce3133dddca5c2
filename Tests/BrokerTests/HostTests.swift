import FakeKernel
import IO
import STOMP
import Slabs
import Testing

@testable import Broker

/// Which host a client is with, and that destinations of different hosts never meet.
@Suite("Virtual hosts")
struct HostTests {
    /// The standard host with an alias, and two more.
    static func options(_ change: (inout BrokerOptions) -> Void = { _ in }) -> BrokerOptions {
        TestBroker.options {
            $0.hosts = ["/", "shop", "blog.example.org"].map { HostOptions(name: $0) }
            $0.hosts[0].aliases = ["localhost"]
            $0.hosts[2].aliases = ["blog"]
            change(&$0)
        }
    }

    @discardableResult
    static func connect(
        _ broker: TestBroker, to host: String?, _ version: Version = .v1_2, on shard: Int = 0, clientID: String? = nil
    ) -> Client {
        let client = broker.accept(on: shard, name: "client of \(host ?? "no host")")
        client.version = version
        var headers = [("accept-version", "\(version.text)")]
        if let host { headers.append(("host", host)) }
        if let clientID { headers.append(("client-id", clientID)) }
        client.send(.connect, headers)
        broker.run()
        #expect(client.frame()?.command == .connected)
        return client
    }

    /// A client with each host, by the name that it was given.
    static func clients(_ broker: TestBroker, _ version: Version = .v1_2, clientID: String? = nil) -> [Client] {
        ["/", "shop", "blog"].enumerated().map { place, host in
            connect(broker, to: host, version, on: place % broker.kernel.shardCount, clientID: clientID)
        }
    }

    @Test("Separators and wildcards in the names of hosts mean nothing", arguments: [1, 2])
    func confusingNames(shards: Int) {
        let names = ["eu.shop", "eu/shop", "eu.*.shop", "eu.x.shop", "eu.#.shop"]
        let options = TestBroker.options { $0.hosts = (["/"] + names).map { HostOptions(name: $0) } }
        withBroker(shards: shards, options) { broker in
            let readers = names.map { Self.connect(broker, to: $0, on: shards - 1) }
            for reader in readers { reader.confirmed(.subscribe, [("destination", "/topic/#"), ("id", "0")]) }
            for name in names { Self.connect(broker, to: name).confirmed(.send, [("destination", "/topic/a")], name) }
            for (reader, name) in zip(readers, names) { #expect(reader.bodies() == [name]) }
        }
    }

    // MARK: CONNECT

    @Test(
        "The header host chooses a host by its name or an alias; without one it is the default",
        arguments: [
            ("/", "/"), ("localhost", "/"), ("shop", "shop"), ("blog", "blog.example.org"),
            ("blog.example.org", "blog.example.org"), ("", "shop"), (nil, "shop"),
        ], Version.allCases)
    func chosen(_ written: (host: String?, name: String), _ version: Version) {
        withBroker(Self.options { $0.defaultHost = "shop" }) { broker in
            let client = Self.connect(broker, to: written.host, version)
            client.subscribe("/topic/a")
            broker.run()
            for host in ["/", "shop", "blog"] {
                Self.connect(broker, to: host).publish("/topic/a", host == "blog" ? "blog.example.org" : host)
            }
            #expect(client.bodies() == [written.name])
        }
    }

    @Test("STOMP 1.0 has no host, and is with the default one")
    func withoutVersion() {
        withBroker(Self.options { $0.defaultHost = "shop" }) { broker in
            let client = broker.accept()
            client.version = .v1_0
            client.write("CONNECT\n\n\0")
            broker.run()
            #expect(client.frame()?.command == .connected)
            client.publish("/topic/a", "x")
            #expect(broker.shard(0).pointee.hostFigures().map(\.connectionCount) == [0, 1, 0])
        }
    }

    @Test("A host that is not there is refused, with its name", arguments: ["bl\u{7}og", "Shop", "shop ", "*", "no"])
    func unknown(_ host: String) throws {
        try withBroker(Self.options()) { broker in
            let client = broker.accept()
            client.write("CONNECT\naccept-version:1.2\nhost:\(host)\n\n\0")
            let error = try #require(client.expectError("Bad CONNECT"))
            #expect(error.text.contains("the header host is '\(host == "bl\u{7}og" ? "bl\\x07og" : host)'"))
            #expect(error.text.contains("leave the header out"))
            #expect(!error.text.contains("example.org"), "names of hosts are not told")
            #expect(broker.counters.loginsRefused == 1)
            #expect(broker.notices.map(\.kind) == [.loginRefused])
        }
    }

    @Test("Without hosts in the configuration the header is not looked at", arguments: ["a", "shop", nil])
    func off(_ host: String?) {
        withBroker { broker in
            let client = Self.connect(broker, to: host)
            client.subscribe("/topic/a")
            broker.connect().publish("/topic/a", "x")
            #expect(client.bodies() == ["x"])
            #expect(broker.shard(0).pointee.hostFigures().isEmpty)
        }
    }

    @Test("The log names the host of a client")
    func notices() {
        withBroker(Self.options()) { broker in
            let client = Self.connect(broker, to: "blog")
            client.send(.ack, [("id", "1")])
            client.expectError("Message not found")
            #expect(broker.notices.map { $0.client?.host } == ["blog.example.org"])
        }
    }

    // MARK: Names

    @Test("The canonical name of another host than the standard one begins with the host")
    func names() {
        func parse(_ text: String, _ host: String) -> String? {
            var text = text
            let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 1)
            defer { room.deallocate() }
            return text.withUTF8 { raw in
                HostName.prefix(host).withUnsafeBytes { prefix in
                    guard
                        let parsed = try? DestinationName.parse(
                            UnsafeRawBufferPointer(raw), bareNamePrefix: "/topic/", byteCountMax: 256,
                            levelCountMax: 16, owner: { "1-2-3-x" }, host: prefix, into: room.baseAddress!)
                    else { return nil }
                    let name = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<parsed.byteCount])
                    #expect(visible(name).count == name.count - prefix.count)
                    #expect(HostName.host(of: name) == (host == "/" ? nil : host))
                    return String(decoding: name, as: UTF8.self)
                }
            }
        }
        for (host, prefix) in [("/", ""), ("shop", "\u{1}shop\u{1}"), ("a.b/c", "\u{1}a.b/c\u{1}")] {
            #expect(parse("/queue/a", host) == prefix + "/queue/a")
            #expect(parse("/amq/queue/a", host) == prefix + "/queue/a")
            #expect(parse("a.#", host) == prefix + "/topic/a.#")
            #expect(parse("/temp-queue/a/b", host) == prefix + "/reply-queue/1-2-3-x-a%2Fb")
            #expect(parse("/reply-queue/1-2-3-x-a", host) == prefix + "/reply-queue/1-2-3-x-a")
            for wrong in ["\u{1}shop\u{1}/queue/a", "/queue/\u{1}", "/topic/a\u{1}b", "\u{1}/topic/a", "\u{1}"] {
                #expect(parse(wrong, host) == nil)
            }
        }
        let name = Array("\u{1}shop\u{1}/queue/a\n".utf8)
        #expect(name.withUnsafeBytes { nameText($0) } == "/queue/a\\x0a (host shop)")
        #expect(Array("/queue/a".utf8).withUnsafeBytes { nameText($0) } == "/queue/a")
        #expect(Array("\u{1}shop/queue/a".utf8).withUnsafeBytes { visible($0).count } == 13, "no prefix that ends")
    }

    @Test(
        "No client can write the prefix of a host", arguments: ["/", "shop"],
        ["\u{1}shop\u{1}/topic/a", "\u{1}shop\u{1}"])
    func forged(_ host: String, _ destination: String) {
        withBroker(Self.options()) { broker in
            for command in [Command.send, .subscribe] {
                let client = Self.connect(broker, to: host)
                client.send(command, [("destination", destination), ("id", "0")])
                client.expectError("Invalid destination")
            }
        }
    }

    // MARK: Isolation

    @Test(
        "A topic is another one with each host, and MESSAGE names it as clients do", arguments: [1, 2, 4],
        Version.allCases)
    func topics(shards: Int, version: Version) {
        withBroker(shards: shards, Self.options()) { broker in
            let subscribers = Self.clients(broker, version)
            for (place, client) in subscribers.enumerated() {
                client.subscribe("/topic/a:b", id: "plain")
                client.subscribe("/topic/a:b", id: "ack", ack: place == 0 ? "client" : "client-individual")
            }
            broker.run()
            for (place, client) in Self.clients(broker, version).enumerated() {
                for body in ["1", "2"] {
                    client.confirmed(.send, [("destination", "/topic/a:b")], "\(place) \(body)")
                    client.confirmed(.send, [("destination", "/exchange/amq.topic/a:b")], "\(place) \(body)")
                }
            }
            for (place, client) in subscribers.enumerated() {
                let messages = client.messages()
                #expect(messages.count == 8 && messages.allSatisfy { $0.text.hasPrefix("\(place) ") })
                let written = Set(messages.compactMap { $0["destination"] })
                #expect(written == ["/topic/a:b", "/exchange/amq.topic/a:b"])
                for message in messages where message["subscription"] == "ack" { client.ack(message) }
            }
        }
    }

    @Test(
        "A pattern matches the topics of its own host alone", arguments: [1, 3],
        [
            "/topic/#", "/topic/>", "/topic/**", "/topic/*", "/topic/*.b", "/topic/#.b", "/topic/a.#", "/topic/a/*",
            "/topic/*/*",
        ])
    func patterns(shards: Int, pattern: String) {
        withBroker(shards: shards, Self.options()) { broker in
            let subscribers = Self.clients(broker)
            for client in subscribers {
                client.subscribe(pattern, id: "plain")
                client.subscribe(pattern, id: "ack", ack: "client")
            }
            broker.run()
            let publishers = Self.clients(broker)
            for topic in ["/topic/a", "/topic/a.b", "/topic/a/c"] {
                for (place, client) in publishers.enumerated() {
                    client.confirmed(.send, [("destination", topic)], "\(place)")
                }
            }
            var counts: Set<Int> = []
            for (place, client) in subscribers.enumerated() {
                let messages = client.messages()
                counts.insert(messages.count)
                #expect(!messages.isEmpty && messages.allSatisfy { $0.text == "\(place)" })
                #expect(messages.allSatisfy { $0["destination"]!.hasPrefix("/topic/a") })
            }
            #expect(counts.count == 1, "each host has the same matches")
        }
    }

    @Test("A queue is another one with each host; what is not acknowledged returns to it", arguments: [1, 2, 4])
    func queues(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            for name in ["a", "b", "c", "d"] {
                let publishers = Self.clients(broker)
                for (place, client) in publishers.enumerated() {
                    client.confirmed(.send, [("destination", "/queue/\(name)")], "\(place)")
                }
                for round in 0..<2 {
                    for (place, client) in Self.clients(broker).enumerated() {
                        client.subscribe("/queue/\(name)", ack: "client")
                        let messages = client.messages()
                        #expect(messages.map(\.text) == ["\(place)"])
                        #expect(messages.map { $0["destination"] } == ["/queue/\(name)"])
                        #expect(messages.map { $0["redelivered"] } == [round == 0 ? nil : "true"])
                        if round == 1 { for message in messages { client.ack(message) } }
                        client.confirmed(.disconnect)
                    }
                }
            }
        }
    }

    @Test("Transactions apply to the host of their session", arguments: [1, 3])
    func transactions(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            let consumers = Self.clients(broker)
            for client in consumers {
                client.subscribe("/queue/a", id: "q")
                client.subscribe("/topic/a", id: "t")
            }
            broker.run()
            for (place, client) in Self.clients(broker).enumerated() {
                client.send(.begin, [("transaction", "1")])
                client.publish("/queue/a", "\(place)", [("transaction", "1")])
                client.publish("/topic/a", "\(place)", [("transaction", "1")])
                client.confirmed(.commit, [("transaction", "1")])
            }
            for (place, client) in consumers.enumerated() { #expect(client.bodies() == ["\(place)", "\(place)"]) }
        }
    }

    @Test("A reply finds its way within the host, and not from another one", arguments: [1, 2, 4])
    func replies(shards: Int) throws {
        try withBroker(shards: shards, Self.options()) { broker in
            let services = Self.clients(broker)
            for client in services { client.subscribe("/queue/service") }
            broker.run()
            for (place, client) in Self.clients(broker).enumerated() {
                for kind in ["queue", "topic"] {
                    let address = "/temp-\(kind)/answers"
                    if kind == "topic" { client.subscribe(address, id: address) }
                    client.publish("/queue/service", "?", [("reply-to", address)])
                    let question = try #require(services[place].messages().first)
                    let reply = try #require(question["reply-to"])
                    #expect(reply.hasPrefix("/reply-\(kind)/"))
                    for (other, service) in services.enumerated() {
                        service.publish(reply, "from \(other)")
                        broker.run()
                    }
                    let answers = client.messages()
                    #expect(answers.map(\.text) == ["from \(place)"])
                    #expect(answers.allSatisfy { $0["subscription"] == address })
                    #expect(answers.allSatisfy { $0["destination"] == reply })
                }
                client.confirmed(.disconnect)
            }
            for service in services { #expect(service.bodies() == []) }
        }
    }

    @Test("ERROR names destinations as clients do, and says of which host")
    func errors() throws {
        let options = Self.options {
            var policy = DestinationPolicy(pattern: "/queue/full")
            policy.queueMessageCountMax = 1
            $0.destinationPolicies = [policy]
            $0.clientsCreateDestinations = false
        }
        try withBroker(queued: 1, options) { broker in
            let client = Self.connect(broker, to: "shop")
            client.confirmed(.send, [("destination", "/queue/full")], "1")
            client.publish("/queue/full", "2")
            let full = try #require(client.expectError("Queue full"))
            #expect(full.text.contains("/queue/full (host shop) is full"))
            let other = Self.connect(broker, to: "shop")
            other.publish("/queue/other", "2")
            let unknown = try #require(other.expectError("Unknown destination"))
            #expect(unknown.text.contains("'/queue/other (host shop)' is not configured"))
            for text in [full.text, unknown.text] { #expect(!text.contains("\u{1}") && !text.contains("\\x01")) }
        }
    }
}
