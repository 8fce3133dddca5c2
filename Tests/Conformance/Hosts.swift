import TestSupport
import Testing

/// The header `host` of CONNECT on a broker with virtual hosts (STOMP 1.1 and 1.2, section CONNECT).
@Suite("Virtual hosts")
struct Hosts {
    private static let file = """
        hosts:
          - name: /
            aliases: [localhost]
          - name: shop
          - name: blog.example.org
            aliases: [blog]
        default-host: shop

        """

    private func connect(
        _ driver: DriverUnderTest, _ host: String?, _ version: ProtocolVersion = .v1_2
    ) throws -> RawClient {
        let client = try RawClient(driver.broker([:], file: Self.file))
        let line = host.map { "host:\($0)\n" } ?? ""
        let versions = version == .v1_0 ? "" : "accept-version:\(version.rawValue)\n"
        try client.send("CONNECT\n\(versions)\(line)\n\0")
        try client.expectConnected(version)
        return client
    }

    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A client hears what is said with its host, by whichever of its names, and nothing else`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let topic = "/topic/hosts.\(version.rawValue)"
        // Without a host it is the default one: "shop".
        let groups: [[String?]] = [["/", "localhost"], ["shop", nil, ""], ["blog.example.org", "blog"]]
        let subscribers = try groups.map { try connect(driver, $0[0], version) }
        for client in subscribers {
            try client.subscribe(to: topic, id: "name")
            // Not /topic/#, for the cases share the broker.
            try client.subscribe(to: "\(topic).#", id: "pattern", ack: "client")
            try client.subscribe(to: "/queue/hosts.\(version.rawValue)", id: "queue")
        }
        for names in groups {
            for name in names {
                let publisher = try connect(driver, name, version)
                try publisher.publish(to: topic, "\(names[0]!) as \(name ?? "nobody")")
                try publisher.publish(to: "/queue/hosts.\(version.rawValue)", "\(names[0]!) as \(name ?? "nobody")")
                try publisher.disconnect()
            }
        }
        for (client, names) in zip(subscribers, groups) {
            var heard: [String: [String]] = [:]
            for _ in 0..<names.count * 3 {
                let message = try client.expectMessage()
                heard[message["subscription"] ?? "", default: []].append(message.text)
                #expect(message["destination"]?.hasSuffix("/hosts.\(version.rawValue)") == true)
            }
            let expected = names.map { "\(names[0]!) as \($0 ?? "nobody")" }
            #expect(heard == ["name": expected, "pattern": expected, "queue": expected])
            try client.disconnect()
        }
    }

    @Test(arguments: drivers, ["no.such.host.example", "Shop", "a b", "127.0.0.1:61613", "*"])
    func `A host that is not there is ERROR, and the connection ends`(
        on driver: DriverUnderTest, _ host: String
    ) throws {
        let client = try RawClient(driver.broker([:], file: Self.file))
        try client.send("CONNECT\naccept-version:1.2\nhost:\(host)\n\n\0SEND\ndestination:/topic/a\n\nx\0")
        let error = try client.expectError("Bad CONNECT")
        #expect(error.text.contains("the header host is '\(host)'"), "\(error.text)")
    }

    @Test(arguments: drivers)
    func `An answer to reply-to stays within the host`(on driver: DriverUnderTest) throws {
        let service = try connect(driver, "blog")
        try service.subscribe(to: "/queue/hosts.service")
        let client = try connect(driver, "blog")
        try client.send("SEND", ["destination": "/queue/hosts.service", "reply-to": "/temp-queue/a"], body: "?")
        let address = try service.expectMessage()["reply-to"] ?? ""
        let stranger = try connect(driver, "shop")
        try stranger.publish(to: address, "from a stranger")
        try service.publish(to: address, "from the service")
        try client.expectMessage("from the service", ["subscription": "/temp-queue/a", "destination": address])
        for client in [service, client, stranger] { try client.disconnect() }
    }
}
