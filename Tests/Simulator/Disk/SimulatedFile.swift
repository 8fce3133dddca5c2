/// The bytes of a file: as programs see them, and as they are on stable storage.
///
/// A change that is not on stable storage is in a list. At a crash each 512-byte sector of each write is on the disk or
/// it is not, independently of the others, with one exception: the kernel writes whole sectors from its own memory. So
/// a sector that has the bytes of one write also has those of all earlier writes.
final class SimulatedFile {
    static let sectorByteCount = 512

    /// A write, or a reservation of space (no bytes), in the order in which the kernel carried them out.
    struct Change {
        let number: Int
        let offset: Int
        let bytes: ArraySlice<UInt8>
        /// The file is at least so long afterwards.
        let end: Int
        /// A failed sync has thrown it away: only a later write to the same sector brings it to the disk.
        var isForgotten = false
        /// Sectors that are on stable storage with these bytes, or later ones.
        var syncedSectors: Set<Int> = []

        /// The others.
        var sectors: [Int] {
            guard !bytes.isEmpty else { return [] }
            let all = offset / sectorByteCount...(offset + bytes.count - 1) / sectorByteCount
            return all.filter { !syncedSectors.contains($0) }
        }
    }

    /// What a crash has done to unsynced changes.
    struct Loss {
        var droppedCount = 0
        var tornCount = 0
        var growthDroppedCount = 0
        /// Numbers of writes of which nothing, or not all, is on the disk, and of those of which something is.
        var lost: [Int] = []
        var kept: [Int] = []
    }

    private(set) var bytes: [UInt8] = []
    private(set) var durableBytes: [UInt8] = []
    private(set) var unsynced: [Change] = []
    /// The blocks (`SimulatedDisk.blockByteCount`) that the file has.
    private(set) var blocks: Set<Int> = []

    // MARK: What programs see

    func write(_ piece: ArraySlice<UInt8>, at offset: Int, number: Int) {
        let end = offset + piece.count
        grow(to: end)
        bytes.replaceSubrange(offset..<end, with: piece)
        unsynced.append(Change(number: number, offset: offset, bytes: piece, end: end))
    }

    func allocate(to end: Int, number: Int) {
        grow(to: end)
        unsynced.append(Change(number: number, offset: 0, bytes: [], end: end))
    }

    private func grow(to end: Int) { Self.grow(&bytes, to: end) }

    /// Zeros from an array: a sequence of them is copied element by element in a debug build, which was six tenths of the
    /// time of all crash tests.
    private static func grow(_ bytes: inout [UInt8], to end: Int) {
        while bytes.count < end { bytes.append(contentsOf: zeros.prefix(end - bytes.count)) }
    }

    private static let zeros = [UInt8](repeating: 0, count: 65_536)

    func take(_ more: [Int]) { blocks.formUnion(more) }

    // MARK: Stable storage

    /// The changes that fulfil the condition, and all that these cannot be without, are on stable storage from now on.
    func sync(where isSynced: (Change) -> Bool) {
        var last: [Int: Int] = [:]
        var end = durableBytes.count
        for (place, change) in unsynced.enumerated() where isSynced(change) && !change.isForgotten {
            for sector in change.sectors { last[sector] = place }
            end = max(end, change.end)
        }
        persist(byteCount: end, upTo: last)
        unsynced.removeAll(where: isSynced)
    }

    /// A sync fails: the kernel takes some changes for written that are not. Returns how many.
    func forget(where isForgotten: (Change) -> Bool) -> Int {
        var count = 0
        for place in unsynced.indices where !unsynced[place].isForgotten && isForgotten(unsynced[place]) {
            unsynced[place].isForgotten = true
            count += 1
        }
        return count
    }

    /// The kernel drops what it takes for written: programs see what the disk has.
    func evict() {
        guard unsynced.contains(where: \.isForgotten) else { return }
        let former = (durableBytes, unsynced)
        sync { _ in true }
        bytes = durableBytes
        (durableBytes, unsynced) = former
    }

    /// Leaves what a crash of the machine leaves.
    func crash(_ keeps: CrashChoice) -> Loss {
        var last: [Int: Int] = [:]
        var end = durableBytes.count
        var loss = Loss()
        for (place, change) in unsynced.enumerated() where !change.isForgotten {
            for sector in change.sectors where keeps(.sector, change.number) { last[sector] = place }
            guard change.end > durableBytes.count else { continue }
            if keeps(.growth, change.number) { end = max(end, change.end) } else { loss.growthDroppedCount += 1 }
        }
        for (place, change) in unsynced.enumerated() where !change.sectors.isEmpty {
            let sectors = change.sectors
            let keptCount = sectors.count { last[$0, default: -1] >= place && $0 * Self.sectorByteCount < end }
            if keptCount == 0 { loss.droppedCount += 1 }
            if keptCount > 0, keptCount < sectors.count { loss.tornCount += 1 }
            if keptCount > 0 { loss.kept.append(change.number) }
            if keptCount < sectors.count { loss.lost.append(change.number) }
        }
        persist(byteCount: end, upTo: last)
        unsynced = []
        bytes = durableBytes
        return loss
    }

    /// - Parameter last: of each sector that was written, the last change that it has, as a place in `unsynced`.
    private func persist(byteCount: Int, upTo last: [Int: Int]) {
        Self.grow(&durableBytes, to: byteCount)
        for (place, change) in unsynced.enumerated() {
            for sector in change.sectors where last[sector, default: -1] >= place {
                unsynced[place].syncedSectors.insert(sector)
                let first = max(sector * Self.sectorByteCount, change.offset)
                let end = min((sector + 1) * Self.sectorByteCount, change.offset + change.bytes.count, byteCount)
                guard first < end else { continue }
                let shift = change.bytes.startIndex - change.offset
                durableBytes.replaceSubrange(first..<end, with: change.bytes[first + shift..<end + shift])
            }
        }
    }
}

/// The names in a directory, as programs see them and on stable storage.
///
/// At a crash each creation, deletion and renaming is on the disk or it is not. Only changes of one name keep their order.
final class SimulatedDirectory {
    struct Change {
        let number: Int
        let name: String
        /// nil: the name was deleted.
        let file: SimulatedFile?
        /// What the file was called before.
        var formerName: String?
        var isForgotten = false
    }

    struct Loss {
        var creationDroppedCount = 0
        var deletionDroppedCount = 0
        var renameDroppedCount = 0
        var reorderedCount = 0
    }

    private(set) var entries: [String: SimulatedFile] = [:]
    private(set) var durableEntries: [String: SimulatedFile] = [:]
    private(set) var unsynced: [Change] = []

    func set(_ name: String, _ file: SimulatedFile?, number: Int) {
        entries[name] = file
        unsynced.append(Change(number: number, name: name, file: file))
    }

    func rename(_ name: String, to newName: String, number: Int) {
        let change = Change(number: number, name: newName, file: entries[name], formerName: name)
        Self.apply(change, to: &entries)
        unsynced.append(change)
    }

    private static func apply(_ change: Change, to entries: inout [String: SimulatedFile]) {
        if let former = change.formerName { entries[former] = nil }
        entries[change.name] = change.file
    }

    func sync(where isSynced: (Change) -> Bool) {
        for change in unsynced where isSynced(change) && !change.isForgotten {
            Self.apply(change, to: &durableEntries)
        }
        unsynced.removeAll(where: isSynced)
    }

    /// A sync fails: the kernel takes some changes for written that are not. Returns how many.
    func forget(where isForgotten: (Change) -> Bool) -> Int {
        var count = 0
        for place in unsynced.indices where !unsynced[place].isForgotten && isForgotten(unsynced[place]) {
            unsynced[place].isForgotten = true
            count += 1
        }
        return count
    }

    /// The kernel drops what it takes for written: programs see what the disk has.
    func evict() {
        unsynced.removeAll(where: \.isForgotten)
        entries = durableEntries
        for change in unsynced { Self.apply(change, to: &entries) }
    }

    /// Leaves what a crash of the machine leaves.
    func crash(_ keeps: CrashChoice) -> Loss {
        var loss = Loss()
        var hasLost = false
        var last: [String: Int] = [:]
        for (place, change) in unsynced.enumerated() where !change.isForgotten && keeps(.entry, change.number) {
            last[change.name] = place
            if let former = change.formerName { last[former] = place }
        }
        for (place, change) in unsynced.enumerated() {
            if last[change.name, default: -1] >= place {
                Self.apply(change, to: &durableEntries)
                if hasLost { loss.reorderedCount += 1 }
            } else {
                hasLost = true
                if change.formerName != nil {
                    loss.renameDroppedCount += 1
                } else if change.file == nil {
                    loss.deletionDroppedCount += 1
                } else {
                    loss.creationDroppedCount += 1
                }
            }
        }
        unsynced = []
        entries = durableEntries
        return loss
    }
}
