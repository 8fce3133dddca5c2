/// Compares what N connections need with what a machine allows. Pure: it uses only its two values.
public struct CapacityCheck {
    let parties: [Party]
    let machine: MachineSnapshot
    let remedies: Remedies

    /// - Parameter parties: the processes on this machine with an end of the connections: the broker, the clients, or
    ///   both. Both are connected to each other.
    public init(_ parties: [Party], on machine: MachineSnapshot) {
        self.parties = parties
        self.machine = machine
        remedies = Remedies(surroundings: machine.surroundings)
    }

    public var report: CapacityReport {
        var findings: [Finding] = []
        for party in parties {
            findings += [ring(party), tables(party), descriptors(party), epollWatches(party)].compactMap { $0 }
            findings += ownLimits(party)
        }
        findings += [descriptorCeiling, files, acceptBacklog, handshakeBacklog, packetBacklog, tcpMemory].compactMap {
            $0
        }
        findings += [buffers("net.ipv4.tcp_rmem", machine.receiveBuffer, 131_072)].compactMap { $0 }
        findings += [buffers("net.ipv4.tcp_wmem", machine.sendBuffer, 16_384)].compactMap { $0 }
        findings += [ports, addresses, tracking, memory, lockedMemory, mappings, overcommit].compactMap { $0 }
        return CapacityReport(
            connections: connectionCount,
            surroundings: machine.surroundings.description, kernel: machine.kernelRelease, findings: findings)
    }

    var connectionCount: Int { parties.map(\.connectionCount).max() ?? 0 }
    var broker: Party? { parties.first { $0.role == .broker } }
    var clients: Party? { parties.first { $0.role == .clients } }

    /// "RLIMIT_NOFILE (clients)" if there are two parties.
    func named(_ name: String, _ party: Party) -> String {
        parties.count > 1 ? "\(name) (\(party.role.rawValue))" : name
    }

    // MARK: Rings and descriptors

    /// Whether io_uring is available. Without it, epoll can hold as many connections as there are descriptors.
    private func ring(_ party: Party) -> Finding? {
        guard let refusal = machine.ringRefusal else {
            return Finding(named("io_uring", party), .met, found: "available", needed: "available")
        }
        let wouldDo = !party.insistsOnRing && machine.descriptors.hard >= plainDescriptorCount(party)
        let remedy: [String]
        if let policy = machine.ringPolicy, policy != 0 {
            remedy = remedies.hostSysctl("kernel.io_uring_disabled", "0")
        } else if machine.isFiltered {
            remedy = remedies.ringFilter
        } else if machine.kernelVersion < KernelVersion(6, 1) {
            remedy = ["Linux 6.1 or later"]
        } else {
            remedy = []
        }
        return Finding(
            named("io_uring", party), wouldDo ? .advice : .missing, found: refusal,
            needed: wouldDo ? "nothing: epoll is enough" : "available",
            note: wouldDo
                ? "each connection takes a descriptor with epoll"
                : "with epoll each connection takes a descriptor, and RLIMIT_NOFILE is too low for that",
            remedies: remedy)
    }

    /// The connections that the file table of a worker can hold, if RLIMIT_NOFILE is `descriptorCount`.
    private func slotCount(_ party: Party, descriptorCount: Int) -> Int {
        let tableMax = 1 << 20
        let table = min(descriptorCount, tableMax)
        let spare = table - min(party.reservedSlotCount, table / 4)
        return party.connectionsPerWorkerMax > 0 ? min(party.connectionsPerWorkerMax, spare) : spare
    }

    /// The most connections that one of `workerCount` workers gets. The kernel distributes them over the listeners by a
    /// hash, so one worker may get four standard deviations more than the mean.
    private func connectionsOfFullestWorker(_ party: Party, _ workerCount: Int) -> Int {
        let mean = (Double(party.connectionCount) / Double(workerCount)).rounded(.up)
        guard party.spreadsByHash, workerCount > 1 else { return Int(mean) }
        return min(party.connectionCount, Int((mean + 4 * mean.squareRoot()).rounded(.up)))
    }

    /// The smallest number of workers whose tables hold all connections. nil: not even the largest number of workers is
    /// enough.
    private func workersNeeded(_ party: Party, slots: Int) -> Int? {
        (1...max(party.workerCountMax, 1)).first {
            connectionsOfFullestWorker(party, $0) <= slots
        }
    }

    /// Whether the file tables of all rings together hold N connections.
    private func tables(_ party: Party) -> Finding? {
        guard party.hasDirectDescriptors else { return nil }
        let slots = slotCount(party, descriptorCount: machine.descriptors.hard)
        let fullest = connectionsOfFullestWorker(party, party.workerCount)
        let total = slots * party.workerCount
        let name = named("rings", party)
        let found = "\(total.grouped) (\(party.workerCount) with room for \(slots.grouped) each)"
        let needed = party.connectionCount.grouped
        let enough = workersNeeded(party, slots: slots)
        if fullest <= slots {
            return Finding(name, .met, found: found, needed: needed, note: "these take no descriptors of the process")
        }
        var mends: [String] = []
        if let enough {
            mends.append("\(party.workerSetting): \(enough)")
        } else if party.connectionsPerWorkerMax > 0 {
            mends.append("io.uring.connections-per-ring: 0 (as many as RLIMIT_NOFILE allows)")
        }
        if party.connectionsPerWorkerMax == 0 || party.connectionsPerWorkerMax >= fullest {
            mends += remedies.descriptors(fullest + party.reservedSlotCount, mayRaise: mayRaiseLimits)
        }
        // A worker with a full table hands new connections off, so the sum of all tables decides. The margin avoids
        // these hand-offs.
        let fits = total >= party.connectionCount
        return Finding(
            name, fits ? .advice : .missing, found: found, needed: needed,
            note: fits
                ? "the fullest worker will hand connections off to others"
                : "a ring's file table has as many slots as RLIMIT_NOFILE, 1,048,576 at most",
            remedies: mends)
    }

    private var mayRaiseLimits: Bool { machine.has(.sysResource) }

    private func plainDescriptorCount(_ party: Party) -> Int { party.connectionCount + ownDescriptorCount(party) }

    private func ownDescriptorCount(_ party: Party) -> Int {
        party.workerCount * (Footprint.descriptorsPerWorker + party.listenerCount) + Footprint.descriptorReserve
    }

    /// The descriptors of the process. With direct descriptors, only those of the workers count.
    private func descriptors(_ party: Party) -> Finding? {
        let needed = party.hasDirectDescriptors ? ownDescriptorCount(party) : plainDescriptorCount(party)
        return .atLeast(
            named("RLIMIT_NOFILE", party), machine.descriptors.hard, needed,
            note: party.hasDirectDescriptors
                ? "rings, listeners and wake-ups; connections take no descriptors here"
                : "each connection takes a descriptor "
                    + (party.driver == .epoll ? "with epoll" : "if the ring has no direct ones (Linux 6.13)"),
            remedies: remedies.descriptors(needed, mayRaise: mayRaiseLimits))
    }

    private func epollWatches(_ party: Party) -> Finding? {
        guard party.driver == .epoll else { return nil }
        return .atLeast(
            named("fs.epoll.max_user_watches", party), machine.epollWatchMax, party.connectionCount,
            remedies: remedies.hostSysctl("fs.epoll.max_user_watches", "\(party.connectionCount + 1000)"))
    }

    private func ownLimits(_ party: Party) -> [Finding] {
        party.ownLimits.map { limit in
            let share = limit.isPerWorker ? (party.connectionCount - 1) / max(party.workerCount, 1) + 1 : 0
            var finding = Finding.atLeast(
                limit.name, limit.total, party.connectionCount,
                note: limit.isPerWorker ? "in all workers together" : "",
                remedies: ["\(limit.name): \(limit.isPerWorker ? share + share / 10 : party.connectionCount)"])
            if limit.isPartial, finding.verdict == .missing {
                finding.verdict = .advice
                finding.note = "the connections beyond it have to come to others"
            }
            return finding
        }
    }

    /// RLIMIT_NOFILE cannot be raised beyond fs.nr_open.
    private var descriptorCeiling: Finding? {
        let needed =
            parties.map { party in
                party.hasDirectDescriptors ? ownDescriptorCount(party) : plainDescriptorCount(party)
            }.max() ?? 0
        return .atLeast(
            "fs.nr_open", machine.descriptorCeiling, needed, note: "the most that RLIMIT_NOFILE can be raised to",
            remedies: remedies.hostSysctl("fs.nr_open", "\(needed)"))
    }

    /// The open files of the kernel. Every socket is one, also with a direct descriptor.
    private var files: Finding? {
        let reserve = 10_000
        let needed = (machine.fileCount ?? 0) + parties.map(\.connectionCount).reduce(0, +) + reserve
        return .atLeast(
            "fs.file-max", machine.fileMax, needed,
            note:
                "every socket is an open file, direct descriptor or not; \((machine.fileCount ?? 0).grouped) are open now",
            remedies: remedies.hostSysctl("fs.file-max", "\(needed)"))
    }
}
