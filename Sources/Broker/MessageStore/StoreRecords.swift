import Journal
import Slabs

/// Where a stored message is in the log: at the end of its block in memory, behind the content, at a multiple of 8 bytes.
struct StoredPlace: BitwiseCopyable {
    /// With `worker` the message's name in the log. 0: it is not in the log yet.
    var position: LogPosition
    /// The position of the message's first record.
    var orderKey: LogPosition
    var worker: UInt16
    /// Whose it is: a number of `HostStorage`.
    var host: UInt16
    /// Of its record.
    var byteCount: UInt32
    /// Among the segments of earlier lives. -1: it is in a segment of this life.
    var earlierSegment: Int32

    static var byteCount: Int { 32 }

    var reference: MessageReference { MessageReference(position: position, worker: worker) }

    /// Not in the log yet.
    static var new: StoredPlace {
        StoredPlace(position: 0, orderKey: 0, worker: 0, host: 0, byteCount: 0, earlierSegment: -1)
    }
}

/// Whether something may be stored now.
enum StoreAdmission: BitwiseCopyable {
    case open
    /// Too much waits for the disk: later.
    case wait
    /// The disk is full, or the limit is reached.
    case full
    /// The log could not be written.
    case failed
    /// No segment has room for it.
    case tooLarge
    /// What the virtual host of its destination has stored has reached its limit.
    case hostIsFull
}

/// What an answer of a file means to the shard.
enum StoreEvent {
    case nothing
    /// The log is durable up to `MessageStore.durablePosition`.
    case durable
    /// There is room again for what waited.
    case room
    /// Space is short.
    case short
    /// A segment that is not needed cannot be removed: errno. It is tried again.
    case removalFailed(Int32)
    /// The log cannot go on.
    case failed(Int32, StaticString)
}

/// A part of a transaction of several workers that is in this log, until all of them know that it is complete.
struct OpenPart: BitwiseCopyable {
    enum State: UInt8, BitwiseCopyable {
        /// Its end is not on stable storage.
        case written
        /// Its coordinator has heard that it is durable.
        case durable
        /// All parts are durable, and the log says so from `end` on.
        case ending
        /// The coordinator has heard that this is on stable storage.
        case ended
        /// All logs say so.
        case forgotten
    }

    var transaction: UInt64
    /// Where it begins, and where it ends.
    var position: LogPosition
    var partEnd: LogPosition
    /// What has to be on stable storage for the next step.
    var end: LogPosition
    var state: State
    /// What is confirmed to be stored is no more than what is before it, until all parts are durable: nobody else waits for
    /// them.
    var holdsReceipts: Bool
    /// Ids of messages that became known with it: numbers of `DeduplicationTable`, from the first one to before the end.
    var firstID: UInt64 = 0
    var endID: UInt64 = 0
    /// It holds RECEIPTs since somebody has sent again what may be in it: see `MessageStore.holdForDuplicate`.
    var holdsDuplicates = false
    /// Transactions without which this one does not count, and which are not complete yet.
    var conditions: PartConditions
    /// It will never be complete.
    var isGivenUp = false

    /// Nobody here knows that all parts are on stable storage.
    var isIncomplete: Bool { state == .written || state == .durable }
    var hasIDs: Bool { firstID != endID }
}

/// A transaction of several workers, with the one that began it: answers that are due.
struct OpenCommit: BitwiseCopyable {
    var participants: PeerSet
    var durableDue: UInt16
    var endedDue: UInt16
}

/// What is told about a transaction of several workers: see `MessageStore+Transactions`.
enum CommitStep: UInt8, BitwiseCopyable {
    case durable, complete, ended, forget
    /// A participant's log has failed: the transaction will never be complete.
    case failed
}

/// What counts together or not at all, before it is written.
enum GroupOperation: BitwiseCopyable {
    /// Its block's place is filled in when it is written.
    case message(Handle<Entry>)
    /// The same of one that waits for its time.
    case delayed(Handle<DelayedMessage>)
    case acknowledgement(StoredPlace)
    case failure(UInt16, MessageReference)
    /// A message that a topic keeps. Its block's place is filled in, too.
    case kept(KeptMessage)
    /// A message that has left its queue since.
    case nothing
}

/// Another worker waits until what it has sent is durable.
struct HeldBarrier: BitwiseCopyable {
    var position: LogPosition
    var peer: UInt16
    var pending: Handle<PendingOperation>
}
