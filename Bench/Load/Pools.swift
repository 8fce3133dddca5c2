import Glibc
import IO

/// Bytes that wait to be sent. A client has an outbox only while it has bytes to send.
struct Outbox: BitwiseCopyable {
    var bytes: UnsafeMutableRawPointer
    var capacity: Int
    /// `bytes[start ..< end]` must still be sent.
    var start = 0
    var end = 0
    /// The number of bytes that the socket took of an incomplete send.
    var takenByteCount = -1
    var awaitsWritable = false
    /// Whether it is in the list of sends of this turn.
    var isListed = false
    var client: UInt32
    var nextFree: UInt32 = 0
    /// With WebSocket: where the message begins that bytes are appended to, with room for its header. -1: none does.
    var messageStart = -1
    /// With TLS: the bytes before it are ciphertext, those from it on are plaintext.
    var encryptedEnd = 0

    mutating func reserve(_ byteCount: Int) {
        guard end + byteCount > capacity else { return }
        capacity = max(capacity * 2, end + byteCount)
        bytes = realloc(bytes, capacity)!
    }
}

/// Outboxes, which are reused with their memory. Index 0 means "none".
struct OutboxPool: ~Copyable {
    private var outboxes = Batch<Outbox>(capacity: 64)
    private var firstFree: UInt32 = 0
    private static let capacityMin = 512
    /// When an outbox becomes empty, memory beyond this is freed.
    private static let keptByteCountMax = 256 << 10

    init() { outboxes.append(Outbox(bytes: malloc(1)!, capacity: 1, client: 0)) }

    deinit {
        for place in 0..<outboxes.count { free(outboxes[place].bytes) }
    }

    subscript(place: UInt32) -> UnsafeMutablePointer<Outbox> { outboxes.base + Int(place) }

    mutating func take(for client: UInt32) -> UInt32 {
        guard firstFree != 0 else {
            outboxes.append(Outbox(bytes: malloc(Self.capacityMin)!, capacity: Self.capacityMin, client: client))
            return UInt32(outboxes.count - 1)
        }
        let place = firstFree
        firstFree = self[place].pointee.nextFree
        self[place].pointee.client = client
        return place
    }

    mutating func giveBack(_ place: UInt32) {
        var bytes = self[place].pointee.bytes
        var capacity = self[place].pointee.capacity
        if capacity > Self.keptByteCountMax {
            free(bytes)
            capacity = Self.capacityMin
            bytes = malloc(capacity)!
        }
        self[place].pointee = Outbox(bytes: bytes, capacity: capacity, client: 0, nextFree: firstFree)
        firstFree = place
    }
}

/// Blocks for incomplete frames. All have the size of the largest expected frame. Index 0 means "none".
struct PartialPool: ~Copyable {
    let byteCount: Int
    private var blocks = Batch<UnsafeMutableRawPointer>(capacity: 64)
    private var free = Batch<UInt32>(capacity: 64)

    init(byteCount: Int) {
        self.byteCount = byteCount
        blocks.append(malloc(1)!)
    }

    deinit {
        for place in 0..<blocks.count { Glibc.free(blocks[place]) }
    }

    subscript(place: UInt32) -> UnsafeMutableRawPointer { blocks[Int(place)] }

    mutating func take() -> UInt32 {
        guard free.isEmpty else { return free.removeLast() }
        blocks.append(malloc(byteCount)!)
        return UInt32(blocks.count - 1)
    }

    mutating func giveBack(_ place: UInt32) { free.append(place) }
}
