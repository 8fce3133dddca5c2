import Slabs
import Testing

@testable import Broker

/// Another order than first in, first out: the largest message first, and of equals the one that came first.
private enum LargestFirst: ReadyOrder {
    static func insert(_ entry: Index<Entry>, into ready: inout ReadyEntries, in entries: borrowing Slab<Entry>) {
        _ = putBack(entry, into: &ready, in: entries)
    }

    static func putBack(_ entry: Index<Entry>, into ready: inout ReadyEntries, in entries: borrowing Slab<Entry>) -> Int
    {
        var previous = Index<Entry>.none
        var next = ready.first
        var stepCount = 0
        while !next.isNone, precedes(next, entry, in: entries) {
            previous = next
            next = EntryList.next(after: next, in: entries)
            stepCount += 1
        }
        ready.insert(entry, after: previous, in: entries)
        return stepCount
    }

    static func precedes(_ entry: Index<Entry>, _ other: Index<Entry>, in entries: borrowing Slab<Entry>) -> Bool {
        let (left, right) = (entries[entry], entries[other])
        if left.pointee.byteCount != right.pointee.byteCount {
            return left.pointee.byteCount > right.pointee.byteCount
        }
        return left.pointee.order < right.pointee.order
    }
}

/// An engine with the memory and timers that it is lent. In a class, for what cannot be copied is no argument of `#expect`.
private final class Engine<Order: ReadyOrder> {
    var queues: QueueEngine<Order>
    var memory: MemoryBudget
    var timers: TimerWheel
    var moment = Moment(now: 1_000_000_000, clock: 1_000, wallMilliseconds: 5_000)
    let queue: Index<Queue>
    private var identity: UInt64 = 0

    init(entryCountMax: Int = 1_000, _ change: (inout DestinationPolicy) -> Void = { _ in }) throws {
        var limits = Limits()
        limits.messageMemoryByteCountMax = 8 << 20
        memory = try MemoryBudget(limits)
        timers = try TimerWheel(timerCountMax: 1_000, now: moment.now)
        var policy = DestinationPolicy(pattern: "/queue/#")
        change(&policy)
        var queues = try QueueEngine<Order>(queueCountMax: 8, entryCountMax: entryCountMax, consumerCountMax: 8)
        queue = queues.make(for: Index(1), policy, at: 0, clock: 0)
        self.queues = queues
    }

    /// What the queue's audit finds, and its rules kept after every step of a test.
    var fault: String? { queues.audit(queue) }
    var record: Queue { queues[queue].pointee }
    var consumerCount: Int { queues.consumerCount }
    var entryCount: Int { queues.entryCount }
    var bytesInUse: Int { memory.blocks.byteCountInUse }
    var timerCount: Int { timers.count }

    /// A message with a body of so many bytes. Its identity counts up from 1.
    @discardableResult
    func enqueue(_ byteCount: Int = 1, expiresAt: UInt64 = 0) -> Admission {
        identity += 1
        let body = [UInt8](repeating: 0x78, count: byteCount)
        return body.withUnsafeBytes { bytes in
            queues.enqueue(
                queue,
                Message(
                    headers: bytes.baseAddress!, headersByteCount: 0, body: bytes.baseAddress!,
                    bodyByteCount: bytes.count, isPlain: true, identity: identity, expiresAt: expiresAt),
                extra: UnsafeRawBufferPointer(start: nil, count: 0), &memory, &timers, at: moment)
        }
    }

    func entry(_ byteCount: Int = 1, expiresAt: UInt64 = 0) throws -> Index<Entry> {
        guard case .queued(let entry) = enqueue(byteCount, expiresAt: expiresAt) else { throw Failure.notQueued }
        return entry
    }

    func consumer(_ messageCount: UInt32 = 10, byteCount: UInt32 = 1 << 20, isSelective: Bool = false)
        -> Handle<Consumer>
    {
        var window = Window(Limits())
        window.messageCount = messageCount
        window.byteCount = byteCount
        return queues.addConsumer(to: queue, shard: 0, subscription: .none, window, isSelective: isSelective)
    }

    func next() -> Dispatch { queues.next(queue, wallMilliseconds: moment.wallMilliseconds) }

    /// Gives out all that can be, and says to whom which message went. `selects`: which the selective ones take.
    func dispatch(_ selects: (UInt64) -> Bool = { _ in false }) -> [(UInt64, Index<Consumer>)] {
        var given: [(UInt64, Index<Consumer>)] = []
        for _ in 0..<1_000 {
            switch next() {
            case .nothing: return given
            case .expired(let entry): drop(entry)
            case .deliver(let entry, let consumer): given.append((identity(entry), consumer))
            case .examine(let entry, let consumer):
                if selects(identity(entry)) {
                    queues.take(entry, by: consumer)
                    given.append((identity(entry), consumer))
                } else {
                    queues.pass(consumer)
                }
            }
        }
        Issue.record("the dispatch does not end")
        return given
    }

    func identity(_ entry: Index<Entry>) -> UInt64 { queues[entry].pointee.identity }
    func entry(_ entry: Index<Entry>) -> Entry { queues[entry].pointee }
    func oldest(of consumer: Handle<Consumer>) -> Index<Entry> { queues[consumer.index].pointee.unacked.first }
    func second(of consumer: Handle<Consumer>) -> Index<Entry> { queues.next(after: oldest(of: consumer)) }
    /// Its timer has fired. True: its time is over.
    func expires(_ entry: Index<Entry>) -> Bool {
        queues.expires(queues.handle(entry), &timers, at: moment, isLast: false)
    }
    func release(_ entry: Handle<Entry>, from consumer: Handle<Consumer>) -> Bool {
        queues.release(entry, from: consumer)
    }
    func refusal(of holder: QueueHolder, _ limits: Limits) -> Refusal? { queues.refusal(of: holder, limits) }
    var idleTimerCount: Int { queues.idleTimerCount }
    var queueCount: Int { queues.liveCount }
    func handle(_ entry: Index<Entry>) -> Handle<Entry> { queues.handle(entry) }

    /// A ready message leaves.
    func drop(_ entry: Index<Entry>) {
        queues.takeOut(entry)
        queues.free(entry, &memory, &timers)
    }

    /// A consumer's message leaves, or comes back.
    func acknowledge(_ entry: Index<Entry>) {
        queues.release(entry)
        queues.free(entry, &memory, &timers)
    }
    func giveBack(_ entry: Index<Entry>, _ how: Return) -> ReturnedEntry {
        queues.release(entry)
        return queues.putBack(entry, how, wallMilliseconds: moment.wallMilliseconds).outcome
    }

    var readyIdentities: [UInt64] {
        var identities: [UInt64] = []
        var entry = record.ready.first
        while !entry.isNone {
            identities.append(identity(entry))
            entry = queues.next(after: entry)
        }
        return identities
    }

    enum Failure: Error { case notQueued }
}

/// Queues, their messages and consumers, without a shard.
@Suite("Queue engine")
struct QueueEngineTests {
    private typealias Fifo = Engine<FirstInFirstOut>

    @Test("Messages go out in the order of arrival, and consumers take turns")
    func turns() throws {
        let engine = try Fifo()
        let (first, second) = (engine.consumer(), engine.consumer())
        for _ in 0..<4 { engine.enqueue() }
        let given = engine.dispatch()
        #expect(given.map(\.0) == [1, 2, 3, 4])
        #expect(given.map(\.1) == [first.index, second.index, first.index, second.index])
        #expect(engine.fault == nil)
    }

    @Test("A consumer gets no more than its messages, and no more once it has its bytes")
    func prefetch() throws {
        let engine = try Fifo()
        let few = engine.consumer(2)
        for _ in 0..<5 { engine.enqueue() }
        #expect(engine.dispatch().map(\.0) == [1, 2])
        let small = engine.consumer(100, byteCount: 1)
        // One that is larger than all it may have is given to it: else it would never go.
        #expect(engine.dispatch().map(\.1) == [small.index])
        engine.acknowledge(engine.oldest(of: few))
        #expect(engine.dispatch().map(\.0) == [4])
        #expect(engine.readyIdentities == [5])
        #expect(engine.fault == nil)
    }

    @Test("What comes back goes where it was, however it comes back")
    func order() throws {
        let engine = try Fifo()
        _ = engine.consumer(100)
        var entries: [Index<Entry>] = []
        for _ in 0..<8 { entries.append(try engine.entry()) }
        #expect(engine.dispatch().count == 8)
        for place in [5, 1, 6, 0, 7, 3] {
            engine.queues.pause(engine.record.consumers.first)
            #expect(engine.giveBack(entries[place], .seen) == .ready)
            #expect(engine.fault == nil)
        }
        #expect(engine.readyIdentities == [1, 2, 4, 6, 7, 8])
    }

    @Test(
        "Only what a consumer failed with counts towards the delivery limit; what it cannot have seen is not delivered")
    func failures() throws {
        let engine = try Fifo { $0.deliveryCountMax = 2 }
        _ = engine.consumer()
        let entry = try engine.entry()
        func next(_ how: Return) -> ReturnedEntry {
            #expect(engine.dispatch().count == 1)
            return engine.giveBack(entry, how)
        }
        #expect(next(.unseen) == .ready)
        #expect(engine.entry(entry).deliveryCount == 0)
        #expect(!engine.entry(entry).isRedelivered)
        for _ in 0..<3 { #expect(next(.seen) == .ready) }
        #expect(engine.entry(entry).deliveryCount == 3)
        #expect(engine.entry(entry).isRedelivered)
        #expect(next(.failed) == .ready)
        #expect(next(.failed) == .failedTooOften)
    }

    @Test("Messages, bytes and room that was promised count against a queue's limits")
    func limits() throws {
        let engine = try Fifo {
            $0.queueMessageCountMax = 3
            $0.queueByteCountMax = 100
        }
        engine.enqueue(10)
        engine.queues.reserve(engine.queue, byteCount: 13)
        engine.enqueue(10)
        #expect(engine.enqueue(1) == .full)
        engine.queues.unreserve(engine.queue, byteCount: 13)
        #expect(engine.enqueue(80) == .full)
        #expect(engine.enqueue(60) != .full)
        #expect(engine.record.messageCount == 3)
        #expect(engine.fault == nil)
    }

    @Test("Where there is no record, or no memory, nothing is taken")
    func noMemory() throws {
        let engine = try Fifo(entryCountMax: 1)
        let before = engine.bytesInUse
        #expect(engine.enqueue(12 << 20) == .noMemory)
        #expect(engine.record.messageCount == 0)
        let entry = try engine.entry()
        #expect(engine.enqueue() == .noMemory)
        engine.drop(entry)
        #expect(engine.bytesInUse == before)
        #expect(engine.record.byteCount == 0)
        #expect(engine.entryCount == 0)
    }

    @Test("A message is not given out after its time, and its timer says so when nobody consumes")
    func expiry() throws {
        let engine = try Fifo { $0.messageMillisecondsMax = 100 }
        #expect(engine.enqueue(expiresAt: 4_000) == .expired)
        let own = try engine.entry(expiresAt: 5_050)
        let ofQueue = try engine.entry()
        #expect(engine.entry(own).expiresAt == 5_050)
        #expect(engine.entry(ofQueue).expiresAt == 5_100)
        #expect(engine.timerCount == 2)
        // The wall clock was set back: the timer is set again.
        engine.moment.wallMilliseconds = 4_900
        #expect(!engine.expires(own))
        engine.moment.wallMilliseconds = 5_050
        #expect(engine.expires(own))
        _ = engine.consumer()
        #expect(engine.next() == .expired(own))
        #expect(engine.dispatch().map(\.0) == [engine.identity(ofQueue)])
        // With a consumer it keeps; what comes back late is taken out.
        engine.moment.wallMilliseconds = 5_200
        #expect(!engine.expires(ofQueue))
        #expect(engine.giveBack(ofQueue, .seen) == .expired)
    }

    @Test("A consumer that leaves gives back what it had, oldest first; a late settlement finds nothing")
    func leaving() throws {
        let engine = try Fifo()
        let consumer = engine.consumer()
        let entry = try engine.entry()
        engine.enqueue()
        #expect(engine.dispatch().count == 2)
        engine.queues.detach(consumer.index)
        var returned: [UInt64] = []
        while case let entry = engine.queues.takeFrom(consumer.index), !entry.isNone {
            returned.append(engine.identity(entry))
            _ = engine.queues.putBack(entry, .seen, wallMilliseconds: 0)
        }
        engine.queues.free(consumer.index)
        #expect(returned == [1, 2])
        #expect(engine.readyIdentities == [1, 2])
        #expect(!engine.release(engine.handle(entry), from: consumer))
        #expect(engine.consumerCount == 0)
        #expect(engine.fault == nil)
    }

    @Test("A paused consumer is passed over, and goes on where the queue is")
    func pausing() throws {
        let engine = try Fifo()
        let (one, other) = (engine.consumer(), engine.consumer())
        engine.queues.pause(one.index)
        for _ in 0..<3 { engine.enqueue() }
        #expect(engine.dispatch().map(\.1) == [other.index, other.index, other.index])
        engine.queues.resume(one.index)
        engine.enqueue()
        engine.enqueue()
        #expect(Set(engine.dispatch().map(\.1)) == [one.index, other.index])
        #expect(engine.fault == nil)
    }

    @Test("Another order works: the largest first, also when it comes back")
    func anotherOrder() throws {
        let engine = try Engine<LargestFirst>()
        for byteCount in [3, 9, 5, 9, 1] { engine.enqueue(byteCount) }
        #expect(engine.readyIdentities == [2, 4, 3, 1, 5])
        let consumer = engine.consumer(2)
        #expect(engine.dispatch().map(\.0) == [2, 4])
        engine.queues.pause(consumer.index)
        #expect(engine.giveBack(engine.oldest(of: consumer), .seen) == .ready)
        engine.enqueue(7)
        #expect(engine.readyIdentities == [2, 6, 3, 1, 5])
        #expect(engine.fault == nil)
    }

    @Test("A consumer that may not take the head takes what is behind it, and the others keep the order")
    func cursors() throws {
        let engine = try Fifo()
        let even = engine.consumer(isSelective: true)
        for _ in 0..<6 { engine.enqueue() }
        #expect(engine.dispatch { $0 % 2 == 0 }.map(\.0) == [2, 4, 6])
        // It was offered all. What comes is offered to it, without a look at what it has passed.
        #expect(engine.next() == .nothing)
        let seventh = try engine.entry()
        #expect(engine.next() == .examine(seventh, for: even.index))
        engine.queues.pass(even.index)
        let all = engine.consumer(2)
        #expect(engine.dispatch { $0 % 2 == 0 }.map(\.0) == [1, 3])
        #expect(engine.readyIdentities == [5, 7])
        // What comes back lies before its cursor again.
        engine.queues.pause(all.index)
        engine.queues.pause(even.index)
        let fourth = engine.second(of: even)
        #expect(engine.identity(fourth) == 4)
        #expect(engine.giveBack(fourth, .seen) == .ready)
        engine.queues.resume(even.index)
        #expect(engine.dispatch { $0 % 2 == 0 }.map(\.0) == [4])
        #expect(engine.fault == nil)
    }

    @Test("A cursor goes on when another takes the message that it stands at")
    func cursorsMove() throws {
        let engine = try Fifo()
        let picky = engine.consumer(isSelective: true)
        engine.queues.pause(picky.index)
        let all = engine.consumer(1)
        for _ in 0..<3 { engine.enqueue() }
        #expect(engine.dispatch().map(\.0) == [1])
        engine.queues.resume(picky.index)
        #expect(engine.dispatch { $0 == 3 }.map(\.0) == [3])
        engine.drop(engine.record.ready.first)
        #expect(engine.next() == .nothing)
        engine.queues.detach(picky.index)
        #expect(engine.record.cursors.isEmpty)
        #expect(!engine.record.consumers.isEmpty)
        _ = all
        #expect(engine.fault == nil)
    }

    @Test("A queue that nobody consumes counts against who filled it, until it is empty or closed")
    func holders() throws {
        let engine = try Fifo()
        var limits = Limits()
        limits.destinationsPerConnectionMax = 1
        let holder = QueueHolder(session: Handle(Slot(index: 3, generation: 1)), address: 0, shard: 0)
        let entry = try engine.entry()
        engine.queues.hold(engine.queue, by: holder)
        #expect(engine.refusal(of: holder, limits) == .destinationsOfConnection)
        let consumer = engine.consumer()
        #expect(engine.refusal(of: holder, limits) == nil)
        engine.queues.detach(consumer.index)
        engine.queues.free(consumer.index)
        engine.queues.updateHold(engine.queue)
        #expect(engine.refusal(of: holder, limits) == .destinationsOfConnection)
        engine.drop(entry)
        engine.queues.updateHold(engine.queue)
        #expect(engine.refusal(of: holder, limits) == nil)
        engine.enqueue()
        engine.queues.hold(engine.queue, by: holder)
        engine.queues.close(engine.queue)
        #expect(engine.refusal(of: holder, limits) == nil)
    }

    @Test("One timer tells that a queue may have been idle, and is counted while it runs")
    func idleTimer() throws {
        let engine = try Fifo()
        engine.queues.armIdle(engine.queue, after: 50, &engine.timers, now: engine.moment.now)
        engine.queues.armIdle(engine.queue, after: 50, &engine.timers, now: engine.moment.now)
        #expect(engine.timerCount == 1)
        #expect(engine.idleTimerCount == 1)
        engine.queues.disarmIdle(engine.queue, &engine.timers)
        #expect(engine.timerCount == 0)
        engine.queues.close(engine.queue)
        engine.queues.armIdle(engine.queue, after: 50, &engine.timers, now: engine.moment.now)
        #expect(engine.idleTimerCount == 0)
    }

    @Test("A queue that ends gives back what its first user asked of it")
    func ending() throws {
        let engine = try Fifo()
        let before = engine.bytesInUse
        var request = QueueRequest()
        request.messageCountMax = 5
        request.hasOverflow = true
        request.overflow = .dropOldest
        request.deadLetterByteCount = 8
        engine.queues.tighten(engine.queue, request, deadLetter: "/queue/x", &engine.memory)
        #expect(engine.record.messageCountMax == 5)
        #expect(engine.record.overflow == .dropOldest)
        #expect(engine.bytesInUse > before)
        engine.queues.close(engine.queue)
        engine.queues.remove(engine.queue, &engine.memory)
        #expect(engine.bytesInUse == before)
        #expect(engine.queueCount == 0)
    }
}
