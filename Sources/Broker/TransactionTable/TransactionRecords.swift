import Slabs

/// An open transaction: the frames received in it, in order.
struct Transaction: SlabRecord {
    var generation: UInt32
    var session: Index<Session>
    /// Among the session's.
    var link: SingleLink<Transaction>
    var name: BlockIndex
    var nameByteCount: UInt32
    /// Blocks of kept frames, first and last: the next block's index, then `KeptFrame` and the frame's bytes, of each frame.
    var frames: BlockIndex
    var lastFrames: BlockIndex
    var framesByteCount: UInt32
    var frameCount: UInt32
    /// ACK and NACK among the frames.
    var settlementCount: UInt32
    var timer: UInt32
}

/// What the check of a frame found when it was kept. COMMIT does not decide it again.
enum CheckedCommand: BitwiseCopyable {
    case send(CheckedSend)
    /// ACK or NACK: the delivery that it names, and what it says of it.
    case settlement(Handle<Delivery>, Settlement)
}

struct CheckedSend: BitwiseCopyable {
    /// Where it goes. May have been forgotten by the time of COMMIT: it is made again then.
    var destination: Handle<Destination>
    /// The room that it takes in a queue.
    var byteCount: UInt32
    /// It makes or asks for more than its destination: a temporary destination, or the limits of a queue. COMMIT has to read
    /// the frame to have that in place.
    var asksForMore: Bool
    /// It says `persistent:true`.
    var isPersistent = false
    /// It is for a topic, and delayed: the worker that stores it meanwhile, and 1. 0: none does.
    var delayOwner: UInt8 = 0
    var needs = SendNeeds()

    /// The destination's owner has something to store for it: a topic that is sequenced keeps only what goes to its log, and
    /// what it retains.
    func isStored(by destination: UnsafePointer<Destination>) -> Bool {
        destination.pointee.stores(isPersistent: isPersistent)
            && (!destination.pointee.isSequenced || destination.pointee.isLogged
                || needs.contains(.changesRetained))
    }
}

/// What a SEND in a transaction needs with the owner of its destination, beside room in a queue: COMMIT asks for all of it before
/// anything is applied.
struct SendNeeds: OptionSet, BitwiseCopyable {
    let rawValue: UInt8

    /// It changes what its topic retains.
    static let changesRetained = SendNeeds(rawValue: 1)
    /// Its topic is to retain it.
    static let isRetained = SendNeeds(rawValue: 2)
    /// It waits for its time.
    static let isDelayed = SendNeeds(rawValue: 4)
    /// Its id is to be remembered.
    static let isDeduplicated = SendNeeds(rawValue: 8)
    /// The bits of all.
    static var all: UInt64 { 15 }

    init(rawValue: UInt8) { self.rawValue = rawValue }

    init(_ options: MessageOptions) {
        self.init()
        if options.contains(.isDelayed) { insert(.isDelayed) }
        if options.contains(.isDeduplicated) { insert(.isDeduplicated) }
    }
}

/// Room in a queue that is kept for a frame of a COMMIT.
struct KeptRoom: BitwiseCopyable {
    /// None: no room is kept.
    var queue: Handle<Queue>
    /// The worker that holds the queue.
    var owner: UInt16

    static var none: KeptRoom { KeptRoom(queue: .none, owner: 0) }
}

/// Heads the bytes of each frame that is kept.
struct KeptFrame: BitwiseCopyable {
    var byteCount: UInt32
    var command: CheckedCommand
    var room = KeptRoom.none

    static var headByteCount: Int { 32 }
    /// Frames begin on 16-byte boundaries.
    static func stride(_ byteCount: Int) -> Int { headByteCount + (byteCount + 15) & ~15 }
}

/// A place among the frames of a transaction.
struct KeptCursor {
    /// 0: before the first frame.
    var block: BlockIndex = 0
    /// Of the frame that was reached last, and behind it.
    var offset = 0
    var next = 0

    /// Frames begin here, on a 16-byte boundary.
    static var start: Int { 16 }
    /// Block and offset: names the frame in messages to other workers.
    var frame: UInt64 { UInt64(block) << 32 | UInt64(offset) }
}
