import IO
import Slabs

/// A message that waits for its time, with the worker that owns its destination.
struct DelayedMessage: SlabRecord {
    var generation: UInt32
    /// `StoredMessage`, then the `ScheduleLine`, the other header lines, LF, body, NUL, LF; then `StoredPlace` where it is
    /// stored.
    var message: BlockIndex
    /// The queue that it is for. None: it is for a topic.
    var queue: Handle<Queue>
    /// Wall-clock milliseconds.
    var dueAt: UInt64
    /// When it is looked at: `dueAt`, or later, if its queue had no room then.
    var wakesAt: UInt64
    /// Among those that are due at the same time.
    var order: UInt64
    var identity: UInt64
    /// Wall-clock milliseconds. 0: never.
    var expiresAt: UInt64
    /// What it takes in its queue.
    var byteCount: UInt32
    var isStored: Bool
    /// Its queue keeps room for it.
    var keepsRoom: Bool
    /// An earlier life may have given it out, and did not say so before it ended.
    var mayHaveBeenDelivered: Bool
}

/// Where a delayed message goes.
struct DelayTarget: BitwiseCopyable, Equatable {
    /// None: it is for a topic.
    var queue: Handle<Queue>
    /// Hash of the topic's name: topics that share one share delays, too. 0: it is for a queue.
    var topicHash: UInt64 = 0
}

/// A queue or topic that had no room for a message that was due, and when it is tried again (wall-clock milliseconds).
struct BlockedTarget: BitwiseCopyable {
    var target: DelayTarget
    var until: UInt64
    /// Also for messages for which it keeps room: one of these has not been taken. Else they go first, for what they take may
    /// be all that the others wait for.
    var isForAll: Bool
}

/// The messages of one worker that wait for their time: a heap by that time.
///
/// It keeps these rules:
///
/// - the earliest is at the front of the heap; of those with the same time, the one that came first;
/// - `count` and `byteCount` are those of the messages that it holds, and `isFull` compares them with the limits.
///
/// It owns the messages' blocks, and knows neither what a line says nor queues nor the log: `Shard+Delays` carries out what is
/// due. `hold` and `remove` take time logarithmic in the number of messages. A message takes 72 bytes beside its block.
struct DelayTable: ~Copyable {
    private var records: Slab<DelayedMessage>
    /// A heap: none is earlier than its parent, at half its place.
    private var heap = Batch<Index<DelayedMessage>>(capacity: 16)
    private let countMax: Int
    private let byteCountMax: Int
    /// Of their contents.
    private(set) var byteCount = 0
    private var nextOrder: UInt64 = 1
    /// When queues and topics that had no room are tried again.
    private var blocked = Batch<BlockedTarget>(capacity: 16)
    /// How far they were looked through for those that are written to the log again.
    var compaction = Index<DelayedMessage>.none

    /// Messages that a COMMIT has been promised room for may exceed the limit by so many.
    private static var excessMax: Int { 65_536 }

    /// Delayed messages take at most half of the messages' memory: nobody knows when they make room.
    init(_ limits: Limits) throws(SlabError) {
        countMax = limits.delayedMessageCountMax
        byteCountMax = limits.messageMemoryByteCountMax / 2
        records = try Slab<DelayedMessage>(recordCountMax: countMax + Self.excessMax)
    }

    var count: Int { records.liveCount }
    var isEmpty: Bool { records.liveCount == 0 }

    /// There may not be another one of so many bytes.
    func isFull(_ byteCount: Int) -> Bool { count >= countMax || self.byteCount + byteCount > byteCountMax }

    subscript(_ index: Index<DelayedMessage>) -> UnsafePointer<DelayedMessage> { UnsafePointer(records[index]) }

    func handle(_ index: Index<DelayedMessage>) -> Handle<DelayedMessage> { records.handle(index) }
    func isLive(_ handle: Handle<DelayedMessage>) -> Bool { records.isLive(handle) }
    func nextLive(after index: Index<DelayedMessage>) -> Index<DelayedMessage> { records.nextLive(after: index) }

    /// Messages from now on come behind those with a lower place.
    mutating func beginOrder(at place: UInt64) { nextOrder = max(nextOrder, place) }

    // MARK: Messages

    /// Takes a message whose block is there. None: there are too many, and the block stays the caller's.
    ///
    /// - Parameter order: its place among those that are due at the same time. 0: behind all.
    mutating func hold(
        _ block: BlockIndex, _ message: Message, for queue: Handle<Queue>, dueAt: UInt64, byteCount: Int,
        isStored: Bool, keepsRoom: Bool, order: UInt64 = 0, mayHaveBeenDelivered: Bool = false
    ) -> Index<DelayedMessage> {
        let index: Index<DelayedMessage> = records.allocate().index
        if index.isNone { return .none }
        let record = records[index]
        record.pointee.message = block
        record.pointee.queue = queue
        record.pointee.dueAt = dueAt
        record.pointee.wakesAt = dueAt
        record.pointee.order = order == 0 ? nextOrder : order
        if order == 0 { nextOrder &+= 1 }
        record.pointee.identity = message.identity
        record.pointee.expiresAt = message.expiresAt
        record.pointee.byteCount = UInt32(byteCount)
        record.pointee.isStored = isStored
        record.pointee.keepsRoom = keepsRoom
        record.pointee.mayHaveBeenDelivered = mayHaveBeenDelivered
        self.byteCount += byteCount
        heap.append(index)
        rise(heap.count - 1)
        return index
    }

    /// Its queue was made again, or keeps no room for it any more.
    mutating func setQueue(_ queue: Handle<Queue>, keepsRoom: Bool, of index: Index<DelayedMessage>) {
        records[index].pointee.queue = queue
        records[index].pointee.keepsRoom = keepsRoom
    }

    /// When the earliest wakes (wall-clock milliseconds). nil: there is none.
    var wakesAt: UInt64? { heap.isEmpty ? nil : records[heap[0]].pointee.wakesAt }

    /// The earliest, if it wakes by now. None: none does.
    func earliest(by now: UInt64) -> Index<DelayedMessage> {
        guard !heap.isEmpty, records[heap[0]].pointee.wakesAt <= now else { return .none }
        return heap[0]
    }

    /// Removes the earliest, with its block.
    mutating func removeEarliest(_ memory: inout MemoryBudget) {
        let index = heap[0]
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink(0)
        }
        byteCount -= Int(records[index].pointee.byteCount)
        memory.blocks.release(records[index].pointee.message)
        records.free(index)
        if records.liveCount == 0 { records.trim() }
    }

    // MARK: Targets without room

    /// Some queue or topic had no room.
    var hasBlocked: Bool { blocked.count > 0 }

    /// The earliest found no room at its target: it is tried again at that time, and so is what comes behind it.
    mutating func postponeEarliest(until time: UInt64, at target: DelayTarget) {
        let keepsRoom = records[heap[0]].pointee.keepsRoom
        var place = 0
        while place < blocked.count, blocked[place].target != target { place += 1 }
        if place == blocked.count {
            blocked.append(BlockedTarget(target: target, until: time, isForAll: keepsRoom))
        } else if keepsRoom {
            blocked[place].isForAll = true
        }
        records[heap[0]].pointee.wakesAt = time
        sink(0)
    }

    /// When the target of a message, which had no room, is tried again. nil: it may be tried now.
    mutating func blockedUntil(_ message: DelayedMessage, _ target: DelayTarget, after now: UInt64) -> UInt64? {
        var place = 0
        while place < blocked.count {
            if blocked[place].until <= now {
                let last = blocked.removeLast()
                if place < blocked.count { blocked[place] = last }
                continue
            }
            if blocked[place].target == target {
                return blocked[place].isForAll || !message.keepsRoom ? blocked[place].until : nil
            }
            place += 1
        }
        return nil
    }

    // MARK: The heap

    private func precedes(_ a: Index<DelayedMessage>, _ b: Index<DelayedMessage>) -> Bool {
        let (first, second) = (records[a].pointee, records[b].pointee)
        return (first.wakesAt, first.dueAt, first.order) < (second.wakesAt, second.dueAt, second.order)
    }

    private mutating func rise(_ start: Int) {
        var place = start
        let index = heap[place]
        while place > 0, precedes(index, heap[(place - 1) / 2]) {
            heap[place] = heap[(place - 1) / 2]
            place = (place - 1) / 2
        }
        heap[place] = index
    }

    private mutating func sink(_ start: Int) {
        var place = start
        let index = heap[place]
        while 2 * place + 1 < heap.count {
            var child = 2 * place + 1
            if child + 1 < heap.count, precedes(heap[child + 1], heap[child]) { child += 1 }
            guard precedes(heap[child], index) else { break }
            heap[place] = heap[child]
            place = child
        }
        heap[place] = index
    }

    /// The first broken rule, or nil. Time is linear in messages.
    func audit() -> String? {
        var sum = 0
        for place in 0..<heap.count {
            if place > 0, precedes(heap[place], heap[(place - 1) / 2]) {
                return "a delayed message is before an earlier one"
            }
            sum += Int(records[heap[place]].pointee.byteCount)
        }
        if heap.count != count { return "\(count) delayed messages, \(heap.count) in the heap" }
        return sum == byteCount ? nil : "delayed messages take \(sum) bytes and count \(byteCount)"
    }
}
