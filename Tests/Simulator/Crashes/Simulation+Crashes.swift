import Broker
import Glibc
import IO
import Slabs

// The broker ends in the middle of everything, and another begins on what it left on the disk.
extension Simulation {
    static func makeDisk(_ storage: StorageScenario, _ workerCount: Int, _ random: inout Random) -> SimulatedDisk {
        let disk = SimulatedDisk(workerCount: workerCount, seed: random.next())
        disk.makeDirectory(StorageScenario.directory)
        disk.faults = storage.faults
        if let blocks = storage.blockCountMax { disk.blockCountMax = blocks }
        return disk
    }

    /// Bugs that are planted in what the broker is told of the disk.
    func plantInDisk() {
        guard let disk else { return }
        switch canary {
        case .confirmUnsynced: disk.skipsSync = { [unowned self] in !$0 && strikesCanary(oneIn: 4) }
        case .loseDirectorySync: disk.skipsSync = { [unowned self] in $0 && strikesCanary(oneIn: 2) }
        default: break
        }
    }

    /// A bug that is planted in what workers tell each other.
    func forgetHolders(_ index: Int) {
        var next = fabric.mailbox(index).takeAll()
        while let batch = next {
            next = batch.pointee.next
            Shard.forgetHolders(in: batch)
            _ = fabric.mailbox(index).post(batch)
        }
    }

    /// Operations do not fail any more, and there is room.
    private func mendDisk() {
        guard let disk else { return }
        for fault in StorageFault.allCases where fault != .shortWrite && fault != .shortRead {
            disk.faults[fault.rawValue] = 0
        }
        disk.blockCountMax = .max
    }

    func endLives(at event: Int) {
        endingsDue += scenario.storage!.endings.filter { $0.event == event }
        while let next = endingsDue.first, !hasFailed {
            guard disk!.isAt(next.moment) || event >= next.event + StorageScenario.patience else { break }
            endingsDue.removeFirst()
            endLife(next.ending)
        }
        // The server ends a broker that can store nothing more, if it is to.
        if !hasFailed, scenario.storage!.onError == .stop, hasStorageFailed {
            endLife(random.pick([.process, .orderly]))
        }
    }

    /// The last life begins on a disk that works.
    func endLivesThatFail() {
        mendDisk()
        if hasStorageFailed { endLife(random.pick(StorageScenario.Ending.allCases)) }
    }

    private var hasStorageFailed: Bool { (0..<scenario.shardCount).contains { shards[$0].hasStorageFailed } }

    /// The broker ends, and another begins on what it left.
    func endLife(_ ending: StorageScenario.Ending) {
        guard let disk else { return }
        judgeHostStorage()
        if let log { log("\(moment) the broker ends: \(ending)") }
        if ending == .orderly { drainLife() } else { breakOff() }
        if hasFailed { return }
        let former = scenario.shardCount
        let shardCount = random.chance(500) ? former : random.pick([1, 2, 2, 3, 4])
        let hasStored = ending == .orderly && !hasStorageFailed && !hasStorageNotice
        hasStorageNotice = false
        switch ending {
        case .process: disk.crashProcess(workerCount: shardCount)
        case .machine: disk.crashMachine(workerCount: shardCount)
        case .orderly: disk.endProcess(workerCount: shardCount)
        }
        trace.add(shardCount)
        oracle.brokerEnded(
            peers.filter { $0.stage != .closed }, isOrderly: ending == .orderly, hasStored: hasStored)
        oracle.forgetOpenEnds(durables)
        countCold()
        endShards()
        firstOfLife = peers.count
        answers.removeAll()
        receiptAnswers.removeAll()
        memset(arena, 0xA5, arenaUsed)
        arenaUsed = 0
        // It takes a while until somebody starts it again.
        now += UInt64(random.range(1...2000)) * 1_000_000
        scenario.shardCount = shardCount
        oracle.brokerBegan(shardCount: shardCount)
        beginLife()
    }

    /// What this life has done with messages that are in the log alone.
    func countCold() {
        for index in 0..<madeCount {
            disk?.count(.messageCooled, Int(shards[index].counters.messagesCooled))
            disk?.count(.messageWarmed, Int(shards[index].counters.messagesWarmed))
            disk?.count(.coldMessageCopied, shards[index].coldCopyCount)
        }
    }

    /// Each worker may be in the middle of its submissions.
    private func breakOff() {
        for index in 0..<scenario.shardCount where !workers[index].isCarriedOut && random.chance(500) {
            activeShard = index
            _ = lower(index)
            carryOut(index, countMax: random.below(shards[index].submissions.count + 1))
            if hasFailed { return }
        }
    }

    /// The operator ends the broker and waits for it; clients go on meanwhile.
    private func drainLife() {
        isDraining = true
        defer { isDraining = false }
        for index in 0..<scenario.shardCount {
            shards[index].beginDrain()
            workers[index].isWoken = true
        }
        let limits = scenario.options.limits
        // What is under way with a slow disk takes as long as it takes.
        let patience = UInt64(limits.drainMillisecondsMax + limits.lingerMillisecondsMax + 30_000) * 1_000_000
        let start = now
        while (0..<scenario.shardCount).contains(where: { !workers[$0].isDrained }) {
            oracle.step += 1
            if random.chance(200) { act() }
            for peer in peers where peer.stage != .closed && !peer.clientIsGone { read(peer) }
            for index in 0..<scenario.shardCount {
                step(index)
                if hasFailed { return }
            }
            now += UInt64(random.pick([0, 100_000, 1_000_000]))
            // Somebody makes room on the disk.
            if now - start > 20_000_000_000 { disk?.blockCountMax = .max }
            if now - start > patience {
                let left = (0..<scenario.shardCount).filter { !workers[$0].isDrained }
                return oracle.violate("shards \(left) do not end although they drain")
            }
        }
    }
}
