/// What may go wrong with storage. Each has its own probability in each run with storage, and is counted when it
/// strikes.
public enum StorageFault: Int, CaseIterable, Sendable {
    // Crashes
    /// The process ends. What the kernel has taken stays.
    case processCrash
    /// The machine stops. Only stable storage stays, and some of the rest.
    case machineCrash
    // What a crash of the machine makes of changes that were not synced
    /// No byte of a write is on the disk.
    case writeDropped
    /// Some sectors of a write are on the disk and others are not.
    case writeTorn
    /// Bytes of a write are on the disk, and some of an earlier one are not.
    case writesReordered
    /// The file's growth is not on the disk, so that kept bytes are beyond its end.
    case growthDropped
    /// A file that was created has no name.
    case creationDropped
    /// A file that was deleted has a name again.
    case deletionDropped
    /// A file that was renamed has its former name.
    case renameDropped
    /// A change of a directory is on the disk, and an earlier one is not.
    case entriesReordered
    // Errors
    case appendFailed, appendWithoutSpace, allocateFailed, createFailed, openFailed, deleteFailed, renameFailed,
        readFailed
    case syncFailed, directorySyncFailed
    /// A failed sync has thrown away bytes that programs still read.
    case bytesForgotten
    /// A bit has changed while the broker was not running.
    case bitFlipped
    // Slowness
    /// A write or a read is carried out in parts, with time between them.
    case shortWrite, shortRead
    case slowOperation
    // No faults, but what has to happen as well
    /// Messages left memory, and came back.
    case messageCooled, messageWarmed
    /// Messages of an earlier life stayed on the disk.
    case messageRestoredCold
    /// A cold message was written again at the log's end.
    case coldMessageCopied
    /// A segment that was needed no more has become another one.
    case segmentReused

    /// A run has few such changes, or none: a hundredth of what is asked of others is asked of these.
    public var isRare: Bool { self == .renameDropped || self == .renameFailed }
}

/// What is asked about each part of each unsynced change when the machine stops.
enum CrashPart {
    /// Whether 512 bytes of a write, or the part of them that it touches, are on the disk.
    case sector
    /// Whether the growth of the file by the change is.
    case growth
    /// Whether the creation or the deletion of a name is.
    case entry
}

/// Decides whether a part of a change is on the disk. `number` tells changes apart: all parts of a submission have the
/// same one.
typealias CrashChoice = (_ part: CrashPart, _ number: Int) -> Bool

/// Decides at random, so that all kinds of ends come about: everything is on the disk, nothing is, or each change has a
/// fate of its own.
struct CrashFates {
    private enum Fate: CaseIterable { case kept, dropped, torn }

    private let common: Fate?
    private var fates: [Int: Fate] = [:]

    init(_ random: inout Random) { common = random.pick([.kept, .dropped, nil, nil, nil, nil, nil]) }

    mutating func keeps(_ number: Int, _ random: inout Random) -> Bool {
        let fate = common ?? fates[number] ?? random.pick(Fate.allCases)
        fates[number] = fate
        return fate == .torn ? random.chance(500) : fate == .kept
    }
}
