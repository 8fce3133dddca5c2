import Broker

/// What a run with a disk is made of beside its `Scenario`: when the broker ends and how, and what the disk does to it.
struct StorageScenario {
    /// How a life of the broker ends.
    enum Ending: CaseIterable {
        /// The process is killed.
        case process
        /// The machine stops.
        case machine
        /// The operator ends the broker, which has the time that it needs.
        case orderly
    }

    /// When a life ends, in events of the run, in order: at the first such moment from then on, within `patience`.
    let endings: [(event: Int, ending: Ending, moment: SimulatedDisk.Moment)]
    static let patience = 200
    let segmentByteCount: Int
    let commit: StorageOptions.Commit
    /// Of appends.
    let blockByteCount: Int
    let onError: StorageOptions.ErrorPolicy
    let reusesSegments: Bool
    /// Large bodies, small segments, long lives and many acknowledgements: one segment after the other becomes the next one.
    let fillsSegments: Bool
    /// Chances of the disk's faults in thousandths, by `StorageFault`.
    let faults: [Int]
    /// Of 1,000 messages to queues so many are persistent.
    let persistentPerThousand: Int
    /// Subscribers may take messages without acknowledging them: what those have taken may be lost with them.
    let permitsAuto: Bool

    /// Bits change while the broker is not running.
    let flips: Bool
    /// Operations on files fail.
    let fails: Bool
    /// Messages and transactions may be too large for a segment.
    var segmentsAreTight: Bool { segmentByteCount < 32 << 10 }
    /// The disk may be full. The blocks of it; nil: no limit.
    let blockCountMax: Int?
    var diskIsTight: Bool { blockCountMax != nil }

    /// When messages leave memory. Most runs have some that do.
    let cold: ColdOptions

    static let directory = "/var/lib/stampede"

    /// - Parameter isCalm: no faults but the crashes.
    init(_ random: inout Random, eventCount: Int, fillsSegments: Bool, isCalm: Bool) {
        self.fillsSegments = fillsSegments
        let events = (0..<random.range(1...5)).map { _ in random.range(1...eventCount) }
        let moments: [SimulatedDisk.Moment] =
            fillsSegments ? [.rename] : [.any, .write, .writes, .writes, .creation, .deletion, .entries]
        var endings: [(event: Int, ending: Ending, moment: SimulatedDisk.Moment)] = events.map { event in
            let ending = random.pick([Ending.process, .process, .machine, .machine, .machine, .orderly])
            return (event, ending, ending == .machine ? random.pick(moments) : .any)
        }
        // A life is short: the next begins in the middle of what the last one began with.
        endings.append((events[0] + random.range(1...30), .machine, .entries))
        endings.append((events.max()! + random.range(1...30), .machine, .deletion))
        endings.sort { $0.event < $1.event }
        self.endings = endings
        let size = random.pick([8 << 10, 8 << 10, 8 << 10, 16 << 10, 64 << 10])
        segmentByteCount = fillsSegments ? 8 << 10 : size
        commit = random.pick([.durableAppend, .appendAndSync])
        blockByteCount = [1, 512, 4096][events[0] % 3]
        reusesSegments = fillsSegments || events[0] % 4 != 1
        onError = random.pick([.stop, .refuse])
        var cold = ColdOptions()
        if random.chance(700) {
            cold.fillPercent = 0
            cold.readyCountMin = random.pick([0, 1, 1, 2, 5])
            cold.aheadByteCountMax = random.pick([1, 300, 2000])
            cold.readByteCountMax = random.pick([64, 300, 2000, 64 << 10])
        }
        self.cold = cold
        persistentPerThousand = random.pick([500, 900, 1000])
        permitsAuto = random.chance(300)
        var faults = [Int](repeating: 0, count: StorageFault.allCases.count)
        fails = !isCalm && random.chance(500)
        // Drawn from what is drawn already, so that the rest of a seed's run stays what it was.
        flips = !isCalm && events[0] % 4 == 0
        blockCountMax = !isCalm && random.chance(100) ? random.range(8...40) * max(segmentByteCount / 4096, 1) : nil
        for fault in StorageFault.allCases where fault != .bitFlipped && !isCalm && random.chance(500) {
            switch fault {
            case .shortWrite, .shortRead: faults[fault.rawValue] = random.range(1...500)
            case .slowOperation: faults[fault.rawValue] = random.range(1...200)
            case .deleteFailed: if fails { faults[fault.rawValue] = random.range(200...600) }
            case .renameFailed: faults[fault.rawValue] = random.range(200...600)
            case .appendFailed, .appendWithoutSpace, .allocateFailed, .createFailed, .openFailed, .readFailed,
                .syncFailed, .directorySyncFailed:
                // There are few reads.
                let factor = fault == .readFailed ? 4 : 1
                if fails { faults[fault.rawValue] = random.range(1...random.pick([20, 200])) * factor }
            case .processCrash, .machineCrash, .writeDropped, .writeTorn, .writesReordered, .growthDropped,
                .creationDropped, .deletionDropped, .renameDropped, .entriesReordered, .bytesForgotten, .bitFlipped,
                .messageCooled, .messageWarmed, .messageRestoredCold, .coldMessageCopied, .segmentReused:
                break
            }
        }
        self.faults = faults
    }
}
