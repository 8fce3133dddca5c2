import Broker
import Glibc
import IO
import Slabs

/// One run: shards, their simulated kernel, clients, and the oracle. Everything that happens follows from the seed.
///
/// A run has three acts: disorder, in which clients act and faults strike; rest, in which faults stop, everyone reads
/// and acknowledges and a drainer empties the queues; and departure, after which nothing may be left.
public final class Simulation {
    /// A shard and its part of the kernel.
    struct Worker {
        /// Connections that are adopted, in the order of adoption.
        var peers: [Peer] = []
        var backlog: [Peer] = []
        var handedOn: [Peer] = []
        /// Answers to sends of the poll under way.
        var answers: [Completion] = []
        /// What `.accepted` was reported of and the core has to answer.
        var offered: [Peer] = []
        /// Slots of connections that are closed: completions that come too late bear them.
        var oldSlots: [Slot] = []
        var isCarriedOut = true
        var deadline: UInt64 = 0
        var isWoken = false
        var isAccepting = true
        var isListening = true
        var turnsWithoutPause = 0
        var exchangeCount = 0
        /// Answers to parts of the poll.
        var early: [Completion] = []
        var isDrained = false
        /// The wall clock, in milliseconds, at the turn whose submissions are or were carried out.
        var turnWall: UInt64 = 0
        /// Connections whose `.closed` is among the completions of this turn.
        var closedNow = 0
    }

    let seed: UInt64
    var random: Random
    var scenario: Scenario
    let oracle: Oracle
    let canary: Canary?
    var trace = Trace()
    var faultCounts = [Int](repeating: 0, count: Fault.allCases.count)
    private(set) var shards: UnsafeMutablePointer<Shard>
    private(set) var fabric: Fabric
    private(set) var workers: UnsafeMutablePointer<Worker>
    /// How many shards and workers there are; none between two lives.
    private(set) var madeCount = 0
    /// Ends of lives that wait for their moment.
    var endingsDue: [(event: Int, ending: StorageScenario.Ending, moment: SimulatedDisk.Moment)] = []
    /// What the server wrote to stable storage before it started the shards: the number of the last life.
    var lifeBegun: UInt32 = 0
    /// Only in runs with storage.
    let disk: SimulatedDisk?
    var peers: [Peer] = []
    /// The place in `peers` of the first client of the broker's present life.
    var firstOfLife = 0
    var now: UInt64 = 1_000_000_000 { didSet { oracle.wall = wallMilliseconds } }
    let wallStart: UInt64 = 1_700_000_000_000
    var completions = Batch<Completion>(capacity: 64)
    let arena: UnsafeMutableRawPointer
    static let arenaByteCount = 1 << 18
    var arenaUsed = 0
    var turnCount = 0
    var isDraining = false
    var isAtRest = false
    /// Something happened in this round that was not a heart-beat.
    var wasActive = false
    var log: ((String) -> Void)?
    var undelivered = 0
    /// The shard whose turn it is, for the log.
    var activeShard = 0
    var canaryCount = 0
    var answers: [Answer] = []
    var receiptAnswers: [ReceiptAnswer] = []
    var receiptRandom: Random
    /// What concerns flipped bits is drawn apart.
    var flipRandom: Random
    /// In this life a log could not be ended in order, or failed.
    var hasStorageNotice = false
    /// What concerns permissions is drawn apart.
    var accessRandom: Random
    /// A table that a worker has not got yet.
    var nextTables: [Int?]
    let durables: [DurableModel]
    /// Only in runs with transports: those of each shard, and what stands in for OpenSSL.
    var layers: UnsafeMutablePointer<Layers>?
    let toyLibrary: ToyLibrary?
    var transportCounts = [Int](repeating: 0, count: TransportEvent.allCases.count)
    /// Empties the queues in the end.
    var drainer: Peer?
    /// The same with other virtual hosts.
    var helpers: [Peer] = []
    var drainerCount = 0
    static let drainerCountMax = 20
    static let drainerAddress: UInt64 = 99
    var didDrain = false

    /// - Parameters:
    ///   - crashes: the broker stores messages, ends in the middle of the run, and begins again.
    ///   - mode: that of the canary, if there is one.
    public static func run(
        seed: UInt64, steering: [UInt8] = [], crashes: Bool = false, mode: Mode = .plain, canary: Canary? = nil,
        log: ((String) -> Void)? = nil
    ) -> Outcome {
        let mode = canary.flatMap { $0.mode == .plain ? nil : $0.mode } ?? mode
        let simulation = Simulation(
            seed: seed, steering: steering, crashes: crashes, mode: mode, canary: canary, log: log)
        return simulation.run()
    }

    private init(
        seed: UInt64, steering: [UInt8], crashes: Bool, mode: Mode, canary: Canary?, log: ((String) -> Void)?
    ) {
        self.seed = seed
        self.canary = canary
        self.log = log
        random = Random(seed: seed, steering: steering)
        scenario = Scenario(&random, stores: crashes, mode: mode)
        if let storage = scenario.storage {
            disk = Self.makeDisk(storage, scenario.shardCount, &random)
        } else {
            disk = nil
        }
        accessRandom = Random(seed: seed ^ 0x5045_524D_4954)
        nextTables = Array(repeating: nil, count: scenario.shardCount)
        receiptRandom = Random(seed: seed ^ 0x5245_4345_4950_5453)
        flipRandom = Random(seed: seed ^ 0x464C_4950_5045_4421)
        toyLibrary = ToyLibrary(scenario, canary)
        oracle = Oracle(scenario)
        durables = Self.makeDurables(scenario)
        oracle.wall = wallStart + 1000
        fabric = Fabric(shardCount: 1, mailboxByteCountMax: 0)
        shards = UnsafeMutablePointer(bitPattern: 1 << 12)!
        workers = UnsafeMutablePointer(bitPattern: 1 << 12)!
        arena = .allocate(byteCount: Self.arenaByteCount, alignment: 64)
        plantInDisk()
        beginLife()
    }

    /// Makes the broker, as it is when its process begins.
    func makeShards(_ options: BrokerOptions) {
        fabric = Fabric(
            shardCount: scenario.shardCount, mailboxByteCountMax: scenario.options.limits.mailboxByteCountMax,
            hostCount: scenario.options.hosts.count)
        shards = .allocate(capacity: scenario.shardCount)
        madeCount = scenario.shardCount
        for index in 0..<scenario.shardCount {
            do throws(SlabError) {
                let shard = try Shard(
                    index: index, options: options, fabric: fabric,
                    connectionCountMax: scenario.connectionsPerShardMax, now: now,
                    wallMilliseconds: oracle.life == 1 ? wallStart : wallMilliseconds)
                (shards + index).initialize(to: shard)
            } catch {
                fatalError("no address space for a shard: \(error)")
            }
        }
        workers = .allocate(capacity: scenario.shardCount)
        workers.initialize(repeating: Worker(), count: scenario.shardCount)
        makeLayers()
    }

    func endShards() {
        guard madeCount > 0 else { return }
        endLayers()
        shards.deinitialize(count: madeCount)
        shards.deallocate()
        workers.deinitialize(count: madeCount)
        workers.deallocate()
        madeCount = 0
    }

    deinit {
        endShards()
        arena.deallocate()
    }

    var wallMilliseconds: UInt64 { wallStart + now / 1_000_000 }

    func count(_ fault: Fault) { faultCounts[fault.rawValue] += 1 }

    func strikes(_ fault: Fault) -> Bool {
        guard random.chance(scenario.faults[fault.rawValue]) else { return false }
        count(fault)
        return true
    }

    var hasFailed: Bool { oracle.violation != nil }

    private func run() -> Outcome {
        disorder()
        if !hasFailed { rest() }
        var outcome = Outcome(
            seed: seed, violation: oracle.violation, traceHash: trace.hash, faultCounts: faultCounts)
        outcome.turnCount = turnCount
        outcome.frameCount = oracle.framesSeen
        outcome.messageCount = oracle.messagesSeen
        outcome.transportCounts = countedTransports
        if let disk {
            countCold()
            outcome.storageFaultCounts = disk.faultCounts
        }
        return outcome
    }

    // MARK: Disorder

    private func disorder() {
        let drainStep = scenario.drains ? random.below(scenario.eventCount) : -1
        for event in 0..<scenario.eventCount {
            oracle.step += 1
            if event == drainStep { beginDrain() }
            if disk != nil { endLives(at: event) }
            if hasFailed { return }
            changeAccess()
            if random.chance(450) { act() } else { step(random.below(scenario.shardCount)) }
            advanceClock()
            if hasFailed { return }
        }
    }

    private func beginDrain() {
        count(.drain)
        isDraining = true
        for index in 0..<scenario.shardCount { workers[index].isWoken = true }
        for index in 0..<scenario.shardCount where random.chance(500) { shards[index].beginDrain() }
    }

    private func advanceClock() {
        if strikes(.clockJump) {
            now += UInt64(random.range(100...random.pick([500, 3000, 40_000]))) * 1_000_000
            oracle.hasJumped = true
        } else if random.chance(20) {
            now += UInt64(random.range(1...20)) * 1_000_000
        } else {
            now += UInt64(random.below(100_000))
        }
    }

    // MARK: A worker's loop

    /// One poll, or a part of it, and the turn that follows when there is a reason for one.
    func step(_ index: Int) {
        if workers[index].isDrained { return }
        activeShard = index
        if !workers[index].isCarriedOut {
            var deadline = min(shards[index].deadline, lower(index))
            if deadline != 0, !fabric.mailbox(index).prepareToSleep() { deadline = 0 }
            workers[index].deadline = deadline
            carryOut(index)
            workers[index].isCarriedOut = true
            if hasFailed { return }
            if strikes(.workerStall) { return }
        }
        collect(index)
        let isDue = workers[index].deadline <= now
        if completions.count == 0, !isDue {
            if !strikes(.spuriousWake) { return }
        }
        if workers[index].deadline == 0, completions.count == 0 {
            workers[index].turnsWithoutPause += 1
            if workers[index].turnsWithoutPause > 2_000 {
                oracle.violate("shard \(index) asks for turn after turn and gets nowhere")
            }
        } else {
            workers[index].turnsWithoutPause = 0
        }
        raise(index)
        for position in 0..<completions.count where !isHeartBeat(completions[position]) { wasActive = true }
        turn(index)
    }

    /// Heart-beats go on for ever; whoever waits for rest does not wait for them.
    private func isHeartBeat(_ completion: Completion) -> Bool {
        switch completion.kind {
        case .received: completion.value == 1 && completion.pointer!.load(as: UInt8.self) == 10
        case .sendReleased: completion.value <= 1
        case .woken, .writable: true
        case .accepted, .acceptFailed, .receiveEnded, .receiveFailed, .sendIncomplete, .closed: false
        case .authenticated, .durable, .permitted, .identified: false
        case .fileOpened, .fileAppended, .fileRead, .fileAllocated, .fileSynced, .fileDeleted, .fileRenamed,
            .fileClosed:
            false
        }
    }

    private func turn(_ index: Int) {
        turnCount += 1
        oracle.turnCounts[index] += 1
        if fabric.mailbox(index).isOverfull { count(.mailboxOverfull) }
        fabric.mailbox(index).didWake()
        if canary == .loseBatch, strikesCanary(oneIn: 40), let batch = fabric.mailbox(index).takeAll() {
            PeerBatches.free(batch)  // those it links to are lost too
        }
        if canary == .forgetHolders { forgetHolders(index) }
        if isDraining { shards[index].beginDrain() }
        giveTable(index)
        for position in 0..<completions.count { trace(completions[position]) }
        plantBeforeTurn()
        workers[index].turnWall = wallMilliseconds
        shards[index].turn(completions, now: now, wallMilliseconds: wallMillisecondsOfBroker)
        completions.removeAll()
        memset(arena, 0xA5, arenaUsed)
        arenaUsed = 0
        workers[index].isCarriedOut = false
        noteEnds(index)
        for notice in shards[index].takeNotices() {
            trace.add(notice.messageCount)
            trace.add(notice.kind.rawValue)
            trace.add(notice.text)
            if scenario.holdsQueue(named: notice.text), canary != .hideUndelivered || !strikesCanary(oneIn: 2) {
                undelivered += notice.messageCount
                oracle.reportedUndelivered(notice.messageCount, of: notice.text)
            }
            if notice.kind == .connectionRefused { count(.connectionRefused) }
            if notice.kind == .storageFailed { hasStorageNotice = true }
            if let log { log("\(moment) shard \(index): \(notice.kind.rawValue): \(notice.text)") }
        }
        keepQuestions(index)
        keepReceiptQuestions(index)
        let limits = scenario.options.limits
        if shards[index].blockByteCount > limits.messageMemoryByteCountMax {
            count(.memoryLimitReached)
            if shards[index].blockByteCount > limits.messageMemoryByteCountMax / 2 * 3 {
                oracle.violate("shard \(index) holds \(shards[index].blockByteCount) bytes")
            }
        }
        if shards[index].connectionCount > limits.connectionCountMax {
            oracle.violate("shard \(index) holds \(shards[index].connectionCount) connections")
        }
        if turnCount & 15 == 0, let fault = shards[index].auditQueues() { oracle.violate("shard \(index), \(fault)") }
        if shards[index].isDrained { workers[index].isDrained = true }
    }

    private var wallMillisecondsOfBroker: UInt64 {
        switch canary {
        case .neverExpire: wallStart
        case .expireEarly: wallStart + now / 1000
        default: wallMilliseconds
        }
    }

    private func plantBeforeTurn() {
        if canary == .breakInvariant, strikesCanary(oneIn: 1000) { fatalError("an invariant is broken on purpose") }
        if canary == .hang, strikesCanary(oneIn: 3000) {
            while true { usleep(1000) }
        }
    }

    /// A planted bug acts only from time to time, as real ones do.
    func strikesCanary(oneIn n: Int) -> Bool {
        guard random.below(n) == 0 else { return false }
        canaryCount += 1
        return true
    }

    private func trace(_ completion: Completion) {
        trace.add(UInt64(completion.kind.rawValue) << 32 | UInt64(UInt32(bitPattern: completion.value)))
        trace.add(UInt64(completion.connection.index) << 32 | UInt64(completion.connection.generation))
        if completion.kind == .received {
            trace.add(UnsafeRawBufferPointer(start: completion.pointer, count: Int(completion.value)))
        }
        if let log {
            var text =
                "\(moment) <- \(completion.kind) \(completion.connection.index)/\(completion.connection.generation) \(completion.value)"
            if completion.kind == .received {
                text += " " + readable(UnsafeRawBufferPointer(start: completion.pointer, count: Int(completion.value)))
            }
            log(text)
        }
    }

    /// Step and virtual time, for the log.
    var moment: String { "\(oracle.step) \(now / 1000 % 1_000_000_000)us s\(activeShard)" }

    func readable(_ bytes: UnsafeRawBufferPointer) -> String {
        var text = ""
        for byte in bytes.prefix(400) {
            switch byte {
            case 10: text += "␊"
            case 0: text += "␀"
            case 32...126: text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "·"
            }
        }
        return text
    }
}
