extension CapacityCheck {
    /// User and kernel memory of all parties, in bytes.
    public var estimate: (user: Int, kernel: Int) {
        var user = 0
        var kernel = 0
        for party in parties {
            let count = party.connectionCount
            user += Footprint.processBytes + count * party.userBytesPerConnection
            user += party.workerCount * Footprint.workerBytes
            kernel += count * Footprint.socketBytes
            switch party.driver {
            case .uring:
                user += party.workerCount * party.ring.bufferByteCount
                kernel += party.workerCount * party.ring.queueByteCount(pageByteCount: machine.pageByteCount)
                kernel += count * (Footprint.ringPollBytes + Footprint.fileSlotBytes)
            case .epoll:
                kernel += count * (Footprint.epollItemBytes + Footprint.fileSlotBytes)
            }
        }
        // Each connection counts once, also if both ends are on this machine.
        if let tracked = machine.trackedCount, tracked > 0 { kernel += connectionCount * Footprint.trackedBytes }
        return (user, kernel)
    }

    var memory: Finding? {
        let (user, kernel) = estimate
        let needed = user + kernel
        let isGroupLimit = (machine.groupMemoryLeft ?? .max) < (machine.memoryAvailable ?? .max)
        let name = isGroupLimit ? "memory (limit of the cgroup)" : "memory"
        let note =
            "estimate: \(user.mebibytes) of processes, \(kernel.mebibytes) of the kernel, which cgroups count too"
        guard let found = isGroupLimit ? machine.groupMemoryLeft : machine.memoryAvailable else {
            return Finding(name, .unknown, found: "not readable", needed: needed.mebibytes, note: note)
        }
        let isMet = found >= needed
        return Finding(
            name, isMet ? .met : .missing, found: "\(found.mebibytes) available", needed: needed.mebibytes, note: note,
            remedies: isMet ? [] : remedies.memory(needed, isGroupLimit: isGroupLimit))
    }

    /// Rings count as locked memory before Linux 5.12 and from Linux 6.14 on, unless the process has CAP_IPC_LOCK. The
    /// kernel adds up the locked memory of all processes of a user.
    var lockedMemory: Finding? {
        let name = "RLIMIT_MEMLOCK"
        let found = machine.lockedBytes.hard.mebibytes
        let version = machine.kernelVersion
        let isCounted = version < KernelVersion(5, 12) || version >= KernelVersion(6, 14)
        guard parties.contains(where: { $0.driver == .uring }), isCounted, !machine.has(.ipcLock) else {
            return Finding(
                name, .met, found: found, needed: "",
                note: isCounted
                    ? "does not apply here: CAP_IPC_LOCK, or no ring" : "does not apply here: Linux 5.12 to 6.13")
        }
        let needed = parties.filter { $0.driver == .uring }.reduce(0) { sum, party in
            sum + party.workerCount * party.ring.queueByteCount(pageByteCount: machine.pageByteCount)
        }
        let isMet = machine.lockedBytes.hard >= needed
        return Finding(
            name, isMet ? .met : .missing, found: found, needed: needed.mebibytes,
            note: "the queues of rings are locked memory on Linux \(version), summed up for a user",
            remedies: isMet
                ? [] : remedies.lockedMemory(needed) + ["smaller rings: io.uring.cq-entries and io.uring.sq-entries"])
    }

    /// The memory mappings: each table, pool, ring and stack of a worker is one.
    var mappings: Finding? {
        let needed =
            Footprint.processMappings + (parties.map(\.workerCount).max() ?? 0) * Footprint.mappingsPerWorker
        return .atLeast(
            "vm.max_map_count", machine.mappingMax, needed,
            remedies: remedies.hostSysctl("vm.max_map_count", "65530"))
    }

    /// Tables reserve address space for their largest size and use memory on demand. With strict overcommit accounting
    /// the kernel counts the whole reservation.
    var overcommit: Finding? {
        guard let mode = machine.overcommit, broker != nil else { return nil }
        let isMet = mode != 2
        return Finding(
            "vm.overcommit_memory", isMet ? .met : .missing, found: "\(mode)", needed: "0 or 1",
            note: isMet ? "" : "tables are reserved for their largest size, which strict accounting counts as if used",
            remedies: isMet ? [] : remedies.hostSysctl("vm.overcommit_memory", "0"))
    }
}
