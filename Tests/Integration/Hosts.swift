import TestSupport
import Testing

/// Virtual hosts on a broker with real sockets, a users file and a store.
extension Integration {
    @Suite("Virtual hosts")
    struct Hosts {
        private static let hash = "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"

        private static let hosts = """
            hosts:
              - name: /
                aliases: [localhost]
              - name: shop
                connections-max: 3
              - blog

            """

        private static let users = """
            users:
              alice: {hash: "\(hash)", roles: [client], hosts: [shop, blog]}
              bob: {hash: "\(hash)", roles: [client]}
            roles:
              client: {publish: "#", subscribe: "#"}

            """

        private func client(
            _ broker: BrokerProcess, _ host: String?, _ login: String? = nil
        ) throws -> RawClient {
            let client = try RawClient(broker)
            let lines = (host.map { "host:\($0)\n" } ?? "") + (login.map { "login:\($0)\npasscode:secret\n" } ?? "")
            try client.send("CONNECT\naccept-version:1.2\n\(lines)\n\0")
            try client.expectConnected(.v1_2)
            return client
        }

        private func expectRefusal(
            _ broker: BrokerProcess, _ host: String, _ login: String, _ message: String, _ text: String
        ) throws {
            let client = try RawClient(broker)
            try client.send("CONNECT\naccept-version:1.2\nhost:\(host)\nlogin:\(login)\npasscode:secret\n\n\0")
            let error = try client.expectError(message)
            #expect(error.text.contains(text), "\(error.text)")
        }

        @Test(arguments: drivers, [1, 3])
        func `Users meet those of their own host, and may not use others`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let file = try TemporaryFile(holding: Self.users, suffix: ".yaml")
            let broker = try BrokerProcess(
                .init(driver, workers: workers, ["access.users": file.path], file: Self.hosts))
            let shop = try client(broker, "shop", "alice")
            let blog = try client(broker, "blog", "alice")
            let plain = try client(broker, nil, "bob")
            for client in [shop, blog, plain] {
                try client.perform("SUBSCRIBE", ["destination": "/topic/#", "id": "all"])
                try client.perform("SUBSCRIBE", ["destination": "/queue/orders", "id": "orders"])
            }
            for (name, host, login) in [
                ("shop", "shop", "alice"), ("blog", "blog", "alice"), ("plain", "localhost", "bob"),
            ] {
                let publisher = try client(broker, host, login)
                try publisher.perform("SEND", ["destination": "/topic/news"], body: name)
                try publisher.perform("SEND", ["destination": "/queue/orders"], body: name)
                try publisher.disconnect()
            }
            for (client, name) in [(shop, "shop"), (blog, "blog"), (plain, "plain")] {
                let messages = try [client.expectMessage(), client.expectMessage()]
                #expect(messages.map(\.text) == [name, name])
                #expect(Set(messages.map { $0["destination"] }) == ["/topic/news", "/queue/orders"])
                try client.disconnect()
            }
            try expectRefusal(broker, "blog", "bob", "access refused", "user 'bob' may not use the virtual host 'blog'")
            try expectRefusal(broker, "/", "alice", "access refused", "user 'alice' may not use the virtual host '/'")
            try expectRefusal(broker, "other", "bob", "bad connect", "the header host is 'other'")
            let more = try (0..<3).map { _ in try client(broker, "shop", "alice") }
            try expectRefusal(broker, "shop", "alice", "too many connections", "the virtual host 'shop' may have 3")
            let counters = try broker.counters(workers: workers)
            #expect(counters["logins-refused"] == 4 && counters["limit.hosts.connections-max"] == 1, "\(counters)")
            let line = try broker.process.errorLine { $0.contains("login refused") && $0.contains("login=bob") }
            #expect(line?.contains("host=blog") == true, "\(line ?? "")")
            let sums = try broker.process.errorLine { $0.contains("counters of all workers") }
            #expect(sums?.contains("host.shop.connections=3") == true, "\(sums ?? "")")
            #expect(sums?.contains("host.blog.connections") == false)
            for client in more { try client.disconnect() }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `What a host has stored waits for it while it is not configured`(on driver: DriverUnderTest) throws {
            let directory = try TemporaryFolder()
            func start(_ file: String) throws -> BrokerProcess {
                try BrokerProcess(.init(driver, workers: 2, ["storage.directory": directory.path], file: file))
            }
            var broker = try start(Self.hosts)
            for host in ["/", "shop", "blog"] {
                let client = try client(broker, host)
                for number in 0..<3 {
                    try client.perform(
                        "SEND", ["destination": "/queue/orders", "persistent": "true"], body: "\(host) \(number)")
                }
                try client.disconnect()
            }
            #expect(try broker.terminate() == .exited(0))
            broker = try start("hosts: [blog]\n")
            let line = try broker.process.errorLine { $0.contains("which is not among the hosts") }
            #expect(
                line?.contains("virtual host shop") == true && line?.contains("messages=3") == true, "\(line ?? "")")
            #expect(try broker.terminate() == .exited(0))
            broker = try start(Self.hosts)
            for host in ["/", "shop", "blog"] {
                let client = try client(broker, host)
                try client.send("SUBSCRIBE", ["destination": "/queue/orders", "id": "0", "ack": "auto"])
                for number in 0..<3 { #expect(try client.expectMessage().text == "\(host) \(number)") }
                try client.disconnect()
            }
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
