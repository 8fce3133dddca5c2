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

    func endLives(at event: Int) {
        for (_, ending) in scenario.storage!.endings.filter({ $0.event == event }) where !hasFailed { crash(ending) }
    }

    func crash(_ ending: StorageScenario.Ending) {
        guard let disk else { return }
        if let log { log("\(moment) the broker ends: \(ending)") }
        // A worker may have been in the middle of its submissions.
        for index in 0..<scenario.shardCount where !workers[index].isCarriedOut && random.chance(500) {
            carryOut(index, countMax: random.below(shards[index].submissions.count + 1))
            if hasFailed { return }
        }
        let former = scenario.shardCount
        let shardCount = random.chance(500) ? former : random.pick([1, 1, 2, 2, 3, 4])
        switch ending {
        case .process: disk.crashProcess(workerCount: shardCount)
        case .machine: disk.crashMachine(workerCount: shardCount)
        }
        trace.add(shardCount)
        oracle.brokerCrashed(peers.filter { $0.stage != .closed })
        endShards()
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
}
