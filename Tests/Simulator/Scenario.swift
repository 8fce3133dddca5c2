import Broker

/// What one run is made of, all of it drawn from the seed: shards, limits, destinations, habits of clients, faults.
struct Scenario {
    /// Of the broker's present life.
    var shardCount: Int
    let eventCount: Int
    let connectionsPerShardMax: Int
    /// Clients that are connected at the same time, and in all.
    let peerCountMax: Int
    let peersInAllMax: Int
    let options: BrokerOptions
    /// nil: the broker stores nothing and does not crash.
    let storage: StorageScenario?
    /// nil: no topic keeps a log, and nobody retains.
    let logs: LogScenario?
    /// nil: there are no virtual hosts.
    let hosts: HostScenario?
    /// nil: connections carry STOMP as it is.
    let transports: TransportScenario?
    /// Chances of faults in thousandths, by `Fault`.
    var faults: [Int]
    /// What a client may do, by `Deed`, as weights.
    let deeds: [Int]
    let topics: [String]
    let patterns: [String]
    let queues: [String]
    /// Where dead letters go; nil: nowhere.
    let deadLetters: String?
    let bodyByteCountMax: Int
    let socketByteCounts: ClosedRange<Int>
    /// Messages may be lost for want of memory.
    let memoryIsTight: Bool
    /// Output limits are so low that honest clients may be cut.
    let outputIsTight: Bool
    let destinationsAreTight: Bool
    let connectionsAreTight: Bool
    let queuesAreTight: Bool
    let overflow: OverflowPolicy
    let deliveryCountMax: Int
    /// Life of a queue's message that the policy grants, in milliseconds. 0: for ever.
    let messageMillisecondsMax: UInt64
    let heartBeats: Bool
    let expires: Bool
    /// Clients with something to do at the same time work in bursts of so many frames.
    let burst: Int
    let drains: Bool
    let transactionsAreTight: Bool
    let subscriptionsAreTight: Bool
    let framesAreTight: Bool
    let ratesAreTight: Bool
    /// Connections per address are limited.
    let addressesAreTight: Bool
    let patternsAreTight: Bool
    /// A client may fill few queues that nobody subscribes to.
    let holdersAreTight: Bool
    /// Somebody is asked whether a client may connect.
    let authenticates: Bool
    /// What clients may do. nil: anything.
    let access: AccessPlan?
    /// Receipts wait for a log and for permission.
    let receiptsWait: Bool
    /// Messages are delayed, or have an id by which they are taken once.
    let delays: Bool
    /// Clients have durable subscriptions.
    let hasDurables: Bool
    /// A queue that nobody uses for so long loses its messages, in milliseconds. 0: never.
    let idleWithMessagesMilliseconds: UInt64

    /// What a client does next.
    enum Deed: Int, CaseIterable {
        case publish, publishToQueue, subscribe, unsubscribe, acknowledge, refuse, begin, commit, abort, disconnect
        case request, reply, subscribeTemporary, publishToTemporary, idle
    }

    /// - Parameter stores: the broker has a disk, and crashes. What is not about that is tight in fewer ways then.
    init(_ random: inout Random, stores: Bool = false, mode: Simulation.Mode = .plain) {
        // What is mixed is about what workers tell each other.
        let shardCounts = mode == .mixed ? [1, 2, 2, 2, 2, 3, 3, 3, 4, 8] : [1, 1, 1, 2, 2, 2, 3, 3, 4, 8]
        let shards = shardCounts[random.below(10)]
        hasDurables = mode == .durable || mode == .mixed
        let isRoomy = stores || hasDurables || mode == .hosts
        let length = random.range(100...600)
        let fillsSegments = stores && mode == .plain && length % 10 == 0
        eventCount = length * (fillsSegments ? 18 : stores ? 3 : 1)
        peerCountMax = random.range(2...10)
        let wantsTightConnections = random.chance(170) && !isRoomy
        let wantsTightDestinations = random.chance(60) && !isRoomy
        let wantsTightSubscriptions = random.chance(100) && !isRoomy
        let wantsTightRates = random.chance(30) && !isRoomy
        memoryIsTight = random.chance(120) && !isRoomy
        queuesAreTight = random.chance(300)
        overflow = random.pick([.reject, .dropOldest, .block])
        // Publishers who are made to wait need someone who makes room: the drainer must get in.
        let needsDrainer = memoryIsTight || (queuesAreTight && overflow == .block)
        connectionsAreTight = wantsTightConnections && !needsDrainer
        destinationsAreTight = wantsTightDestinations && !needsDrainer
        subscriptionsAreTight = wantsTightSubscriptions && !needsDrainer
        ratesAreTight = wantsTightRates && !needsDrainer
        // Where there is no room here, connections are handed on: that takes two workers at least, and many newcomers.
        connectionsPerShardMax = connectionsAreTight ? random.range(1...3) : 32
        shardCount = connectionsAreTight ? max(shards, 2) : shards
        peersInAllMax = random.range(4...24) + (connectionsAreTight ? 20 : 0) + (stores ? 60 : 0)
        addressesAreTight = random.chance(100) && !isRoomy
        patternsAreTight = random.chance(60) && !hasDurables

        outputIsTight = random.chance(120) && !isRoomy
        transactionsAreTight = random.chance(100)
        framesAreTight = random.chance(100)
        drains = random.chance(140) && !isRoomy
        delays = mode == .delays || mode == .mixed
        heartBeats = random.chance(300)
        expires = random.chance(200)
        burst = random.pick(stores ? [2, 4, 8, 8, 16] : [1, 1, 2, 4, 8])
        deliveryCountMax = random.pick([0, 0, 2, 3, 10])
        // Each host would have its own.
        deadLetters = random.chance(700) && mode != .hosts ? "/queue/DLQ" : nil
        transports = mode == .transports ? TransportScenario(&random) : nil
        let isLong = transports?.isLong == true && !memoryIsTight && !stores
        bodyByteCountMax =
            isLong ? 150_000 : memoryIsTight ? 400 : random.pick([16, 200, 200, 2000, stores ? 2000 : 5000])
        socketByteCounts =
            isLong ? 100_000...1 << 20 : random.pick([64...512, 512...4096, 4096...65536, 65536...65536])

        var limits = Limits()
        limits.connectionCountMax = connectionsPerShardMax
        limits.queuedMessageCountMax = 8192
        limits.subscriptionCountMax = 512
        limits.destinationCountMax = destinationsAreTight ? random.range(3...8) : 500
        limits.messageMemoryByteCountMax = memoryIsTight ? random.range(12...60) * 1024 : 64 << 20
        limits.mailboxByteCountMax = random.pick([1, 200, 4000, 1 << 20])
        limits.prefetchCountMax = random.pick([1, 2, 5, 1000])
        limits.prefetchByteCountMax = random.pick([1, 500, 8 << 20])
        if outputIsTight {
            limits.outputByteCountMax = random.range(2000...40_000)
        }
        limits.outputStallMillisecondsMax = random.pick([2000, 10_000])
        if transactionsAreTight {
            limits.transactionsPerConnectionMax = random.range(1...2)
            limits.framesPerTransactionMax = random.range(1...4)
            limits.transactionByteCountMax = random.range(300...2000)
        }
        if subscriptionsAreTight { limits.subscriptionsPerConnectionMax = random.range(1...3) }
        if framesAreTight {
            limits.bodyByteCountMax = random.range(50...1000)
            limits.headerCountMax = random.range(8...12)
            limits.headerByteCountMax = random.range(64...200)
            limits.headersByteCountMax = random.range(200...400)
            limits.preConnectByteCountMax = random.range(150...300)
        }
        if addressesAreTight { limits.connectionsPerAddressMax = random.range(1...3) }
        if patternsAreTight { limits.patternCountMax = random.range(1...3) }
        if ratesAreTight { limits.connectionsPerSecondMax = random.range(2...5) }
        limits.heartBeatSendMilliseconds = random.pick([0, 20, 100, 1000])
        limits.heartBeatReceiveMilliseconds = random.pick([0, 20, 100, 1000])
        limits.drainMillisecondsMax = random.pick([100, 5000])
        var options = BrokerOptions()
        options.limits = limits
        options.seed = random.next()
        options.zeroCopyByteCountMin = random.pick([0, 0, 1, 100, 1000])

        // Drawn apart, so that seeds of scenarios without these stay what they are.
        var apart = Random(seed: ~options.seed)
        holdersAreTight = apart.chance(200) && !isRoomy
        if holdersAreTight { options.limits.destinationsPerConnectionMax = apart.range(1...2) }
        idleWithMessagesMilliseconds = apart.chance(60) && !isRoomy ? apart.pick([100, 1000]) : 0
        let idleMilliseconds = apart.pick([20, 300_000])
        let asksSomebody = apart.chance(150) && !isRoomy
        authenticates = asksSomebody || mode == .permissions
        if authenticates { options.authentication = .external }
        receiptsWait = apart.chance(150) && !isRoomy
        if receiptsWait { options.receiptConditions = .external }

        let topics = ["/topic/a", "/topic/a.b", "/topic/a.b.c", "/topic/x/y"]
        let patterns = ["/topic/a.*", "/topic/#", "/topic/a.>", "/topic/*.b.**", "/topic/x/*"]
        let queues = (0..<random.range(1...4)).map { "/queue/q\($0)" }
        if mode == .hosts {
            var drawn = Random(seed: options.seed ^ 0x484F_5354_53)
            hosts = HostScenario(&drawn)
        } else {
            hosts = nil
        }
        options.hosts = hosts?.options ?? []
        options.listeners = transports?.options ?? []
        self.topics = hosts?.spread(topics) ?? topics
        self.patterns = hosts?.spread(patterns) ?? patterns
        self.queues = hosts?.spread(queues) ?? queues
        if mode == .permissions {
            var drawn = Random(seed: options.seed ^ 0x4143_4345_5353)
            access = AccessPlan(&drawn, topics: topics, patterns: patterns, queues: queues)
        } else {
            access = nil
        }
        options.access = access?.tables[0].table
        if mode == .logs || mode == .mixed {
            var drawn = Random(seed: options.seed ^ 0x4C4F_4753)
            logs = LogScenario(
                &drawn, topics: topics, memoryIsTight: memoryIsTight, hasDurables: hasDurables)
        } else {
            logs = nil
        }
        if let logs { options.destinationPolicies += logs.topics.map { logs.policy(for: $0) } }
        if let deadLetters {
            var policy = DestinationPolicy(pattern: deadLetters)
            policy.deliveryCountMax = 0
            policy.messageMillisecondsMax = 0
            options.destinationPolicies.append(policy)
        }
        var policy = DestinationPolicy(pattern: "/queue/#")
        policy.deliveryCountMax = deliveryCountMax
        policy.deadLetterDestination = deadLetters ?? ""
        policy.deadLettersExpired = random.chance(300)
        policy.overflow = overflow
        if queuesAreTight {
            policy.queueMessageCountMax = random.range(1...10)
            policy.queueByteCountMax = random.pick([1000, 4000, 1 << 20])
        }
        policy.idleMillisecondsMax = idleMilliseconds
        policy.idleWithMessagesMillisecondsMax = Int(idleWithMessagesMilliseconds)
        policy.messageMillisecondsMax = expires ? random.pick([0, 0, 50, 600_000]) : 0
        messageMillisecondsMax = UInt64(policy.messageMillisecondsMax)
        // Longer than any run.
        policy.deduplicationMilliseconds = 86_400_000
        options.destinationPolicies.append(policy)
        if hasDurables {
            var policy = DestinationPolicy(pattern: "/topic/#")
            policy.deliveryCountMax = 0
            policy.deadLetterDestination = ""
            options.destinationPolicies.append(policy)
        }
        self.options = options

        // Most runs have a few faults only, so that one does not hide what another would show.
        var faults = [Int](repeating: 0, count: Fault.allCases.count)
        let calm = random.chance(100)
        let share = random.pick([100, 300, 600])
        for fault in Fault.allCases where !calm && random.chance(share) {
            let most: Int =
                switch fault {
                case .readOfOneByte, .readSplit, .shortSend, .sendWouldBlock, .completionsReordered, .completionDelayed,
                    .pauseHonouredLate, .closedLate, .releaseLate, .staleCompletion, .spuriousWake, .workerStall:
                    500
                case .acceptFailed: 300
                case .handOffFailed: 900
                case .completionAfterClose: 1000
                case .sendFailed: 24
                case .reset, .closeUnread: 16
                case .halfClose: 20
                case .clockJump: 8
                case .neverReads, .unfinishedFrame, .garbage, .wrongFrame: 15
                case .neverConnects: 100
                case .drain, .mailboxOverfull, .memoryLimitReached, .connectionRefused: 0
                }
            if most > 0 { faults[fault.rawValue] = random.range(1...most) }
        }
        // Connections are handed on in few scenarios: where they are, it fails now and then.
        if connectionsAreTight, !calm { faults[Fault.handOffFailed.rawValue] = random.pick([0, 500, 900, 900]) }
        self.faults = faults
        var deeds = Deed.allCases.map { _ in random.below(10) }
        deeds[Deed.publish.rawValue] += 8
        deeds[Deed.publishToQueue.rawValue] += 8
        deeds[Deed.subscribe.rawValue] += 5
        deeds[Deed.acknowledge.rawValue] += 8
        deeds[Deed.disconnect.rawValue] = random.below(2)
        deeds[Deed.unsubscribe.rawValue] /= 3
        deeds[Deed.refuse.rawValue] /= 2
        deeds[Deed.subscribeTemporary.rawValue] /= 3
        deeds[Deed.publishToTemporary.rawValue] /= 2
        if stores { deeds[Deed.publishToQueue.rawValue] += 15 }
        storage =
            stores
            ? StorageScenario(
                &random, eventCount: eventCount, fillsSegments: fillsSegments, isCalm: calm) : nil
        if fillsSegments {
            // What fills them has to go again.
            deeds[Deed.subscribe.rawValue] += 10
            deeds[Deed.acknowledge.rawValue] += 50
        }
        self.deeds = deeds
    }

    /// A message that was delivered too often finds a dead-letter queue with room.
    var takesDeadLetters: Bool { deadLetters != nil && !destinationsAreTight && !queuesAreTight && !memoryIsTight }

    func holdsQueue(named name: String) -> Bool { queues.contains(name) || name == deadLetters }

    /// What the broker is told; a planted bug may be that it does not know a limit.
    func optionsOfBroker(_ canary: Canary?) -> BrokerOptions {
        var options = options
        switch canary {
        case .endlessRedelivery:
            for place in options.destinationPolicies.indices { options.destinationPolicies[place].deliveryCountMax = 0 }
        case .hastyDeadLetters:
            for place in options.destinationPolicies.indices
            where options.destinationPolicies[place].deliveryCountMax > 1 {
                options.destinationPolicies[place].deliveryCountMax = 1
            }
        case .permitAll: options.access = nil
        case .mergeHosts: options.hosts = []
        case .forgetHostStorage:
            for place in options.hosts.indices { options.hosts[place].storedByteCountMax = 0 }
        case .askNobody: options.authentication = .none
        case .confirmUnasked: options.receiptConditions = .none
        case .fillAll: options.limits.destinationsPerConnectionMax = 0
        case .hastyIdleness:
            for place in options.destinationPolicies.indices {
                options.destinationPolicies[place].idleWithMessagesMillisecondsMax = 20
            }
        case .admitAll: options.limits.connectionsPerAddressMax = 0
        case .admitPatterns: options.limits.patternCountMax = 1_000
        case .refuseSome: options.limits.connectionsPerSecondMax = 2
        default: break
        }
        return options
    }

    /// Policy, and nothing else, may end an honest connection with this ERROR.
    func permits(error message: String, hasJumped: Bool) -> Bool {
        switch message {
        // A queue that cannot be made at its owner, for want of a destination, has no room either.
        case "Queue full": queuesAreTight || memoryIsTight || destinationsAreTight
        case "Out of memory": memoryIsTight || queuesAreTight
        case "Too many destinations": destinationsAreTight || holdersAreTight
        case "Too many subscriptions": subscriptionsAreTight
        case "Too many patterns": patternsAreTight
        case "Too many transactions": transactionsAreTight
        case "Transaction too large": transactionsAreTight || storage != nil
        case "Frame too large", "Body too long", "Header too long", "Headers too long", "Too many headers":
            framesAreTight
        case "Heart-beat missed": heartBeats
        case "Frame too slow", "Transaction too old": hasJumped
        case "Durable subscription in use", "Durable subscription not found": hasDurables
        case "Shutting down": drains || storage != nil
        case "Storage failed": storage?.fails == true
        case "Disk full", "Disk full, not confirmed": storage?.fails == true || storage?.diskIsTight == true
        case "Storage of the virtual host full": hosts?.storedByteCountsMax.contains { $0 > 0 } == true
        case "Message too large": storage?.segmentsAreTight == true
        default: false
        }
    }
}
