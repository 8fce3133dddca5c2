import Broker
import Glibc
import IO
import Slabs

/// The production core on a simulated kernel that does what a script says: shards in one thread, on a virtual clock.
final class SessionKernel {
    let shardCount: Int
    let fabric: Fabric
    let shards: UnsafeMutablePointer<Shard>
    private(set) var wires: [SessionWire] = []
    private(set) var now: UInt64 = 5_000_000_000
    var wallMilliseconds: UInt64 = 1_700_000_000_000
    /// What is wrong, once something is.
    private(set) var fault: String?
    private var events: [[Completion]]
    private var isAccepting: [Bool]
    private var hasListener: [Bool]
    private var turnCount = 0
    private(set) var isDraining = false
    /// Connections that ended: completions that come too late bear their slots.
    private var oldSlots: [[Slot]]

    init(shardCount: Int, options: BrokerOptions, connectionCountMax: Int) {
        self.shardCount = shardCount
        fabric = Fabric(shardCount: shardCount, mailboxByteCountMax: options.limits.mailboxByteCountMax)
        shards = .allocate(capacity: shardCount)
        events = Array(repeating: [], count: shardCount)
        oldSlots = Array(repeating: [], count: shardCount)
        isAccepting = Array(repeating: true, count: shardCount)
        hasListener = Array(repeating: true, count: shardCount)
        for index in 0..<shardCount {
            do throws(SlabError) {
                (shards + index).initialize(
                    to: try Shard(
                        index: index, options: options, fabric: fabric, connectionCountMax: connectionCountMax,
                        now: now, wallMilliseconds: wallMilliseconds))
            } catch {
                fatalError("no address space for a shard: \(error)")
            }
        }
    }

    deinit {
        shards.deinitialize(count: shardCount)
        shards.deallocate()
    }

    func fail(_ text: @autoclosure () -> String) { if fault == nil { fault = text() } }

    // MARK: From outside

    /// A client connects; nil where nobody listens.
    func accept(on shard: Int) -> SessionWire? {
        guard hasListener[shard] else { return nil }
        let wire = SessionWire(descriptor: Int32(wires.count), shard: shard)
        wires.append(wire)
        events[shard].append(Completion(.accepted, value: wire.descriptor))
        return wire
    }

    func failAccepting(on shard: Int, errorNumber: Int32) {
        guard isAccepting[shard], hasListener[shard] else { return }
        isAccepting[shard] = false
        events[shard].append(Completion(.acceptFailed, value: -errorNumber))
    }

    /// A completion of a connection that is closed already.
    func repeatOld(_ kind: Completion.Kind, on shard: Int) {
        guard let slot = oldSlots[shard].last, ![.accepted, .acceptFailed, .woken, .received].contains(kind) else {
            return
        }
        let value: Int32 = kind == .receiveFailed || kind == .sendIncomplete ? -ECONNRESET : 1
        events[shard].append(Completion(kind, connection: slot, value: value))
    }

    func beginDrain() {
        isDraining = true
        for index in 0..<shardCount {
            shards[index].beginDrain()
            events[index].append(Completion(.woken))
        }
    }

    // MARK: Turns

    /// Runs turns, at most so many of each shard, until nothing is left to do at this time.
    func run(turnCountMax: Int) {
        for _ in 0..<turnCountMax {
            var wasBusy = false
            for index in 0..<shardCount where isBusy(index) && fault == nil {
                wasBusy = true
                turn(index)
            }
            if !wasBusy || fault != nil { return }
        }
    }

    private func isBusy(_ index: Int) -> Bool {
        if shards[index].isDrained { return false }
        if shards[index].deadline <= now || !events[index].isEmpty || fabric.mailbox(index).pendingByteCount > 0 {
            return true
        }
        return wires.contains { $0.shard == index && $0.hasEvents }
    }

    /// One exchange and one turn of a shard.
    func turn(_ index: Int) {
        if shards[index].isDrained { return }
        turnCount += 1
        var completions = Batch<Completion>(capacity: 64)
        for position in 0..<shards[index].submissions.count where fault == nil {
            carryOut(shards[index].submissions[position], index, &completions)
        }
        for event in events[index] { completions.append(event) }
        events[index].removeAll(keepingCapacity: true)
        var lent: [UnsafeMutableRawBufferPointer] = []
        for wire in wires where wire.shard == index && wire.stage != .offered && wire.stage != .closed {
            if let text = wire.report(&completions, lent: &lent) { fail(text) }
            if wire.stage == .closed { oldSlots[index].append(wire.slot) }
        }
        fabric.mailbox(index).didWake()
        shards[index].turn(completions, now: now, wallMilliseconds: wallMilliseconds)
        for buffer in lent { buffer.deallocate() }
        _ = shards[index].takeNotices()
        if let text = shards[index].auditQueues() { fail(text) }
    }

    private func carryOut(_ submission: Submission, _ index: Int, _ completions: inout Batch<Completion>) {
        switch submission.kind {
        case .adopt:
            guard let wire = offered(submission, index) else { return fail("adopted what was not offered") }
            if wires.contains(where: { $0.holds(submission.connection.index, of: index) }) {
                return fail("a slot was used again before .closed")
            }
            wire.stage = .adopted
            wire.slot = submission.connection
        case .refuse:
            guard let wire = offered(submission, index) else { return fail("refused what was not offered") }
            wire.stage = .closed
        case .handOff:
            let target = Int(submission.peer)
            guard let wire = offered(submission, index), target != index, target < shardCount else {
                return fail("a hand-off of nothing or to nobody")
            }
            if shards[target].isDrained {
                wire.stage = .closed
            } else {
                wire.shard = target
                events[target].append(Completion(.accepted, value: wire.descriptor, peer: .max))
            }
        case .wake:
            guard Int(submission.peer) != index, Int(submission.peer) < shardCount else { return fail("woke nobody") }
            events[Int(submission.peer)].append(Completion(.woken))
        case .stopAccepting: hasListener[index] = false
        case .resumeAccepting: isAccepting[index] = true
        case .connect: fail("the broker opens no connections")
        case .send, .sendVector, .sendZeroCopy, .awaitWritable, .pauseReceive, .resumeReceive, .shutdownWrite, .close:
            let wire = wires.first {
                $0.holds(submission.connection.index, of: index) && $0.slot == submission.connection
            }
            guard let wire else { return fail("\(submission.kind) for a connection that does not exist") }
            if let text = wire.carryOut(submission, turn: turnCount, &completions) { fail(text) }
        }
    }

    private func offered(_ submission: Submission, _ index: Int) -> SessionWire? {
        guard wires.indices.contains(Int(submission.value)) else { return nil }
        let wire = wires[Int(submission.value)]
        return wire.stage == .offered && wire.shard == index ? wire : nil
    }

    // MARK: Time

    /// Lets time pass, with a turn for each deadline on the way. False: there were more deadlines than that, and the rest
    /// of the time passed at once.
    @discardableResult
    func advance(milliseconds: Int, deadlineCountMax: Int) -> Bool {
        let end = now + UInt64(milliseconds) * 1_000_000
        for _ in 0..<deadlineCountMax where fault == nil {
            run(turnCountMax: 64)
            if now == end { return true }
            var next = end
            for index in 0..<shardCount where !shards[index].isDrained {
                next = min(next, max(shards[index].deadline, now))
            }
            wallMilliseconds += next / 1_000_000 - now / 1_000_000
            now = next
        }
        wallMilliseconds += end / 1_000_000 - now / 1_000_000
        now = end
        return false
    }
}

extension SessionWire {
    /// The connection has this place in the tables of `shard`.
    func holds(_ index: UInt32, of shard: Int) -> Bool {
        self.shard == shard && (stage == .adopted || stage == .closing) && slot.index == index
    }
}
