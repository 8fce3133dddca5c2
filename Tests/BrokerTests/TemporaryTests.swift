import Broker
import STOMP
import Slabs
import Testing

@Suite("Temporary destinations and names")
struct TemporaryTests {
    @Test("reply-to makes a queue that answers reach from any connection", arguments: [1, 2, 8])
    func replyTo(shards: Int) {
        withBroker(shards: shards) { broker in
            let service = broker.connect(on: shards - 1)
            service.confirmed(.subscribe, [("destination", "/queue/service"), ("id", "0")])
            let clients = (0..<3).map { broker.connect(on: $0 % shards) }
            for client in clients {
                client.publish(
                    "/queue/service", "request", [("reply-to", "/temp-queue/answers"), ("correlation-id", "7")])
            }
            let requests = service.messages()
            #expect(requests.count == 3 && Set(requests.map { $0["reply-to"] }).count == 3)
            for request in requests {
                #expect(request["correlation-id"] == "7")
                #expect(request["reply-to"]?.hasPrefix("/reply-queue/") == true)
                service.publish(request["reply-to"]!, "answer to " + request["reply-to"]!)
            }
            for client in clients {
                let answers = client.messages()
                #expect(answers.count == 1)
                #expect(answers.first?["subscription"] == "/temp-queue/answers")
            }
            // The second request uses the same subscription.
            clients[0].publish("/queue/service", "request", [("reply-to", "/temp-queue/answers")])
            let second = service.messages()
            service.publish(second[0]["reply-to"]!, "again")
            #expect(clients[0].bodies() == ["again"])
            // An answer to a client that has left is dropped, and harms nobody.
            clients[1].reset()
            broker.run()
            for request in requests { service.confirmed(.send, [("destination", request["reply-to"]!)], "late") }
            #expect(clients[0].bodies().count + clients[2].bodies().count == 2)
            let thief = broker.connect(on: 0)
            thief.subscribe(requests[0]["reply-to"]!)
            thief.expectError("Access refused")
        }
    }

    @Test("A queue that comes into being between the two steps of a COMMIT to it counts its messages right")
    func madeDuringCommit() {
        withBroker(shards: 2) { broker in
            let committer = broker.connect(on: 0)
            let client = broker.connect(on: 1)
            let owner = broker.shard(1).pointee.temporaryNamePart(of: client.socket.connection)!
            committer.confirmed(.begin, [("transaction", "t")])
            for body in ["1", "2"] {
                committer.publish("/reply-queue/\(owner)-x", body, [("transaction", "t")])
            }
            committer.send(.commit, [("transaction", "t"), ("receipt", "r")])
            broker.turn(0)
            // Says that there is no such queue, and then makes it.
            client.subscribe("/temp-queue/x")
            broker.turn(1)
            broker.run()
            #expect(committer.frame()?["receipt-id"] == "r")
            #expect(client.bodies() == ["1", "2"])
        }
    }

    @Test(
        "A name that was guessed and sent to before it exists does no harm", arguments: ["queue", "topic"],
        [true, false])
    func guessedName(kind: String, byReplyTo: Bool) {
        withBroker { broker in
            let guesser = broker.connect()
            let client = broker.connect()
            let owner = broker.shard(0).pointee.temporaryNamePart(of: client.socket.connection)!
            let name = "/reply-\(kind)/\(owner)-x"
            guesser.confirmed(.send, [("destination", name)], "too early")
            if byReplyTo {
                client.publish("/topic/t", "y", [("reply-to", "/temp-\(kind)/x")])
            } else {
                client.subscribe("/temp-\(kind)/x")
            }
            broker.run()
            guesser.publish(name, "in time")
            #expect(client.bodies() == (byReplyTo && kind == "topic" ? [] : ["in time"]))
        }
    }

    @Test("A temporary destination that was sent to is not evicted while it is being made")
    func notEvictedWhileMade() {
        let options = TestBroker.options { $0.limits.destinationCountMax = 1 }
        withBroker(options) { broker in
            let guesser = broker.connect()
            let client = broker.connect()
            let owner = broker.shard(0).pointee.temporaryNamePart(of: client.socket.connection)!
            guesser.confirmed(.send, [("destination", "/reply-topic/\(owner)-x")], "early")
            client.confirmed(.subscribe, [("destination", "/temp-topic/x"), ("id", "0")])
            guesser.publish("/reply-topic/\(owner)-x", "in time")
            #expect(client.bodies() == ["in time"])
        }
    }

    @Test("Temporary destinations are private to their connection, and bounded", arguments: [1, 2])
    func privacy(shards: Int) {
        let options = TestBroker.options { $0.limits.subscriptionsPerConnectionMax = 10 }
        withBroker(shards: shards, options) { broker in
            let one = broker.connect(on: 0)
            let other = broker.connect(on: shards - 1)
            for client in [one, other] {
                client.subscribe("/temp-queue/x", id: "q")
                client.subscribe("/temp-topic/x", id: "t")
            }
            broker.run()
            one.publish("/temp-queue/x", "mine")
            one.publish("/temp-topic/x", "mine too")
            #expect(Set(one.bodies()) == ["mine", "mine too"])
            #expect(other.bodies() == [])
            for index in 0..<8 { one.publish("/temp-queue/\(index)", "x") }
            #expect(one.bodies() == [])
            one.publish("/temp-queue/too-many", "x")
            one.expectError("Too many destinations")
        }
    }

    @Test("An empty temporary destination that nobody subscribes to makes room for the next", arguments: [1, 2])
    func manyNames(shards: Int) {
        let options = TestBroker.options { $0.limits.subscriptionsPerConnectionMax = 10 }
        withBroker(shards: shards, options) { broker in
            let service = broker.connect(on: shards - 1)
            service.subscribe("/queue/service")
            let client = broker.connect(on: 0)
            client.publish("/temp-queue/kept", "kept")
            for index in 0..<25 {
                for kind in ["queue", "topic"] {
                    client.subscribe("/temp-\(kind)/\(index)")
                    client.publish("/temp-\(kind)/\(index)", "\(index)")
                    #expect(client.bodies() == ["\(index)"])
                    client.confirmed(.unsubscribe, [("id", "0")])
                }
                let name = "/temp-queue/reply-\(index)"
                client.publish("/queue/service", "x", [("reply-to", name)])
                service.publish(service.messages()[0]["reply-to"]!, "answer")
                #expect(client.messages().map { $0["subscription"] } == [name])
                client.confirmed(.unsubscribe, [("id", name)])
                // No subscription, and nothing sent: an address for later.
                client.publish("/topic/t", "x", [("reply-to", "/temp-topic/later-\(index)")])
            }
            // What holds a message was not forgotten, nor were names of those that were.
            client.subscribe("/temp-queue/kept")
            #expect(client.bodies() == ["kept"])
            client.subscribe("/temp-queue/0", id: "again")
            client.publish("/temp-queue/0", "again")
            #expect(client.bodies() == ["again"])
        }
    }

    @Test("A reply address whose queue made room reaches it when it is there again", arguments: [1, 2])
    func forgottenReplyQueue(shards: Int) {
        let options = TestBroker.options { $0.limits.subscriptionsPerConnectionMax = 2 }
        withBroker(shards: shards, options) { broker in
            let service = broker.connect(on: shards - 1)
            service.subscribe("/queue/service")
            let client = broker.connect(on: 0)
            client.publish("/queue/service", "x", [("reply-to", "/temp-queue/a")])
            let address = service.messages()[0]["reply-to"]!
            client.confirmed(.unsubscribe, [("id", "/temp-queue/a")])
            for name in ["b", "c", "d"] {
                client.confirmed(.subscribe, [("destination", "/temp-queue/" + name), ("id", name)])
                client.confirmed(.unsubscribe, [("id", name)])
            }
            service.confirmed(.send, [("destination", address)], "too late")
            client.subscribe("/temp-queue/a")
            broker.run()
            service.publish(address, "in time")
            #expect(client.bodies() == ["in time"])
        }
    }

    @Test("What a SEND replies to does not make room for what it goes to")
    func replyToStays() {
        let options = TestBroker.options { $0.limits.subscriptionsPerConnectionMax = 1 }
        withBroker(options) { broker in
            let client = broker.connect()
            client.publish("/temp-topic/t", "x", [("reply-to", "/temp-topic/r"), ("receipt", "r")])
            client.expectError("Too many destinations", receipt: "r")
        }
    }

    @Test("A reply address works however long the temporary name is")
    func longName() {
        withBroker { broker in
            let service = broker.connect()
            service.subscribe("/queue/service")
            let client = broker.connect()
            let name = "/temp-queue/" + String(repeating: "n", count: 244)
            client.publish("/queue/service", "x", [("reply-to", name)])
            let request = service.messages()[0]
            service.publish(request["reply-to"]!, "answer")
            #expect(client.bodies() == ["answer"])
        }
    }

    @Test("Aliases and bare names mean the canonical name, and MESSAGE repeats what was written", arguments: [1, 2])
    func aliases(shards: Int) {
        withBroker(shards: shards) { broker in
            let client = broker.connect(on: 0)
            let names = [
                "/queue/a": ["/amq/queue/a", "/queue/a"],
                "/topic/a": ["/exchange/amq.topic/a", "a", "/topic/a"],
            ]
            for (canonical, aliases) in names {
                client.subscribe(canonical)
                broker.run()
                for alias in aliases {
                    for ack in [nil, "client"] {
                        let other = broker.connect(on: shards - 1)
                        if canonical == "/topic/a" { other.subscribe(alias, ack: ack) }
                        broker.run()
                        client.publish(alias, alias)
                        client.publish(alias, alias)
                        #expect(client.messages().map { $0["destination"] } == [alias, alias])
                        if canonical == "/topic/a" {
                            #expect(other.messages().map { $0["destination"] } == [alias, alias])
                        }
                        other.send(.disconnect)
                        broker.run()
                    }
                }
                client.confirmed(.unsubscribe, [("id", "0")])
            }
        }
    }

    @Test("A message of an alias goes to the dead letters with one destination")
    func aliasOfDeadLetter() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/a", ack: "client")
            client.subscribe("/queue/DLQ", id: "dead")
            client.publish("/amq/queue/a", "x", [("k", "v")])
            client.ack(client.messages()[0], [("requeue", "false")], nack: true)
            let dead = client.messages()[0]
            #expect(dead.headers.filter { $0.name == "destination" }.map(\.value) == ["/queue/DLQ"])
            #expect(dead["original-destination"] == "/queue/a" && dead["k"] == "v" && dead.text == "x")
        }
    }

    @Test("In 1.0 a subscription goes by its destination, however that is written")
    func unsubscribeByDestination() {
        withBroker { broker in
            let client = broker.connect(.v1_0)
            client.send(.subscribe, [("destination", "a")])
            client.publish("/topic/a", "1")
            let message = client.messages()
            #expect(message.map(\.text) == ["1"] && message[0]["subscription"] == nil)
            client.confirmed(.unsubscribe, [("destination", "a")])
            client.subscribe("a", id: "7")
            client.confirmed(.unsubscribe, [("destination", "a")])
            client.publish("/topic/a", "2")
            #expect(client.bodies() == [])
            client.send(.unsubscribe, [("destination", "a")])
            client.expectError("Subscription not found")
        }
    }

    @Test(
        "Bad names are refused",
        arguments: [
            ("/foo/bar", "Unknown destination"), ("/exchange/other/x", "Unknown destination"),
            ("/queue/", "Invalid destination"), ("/queue", "Invalid destination"), ("/", "Invalid destination"),
            ("/exchange/amq.topic", "Invalid destination"), ("/queues", "Unknown destination"),
            ("/dsub/x", "Invalid destination"), ("/dsub", "Unknown destination"),
            ("/queue/a.*", "Invalid destination"), ("/amq/queue/a.#", "Invalid destination"),
            ("/queue/>", "Invalid destination"), ("/queue/a/**", "Invalid destination"),
            ("", "Invalid destination"), ("/topic/a\u{1}", "Invalid destination"),
            ("/reply-queue/x", "Unknown destination"),
            ("/reply-queue/99-1-1-x", "Unknown destination"),
            ("/reply-queue/99999999999999999999-1-1-x", "Unknown destination"),
            ("/topic/*", "Invalid destination"),
            ("/topic/" + String(repeating: "x", count: 250), "Invalid destination"),
        ])
    func badNames(name: String, message: String) {
        withBroker { broker in
            let client = broker.connect()
            client.publish(name, "x", [("receipt", "r")])
            client.expectError(message, receipt: "r")
        }
    }

    @Test("Long ids and names fit, with tiny and with huge limits", arguments: [128, 8192, 65_535])
    func longIds(headerByteCountMax: Int) {
        let options = TestBroker.options {
            $0.limits.headerByteCountMax = headerByteCountMax
            $0.limits.headersByteCountMax = 1 << 18
            $0.limits.destinationNameByteCountMax = min(1024, headerByteCountMax - 20)
            $0.limits.subscriptionIdByteCountMax = 32_000
        }
        withBroker(options) { broker in
            let client = broker.connect()
            // Raw colons are accepted in values, and take two bytes when the broker writes them.
            let id = String(repeating: ":", count: min(headerByteCountMax - 3, 32_000))
            let name = "/topic/" + String(repeating: ":", count: min(1024, headerByteCountMax - 20) - 7)
            client.write("SUBSCRIBE\nid:\(id)\ndestination:\(name)\nack:client\n\n\0")
            client.write("SEND\ndestination:\(name)\n\nx\0")
            #expect(client.messages().map { $0["subscription"] } == [id])
            let queue = "/queue/" + String(repeating: ":", count: min(1024, headerByteCountMax - 20) - 7)
            client.write("SUBSCRIBE\nid:0\ndestination:\(queue)\nack:client\n\n\0")
            client.write("SEND\ndestination:\(queue)\n\nx\0")
            guard let message = client.messages().first else { return #expect(Bool(false), "no message") }
            client.ack(message, [("requeue", "false")], nack: true)
            client.subscribe("/queue/DLQ", id: "dead")
            #expect(client.messages().first?["original-destination"] == queue)
        }
    }
}
