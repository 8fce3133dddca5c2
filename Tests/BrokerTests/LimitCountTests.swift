import Broker
import FakeKernel
import STOMP
import Testing

/// For each limit that acts, a client that runs into it.
@Suite("Limits are counted")
struct LimitCountTests {
    /// What leads to a limit: the options that make it near, and what clients do.
    struct Way: Sendable {
        var options: @Sendable (inout BrokerOptions) -> Void = { _ in }
        var shards = 1
        var connectionCountMax = 256
        var hasDisk = false
        var walk: @Sendable (TestBroker) -> Void
    }

    @Test("Each limit that has acted is counted, once for each time", arguments: LimitKind.allCases)
    func counted(_ limit: LimitKind) {
        let way = Self.way(to: limit)
        let broker = TestBroker(
            shards: way.shards, connectionCountMax: way.connectionCountMax, disk: way.hasDisk ? FakeDisk() : nil,
            TestBroker.options(way.options))
        #expect(broker.counters.limits[limit] == 0)
        way.walk(broker)
        broker.run()
        #expect(broker.counters.limits[limit] == 1, "\(limit.key)")
    }

    @Test("No two limits have one key")
    func keysDiffer() {
        #expect(Set(LimitKind.allCases.map(\.key)).count == LimitKind.allCases.count)
    }

    private static func way(to limit: LimitKind) -> Way {
        switch limit {
        case .preConnectBytes, .connectTimeout, .commandBytes, .headers, .headerBytes, .headersBytes, .bodyBytes,
            .frameTimeout:
            frameWay(to: limit)
        case .connections, .connectionsPerAddress, .connectionsPerSecond, .subscriptionsPerConnection,
            .subscriptionIdBytes, .transactionsPerConnection, .transactionSize, .transactionTimeout, .linger:
            connectionWay(to: limit)
        case .outputBytes, .outputStall, .destinations, .destinationsPerConnection, .destinationsPerAddress,
            .destinationName, .destinationLevels, .patterns, .retainedMessages, .durableSubscriptions,
            .queue, .messageMemory, .mailbox, .queuedMessages, .subscriptions:
            flowWay(to: limit)
        case .delayedMessages, .deduplicationIDs: optionWay(to: limit)
        case .hostConnections, .hostSubscriptions: hostWay()
        case .hostStorage: hostStorageWay()
        }
    }

    // MARK: Hosts

    /// To the one limit with the second connection, to the other with the second subscription of the first.
    private static func hostWay() -> Way {
        Way(options: {
            $0.hosts = [HostOptions(name: "test")]
            $0.hosts[0].connectionCountMax = 1
            $0.hosts[0].subscriptionCountMax = 1
        }) {
            let client = $0.connect()
            $0.accept().send(.connect, [("accept-version", "1.2"), ("host", "test")])
            $0.run()
            client.subscribe("/topic/a", id: "1")
            client.subscribe("/topic/a", id: "2")
        }
    }

    private static func hostStorageWay() -> Way {
        Way(
            options: {
                $0.hosts = [HostOptions(name: "test")]
                $0.hosts[0].storedByteCountMax = 1
                $0.storage = StorageOptions(directory: Array("/store".utf8), life: 1)
            }, hasDisk: true
        ) { $0.connect().publish("/queue/a", "x", [("persistent", "true")]) }
    }

    // MARK: Options of SEND

    private static func optionWay(to limit: LimitKind) -> Way {
        let header = limit == .delayedMessages ? ("x-delay", "1000") : ("x-deduplication-id", "1")
        return Way(options: {
            $0.limits.delayedMessageCountMax = 1
            $0.limits.deduplicationIDCountMax = 1
        }) {
            let client = $0.connect()
            client.publish("/queue/a", "x", [header])
            client.publish("/queue/b", "x", [header])
        }
    }

    // MARK: Frames

    private static func frameWay(to limit: LimitKind) -> Way {
        switch limit {
        case .preConnectBytes:
            Way {
                let line = "login:\(String(repeating: "x", count: 3_000))\n"
                $0.accept().write("CONNECT\n\(line)\(line)\(line)")
            }
        case .connectTimeout:
            Way {
                _ = $0.accept()
                $0.advance(milliseconds: 6_000)
            }
        case .commandBytes:
            Way(options: { $0.limits.commandByteCountMax = 2 }) { $0.accept().write("CONNECT\n\n\0") }
        case .headers:
            Way {
                let headers = (0..<100).map { "h\($0):x\n" }.joined()
                $0.connect().write("SEND\ndestination:/topic/a\n\(headers)\n\0")
            }
        case .headerBytes:
            Way { $0.connect().write("SEND\nh:\(String(repeating: "x", count: 9_000))\n\n\0") }
        case .headersBytes:
            Way {
                let headers = (0..<10).map { "h\($0):\(String(repeating: "x", count: 5_000))\n" }.joined()
                $0.connect().write("SEND\n\(headers)\n\0")
            }
        case .bodyBytes:
            Way { $0.connect().write("SEND\ndestination:/topic/a\ncontent-length:1048577\n\n") }
        default:
            Way {
                $0.connect().write("SEND\ndestination:/topic/a\n\n")
                $0.advance(milliseconds: 31_000)
            }
        }
    }

    // MARK: Connections

    private static func connectionWay(to limit: LimitKind) -> Way {
        switch limit {
        case .connections:
            Way(connectionCountMax: 1) {
                _ = $0.connect()
                _ = $0.accept()
            }
        case .connectionsPerAddress:
            Way(options: { $0.limits.connectionsPerAddressMax = 1 }) {
                _ = $0.accept(address: 7)
                _ = $0.accept(address: 7)
            }
        case .connectionsPerSecond:
            Way(options: { $0.limits.connectionsPerSecondMax = 1 }) {
                _ = $0.accept()
                _ = $0.accept()
            }
        case .subscriptionsPerConnection:
            Way(options: { $0.limits.subscriptionsPerConnectionMax = 1 }) {
                let client = $0.connect()
                client.subscribe("/topic/a", id: "1")
                client.subscribe("/topic/a", id: "2")
            }
        case .subscriptionIdBytes:
            Way { $0.connect().subscribe("/topic/a", id: String(repeating: "x", count: 300)) }
        case .transactionsPerConnection:
            Way(options: { $0.limits.transactionsPerConnectionMax = 1 }) {
                let client = $0.connect()
                client.send(.begin, [("transaction", "1")])
                client.send(.begin, [("transaction", "2")])
            }
        case .transactionSize:
            Way(options: { $0.limits.framesPerTransactionMax = 1 }) {
                let client = $0.connect()
                client.send(.begin, [("transaction", "1")])
                client.publish("/queue/a", "x", [("transaction", "1")])
                client.publish("/queue/a", "x", [("transaction", "1")])
            }
        case .transactionTimeout:
            Way {
                $0.connect().send(.begin, [("transaction", "1")])
                $0.advance(milliseconds: 61_000)
            }
        default:
            // It is told that it made a mistake, and does not close.
            Way {
                $0.connect().write("nonsense\n\n\0")
                $0.advance(milliseconds: 4_000)
            }
        }
    }

    // MARK: Flow and memory

    private static func flowWay(to limit: LimitKind) -> Way {
        switch limit {
        case .outputBytes:
            Way(options: { $0.limits.outputByteCountMax = 5_000 }) {
                sleeper($0)
                $0.connect().publish("/topic/a", String(repeating: "x", count: 6_000))
            }
        case .outputStall:
            Way {
                sleeper($0)
                $0.connect().publish("/topic/a", "x")
                $0.advance(milliseconds: 11_000)
            }
        case .destinations:
            Way(options: { $0.limits.destinationCountMax = 1 }) {
                let client = $0.connect()
                client.publish("/queue/a", "x")
                client.publish("/queue/b", "x")
            }
        case .destinationsPerConnection:
            Way(options: { $0.limits.destinationsPerConnectionMax = 1 }) {
                let client = $0.connect()
                client.publish("/queue/a", "x")
                client.publish("/queue/b", "x")
            }
        case .destinationsPerAddress:
            Way(options: { $0.limits.destinationsPerAddressMax = 1 }) {
                let client = $0.accept(address: 7)
                client.connect()
                client.publish("/queue/a", "x")
                client.publish("/queue/b", "x")
            }
        case .destinationName:
            Way { $0.connect().publish("/queue/" + String(repeating: "a", count: 300), "x") }
        case .destinationLevels:
            Way { $0.connect().publish("/queue/" + String(repeating: "a.", count: 40), "x") }
        case .patterns:
            Way(options: { $0.limits.patternCountMax = 1 }) {
                let client = $0.connect()
                client.subscribe("/topic/a.#", id: "1")
                client.subscribe("/topic/b.#", id: "2")
            }
        case .retainedMessages:
            Way(options: { $0.limits.retainedMessageCountMax = 1 }) {
                let client = $0.connect()
                client.publish("/topic/a", "x", [("retain", "set")])
                client.publish("/topic/b", "x", [("retain", "set")])
            }
        case .durableSubscriptions:
            Way(options: { $0.limits.durableSubscriptionCountMax = 1 }) {
                let client = $0.connect()
                client.subscribe("/topic/a", id: "1", [("durable", "true")])
                client.subscribe("/topic/a", id: "2", [("durable", "true")])
            }
        case .queue:
            Way(options: {
                var policy = DestinationPolicy(pattern: "/queue/#")
                policy.queueMessageCountMax = 1
                $0.destinationPolicies = [policy]
            }) {
                let client = $0.connect()
                client.publish("/queue/a", "x")
                client.publish("/queue/a", "x")
            }
        case .messageMemory:
            Way(options: { $0.limits.messageMemoryByteCountMax = 1 << 20 }) {
                let client = $0.connect()
                for _ in 0..<12 { client.publish("/queue/a", String(repeating: "x", count: 100_000)) }
            }
        case .queuedMessages:
            Way(options: { $0.limits.queuedMessageCountMax = 10 }) {
                let client = $0.connect()
                for _ in 0..<11 { client.publish("/queue/a", "x") }
            }
        case .mailbox:
            Way(options: { $0.limits.mailboxByteCountMax = 1_000 }, shards: 2) {
                let subscriber = $0.connect(on: 1)
                subscriber.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "1")])
                let publisher = $0.connect(on: 0)
                publisher.publish("/topic/a", String(repeating: "x", count: 2_000))
                // The other worker does not read its peer messages.
                $0.turn(0)
                $0.turn(0)
                publisher.publish("/topic/a", "x")
                $0.turn(0)
            }
        default:
            Way(options: { $0.limits.subscriptionCountMax = 1 }) {
                let client = $0.connect()
                client.subscribe("/topic/a", id: "1")
                client.subscribe("/topic/b", id: "2")
            }
        }
    }

    /// A subscriber of `/topic/a` whose socket is full.
    private static func sleeper(_ broker: TestBroker) {
        let client = broker.connect()
        client.subscribe("/topic/a")
        broker.run()
        client.socket.room = 0
    }
}
