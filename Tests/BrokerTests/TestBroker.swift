import Glibc
import IO
import STOMP
import Slabs
import Testing

@testable import Broker

/// One or several shards in one thread, on a virtual clock, with a scripted driver and fake clients.
///
/// Nothing happens between calls of `run`: a test writes to its clients, runs, and reads what they got.
final class TestBroker {
    let shardCount: Int
    let fabric: Fabric
    let options: BrokerOptions
    private let shards: UnsafeMutablePointer<Shard>
    private(set) var now: UInt64
    private(set) var wallMilliseconds: UInt64 = 1_700_000_000_000
    private var nextDescriptor: Int32 = 10
    private(set) var sockets: [Int32: FakeSocket] = [:]
    /// Completions that are due in each shard's next turn, behind those of its submissions.
    private var events: [[Completion]]
    private(set) var refused: [Int32] = []
    private(set) var handedOff: [(descriptor: Int32, peer: Int)] = []
    private(set) var hasStoppedAccepting = false
    private(set) var acceptResumptionCount = 0
    private(set) var notices: [Notice] = []
    private var turnCount = 0
    private(set) var clients: [Client] = []

    /// - Parameter connectionCountMax: what the driver's table holds, of each shard.
    init(
        shards shardCount: Int = 1, connectionCountMax: Int = 256, now: UInt64 = 5_000_000_000, _ options: BrokerOptions
    ) {
        self.shardCount = shardCount
        self.options = options
        self.now = now
        fabric = Fabric(shardCount: shardCount, mailboxByteCountMax: options.limits.mailboxByteCountMax)
        shards = .allocate(capacity: shardCount)
        events = Array(repeating: [], count: shardCount)
        for index in 0..<shardCount {
            do throws(SlabError) {
                (shards + index).initialize(
                    to: try Shard(
                        index: index, options: options, fabric: fabric, connectionCountMax: connectionCountMax,
                        now: now,
                        wallMilliseconds: wallMilliseconds))
            } catch {
                fatalError("no address space for a shard: \(error)")
            }
        }
    }

    deinit {
        shards.deinitialize(count: shardCount)
        shards.deallocate()
    }

    func shard(_ index: Int) -> UnsafeMutablePointer<Shard> { shards + index }

    /// The worker that holds a queue.
    func owner(ofQueue name: String) -> Int {
        var name = name
        return name.withUTF8 { shards[0].ownerOfQueue(UnsafeRawBufferPointer($0)) }
    }

    /// Some names of queues that this worker would hold.
    func queueNames(ownedBy shard: Int) -> [String] {
        (0..<200).map { "/queue/n\($0)" }.filter { owner(ofQueue: $0) == shard }
    }

    var counters: Counters {
        var sum = Counters()
        for index in 0..<shardCount { sum.add(shards[index].counters) }
        return sum
    }

    /// Limits small enough that tables are quick to make.
    static func options(_ change: (inout BrokerOptions) -> Void = { _ in }) -> BrokerOptions {
        var options = BrokerOptions()
        options.limits.queuedMessageCountMax = 100_000
        options.limits.subscriptionCountMax = 10_000
        options.limits.messageMemoryByteCountMax = 64 << 20
        change(&options)
        return options
    }

    // MARK: Connections

    /// A client's new connection, accepted by `shard`.
    func accept(on shard: Int = 0, address: UInt64 = 0, name: String = "client") -> Client {
        let descriptor = nextDescriptor
        nextDescriptor += 1
        let socket = FakeSocket(descriptor: descriptor, shard: shard)
        sockets[descriptor] = socket
        events[shard].append(Completion(.accepted, value: descriptor, address: address))
        let client = Client(self, socket, name)
        clients.append(client)
        return client
    }

    /// A client that is CONNECTED.
    func connect(
        _ version: Version = .v1_2, on shard: Int = 0, heartBeat: String? = nil, name: String = "client"
    ) -> Client {
        let client = accept(on: shard, name: name)
        client.connect(version, heartBeat: heartBeat)
        return client
    }

    func post(_ completion: Completion, to shard: Int) { events[shard].append(completion) }

    // MARK: Turns

    /// Runs turns until no shard has anything to do at this time.
    func run(sourceLocation: SourceLocation = #_sourceLocation) {
        for _ in 0..<200_000 {
            var wasBusy = false
            for index in 0..<shardCount where isBusy(index) {
                wasBusy = true
                turn(index)
            }
            if !wasBusy { return }
        }
        Issue.record("the broker never comes to rest", sourceLocation: sourceLocation)
    }

    private func isBusy(_ index: Int) -> Bool {
        if shards[index].deadline <= now || !events[index].isEmpty || fabric.mailbox(index).pendingByteCount > 0 {
            return true
        }
        return sockets.values.contains { $0.shard == index && $0.hasEvents }
    }

    /// One exchange and one turn of a shard.
    func turn(_ index: Int) {
        turnCount += 1
        var completions = Batch<Completion>(capacity: 64)
        let submissions = (0..<shards[index].submissions.count).map { shards[index].submissions[$0] }
        for submission in submissions { carryOut(submission, shard: index, &completions) }
        for event in events[index] { completions.append(event) }
        events[index].removeAll()
        var lent: [UnsafeMutableRawBufferPointer] = []
        for socket in sockets.values.sorted(by: { $0.descriptor < $1.descriptor }) where socket.shard == index {
            socket.takeEvents(&completions, &lent)
        }
        shards[index].turn(completions, now: now, wallMilliseconds: wallMilliseconds)
        for buffer in lent {
            // Whoever still reads it finds nonsense.
            memset(buffer.baseAddress!, 0xDD, buffer.count)
            buffer.deallocate()
        }
        notices += shards[index].takeNotices()
    }

    private func socket(_ connection: Slot, _ shard: Int) -> FakeSocket? {
        sockets.values.first { $0.shard == shard && $0.connection == connection }
    }

    private func carryOut(_ submission: Submission, shard: Int, _ completions: inout Batch<Completion>) {
        switch submission.kind {
        case .adopt: sockets[submission.value]!.connection = submission.connection
        case .refuse:
            refused.append(submission.value)
            sockets[submission.value]!.isClosed = true
            sockets[submission.value] = nil
        case .handOff:
            handedOff.append((submission.value, Int(submission.peer)))
            sockets[submission.value]!.shard = Int(submission.peer)
            events[Int(submission.peer)].append(
                Completion(.accepted, value: submission.value, address: UInt64(submission.byteCount)))
        case .wake: break
        case .stopAccepting: hasStoppedAccepting = true
        case .resumeAccepting: acceptResumptionCount += 1
        case .connect: Issue.record("the broker opens no connections")
        case .send, .sendVector, .sendZeroCopy, .awaitWritable, .pauseReceive, .resumeReceive, .shutdownWrite, .close:
            guard let socket = socket(submission.connection, shard) else {
                Issue.record("\(submission.kind) for a connection that does not exist")
                return
            }
            socket.carryOut(submission, &completions)
            if socket.isClosed { sockets[socket.descriptor] = nil }
        }
    }

    // MARK: Time

    /// Lets time pass, with a turn for each deadline on the way.
    func advance(milliseconds: Int) {
        run()
        let end = now + UInt64(milliseconds) * 1_000_000
        for _ in 0..<200_000 {
            var next = end
            for index in 0..<shardCount { next = min(next, max(shards[index].deadline, now)) }
            wallMilliseconds += (next - epoch) / 1_000_000 - (now - epoch) / 1_000_000
            now = next
            run()
            if now == end { return }
        }
        Issue.record("time does not pass")
    }

    private var epoch: UInt64 { 0 }

    /// Moves the wall clock alone, as an operator or NTP does.
    func stepWallClock(milliseconds: Int) {
        wallMilliseconds = UInt64(Int(wallMilliseconds) + milliseconds)
    }

    func beginDrain() { for index in 0..<shardCount { shards[index].beginDrain() } }

    // MARK: What is left

    /// Ends all clients and checks that nothing of them remains but idle destinations, and `queued` messages.
    func finish(queued: Int = 0, sourceLocation: SourceLocation = #_sourceLocation) {
        run(sourceLocation: sourceLocation)
        for client in clients where !client.socket.isClosed {
            client.socket.room = .max
            client.hangUp()
        }
        advance(milliseconds: 100)
        for client in clients where !client.socket.isClosed { client.reset() }
        // Longer than any timer that a session, a transaction or a wait for memory leaves.
        advance(milliseconds: 70_000)
        var entryCount = 0
        for index in 0..<shardCount {
            checkNothingIsLeft(index, sourceLocation)
            entryCount += shards[index].entries.liveCount
        }
        #expect(entryCount == queued, "queued messages", sourceLocation: sourceLocation)
    }

    private func checkNothingIsLeft(_ index: Int, _ location: SourceLocation) {
        let shard = shards + index
        func none(_ count: Int, _ what: String) { #expect(count == 0, "\(what) are left", sourceLocation: location) }
        none(shard.pointee.sessions.liveCount, "sessions")
        none(shard.pointee.segments.liveCount, "segments")
        none(shard.pointee.subscriptions.liveCount, "subscriptions")
        none(shard.pointee.groups.liveCount, "groups")
        none(shard.pointee.consumers.liveCount, "consumers")
        none(shard.pointee.deliveries.liveCount, "deliveries")
        none(shard.pointee.transactions.liveCount, "transactions")
        none(shard.pointee.pendings.liveCount, "pending operations")
        none(shard.pointee.remoteSets.liveCount, "remote sets")
        none(shard.pointee.groupTable.count, "keys of groups")
        none(shard.pointee.subscriptionQueueCount, "subscription queues")
        none(shard.pointee.patternCount, "patterns")
        none(shard.pointee.inputMemoryByteCount, "bytes of input")
        #expect(shard.pointee.patterns.isEmpty, "patterns are left in the list", sourceLocation: location)
        none(shard.pointee.waitingForRoom.count, "sessions that wait for room")
        none(shard.pointee.resumableSessions.count, "sessions to resume")
        none(shard.pointee.doomedSessions.count, "doomed sessions")
        var byteCount = 0
        var idleCount = 0
        var timerCount = 0
        var destination = shard.pointee.destinations.nextLive(after: .none)
        while !destination.isNone {
            let record = shard.pointee.destinations[destination].pointee
            if record.name != 0 { byteCount += shard.pointee.blocks.capacity(record.name) }
            if record.isIdle { idleCount += 1 }
            #expect(
                record.isIdle == !shard.pointee.isNeeded(destination), "idle means not needed", sourceLocation: location
            )
            #expect(record.matches.isEmpty && record.bound.isEmpty && !record.hasRemote, sourceLocation: location)
            if !record.queue.isNone {
                let queue = shard.pointee.queues[record.queue].pointee
                if queue.deadLetter != 0 { byteCount += shard.pointee.blocks.capacity(queue.deadLetter) }
                #expect(queue.messageCount == queue.readyCount, "all messages are ready", sourceLocation: location)
                var entry = queue.ready.first
                var sum: UInt64 = 0
                var count: UInt32 = 0
                while !entry.isNone {
                    let record = shard.pointee.entries[entry].pointee
                    sum += UInt64(record.byteCount)
                    count += 1
                    byteCount += shard.pointee.blocks.capacity(record.message)
                    if record.timer != 0 { timerCount += 1 }
                    entry = EntryList.next(after: entry, in: shard.pointee.entries)
                }
                #expect(sum == queue.byteCount && count == queue.readyCount, "counted right", sourceLocation: location)
            }
            destination = shard.pointee.destinations.nextLive(after: destination)
        }
        var listed = 0
        for list in [shard.pointee.idleQueues, shard.pointee.idleOthers] {
            var next = list.first
            while !next.isNone, listed <= idleCount {
                listed += 1
                next = IdleList.next(after: next, in: shard.pointee.destinations)
            }
        }
        #expect(listed == idleCount, "the idle list holds the idle", sourceLocation: location)
        timerCount += shard.pointee.idleTimerCount
        #expect(shard.pointee.timers.count == timerCount, "timers are left", sourceLocation: location)
        #expect(shard.pointee.blocks.byteCountInUse == byteCount, "bytes are left", sourceLocation: location)
    }
}

/// Runs a test on a broker, and checks afterwards that nothing is left behind.
func withBroker(
    shards: Int = 1, connectionCountMax: Int = 256, queued: Int = 0, _ options: BrokerOptions = TestBroker.options(),
    sourceLocation: SourceLocation = #_sourceLocation, _ body: (TestBroker) throws -> Void
) rethrows {
    let broker = TestBroker(shards: shards, connectionCountMax: connectionCountMax, options)
    try body(broker)
    broker.finish(queued: queued, sourceLocation: sourceLocation)
}
