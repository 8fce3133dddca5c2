import Glibc
import Slabs

/// The way to the other workers. What a turn has to tell one of them travels together, as a batch, with one wake-up.
///
/// Knows how messages are written and posted, not what they mean.
struct PeerLink: ~Copyable {
    private static var batchByteCount: Int { 16 * 1024 }

    private let index: Int
    private let peerCount: Int
    private let fabric: Fabric
    /// At most one open batch for each other worker.
    private let batches: UnsafeMutablePointer<PeerBatch?>
    /// Workers that asked to be woken.
    private let wakesDue: UnsafeMutablePointer<Bool>
    /// Messages written, and read.
    private(set) var sentCount: UInt64 = 0
    private(set) var receivedCount: UInt64 = 0
    /// During a drain the others are told how many messages there are before they can read them.
    private var isDraining = false
    /// What is written now arrives in one batch with what is written next: it is read in one turn.
    var keepsTogether = false

    init(index: Int, fabric: Fabric) {
        self.index = index
        self.fabric = fabric
        peerCount = fabric.shardCount
        batches = .allocate(capacity: peerCount)
        batches.initialize(repeating: nil, count: peerCount)
        wakesDue = .allocate(capacity: peerCount)
        wakesDue.initialize(repeating: false, count: peerCount)
    }

    deinit {
        for peer in 0..<peerCount {
            if let batch = batches[peer] { PeerBatches.free(batch) }
        }
        batches.deallocate()
        wakesDue.deallocate()
    }

    // MARK: Writing

    /// Appends a message for `peer`; returns where its payload goes.
    @discardableResult
    mutating func write<Fields: PeerMessage>(
        _ fields: Fields, to peer: Int, payloadByteCount: Int = 0
    ) -> UnsafeMutableRawPointer {
        invariant(peer != index && peer < peerCount, "a worker writes to others")
        let needed = PeerMessageHead.stride(payloadByteCount)
        if let batch = batches[peer], Int(batch.pointee.capacity - batch.pointee.byteCount) < needed {
            if keepsTogether { extend(batch, of: peer, byteCount: needed) } else { post(batch, to: peer) }
        }
        let batch = batches[peer] ?? open(peer, byteCount: needed)
        let place = PeerBatches.bytes(of: batch) + Int(batch.pointee.byteCount)
        place.storeBytes(
            of: PeerMessageHead(kind: Fields.kind, payloadByteCount: UInt32(payloadByteCount)), as: PeerMessageHead.self
        )
        (place + PeerMessageHead.byteCount).storeBytes(of: fields, as: Fields.self)
        batch.pointee.byteCount += UInt32(needed)
        batch.pointee.messageCount += 1
        sentCount &+= 1
        return place + PeerMessageHead.payloadOffset
    }

    /// The payload is a name, or another few bytes; empty ones may have no address.
    mutating func write<Fields: PeerMessage>(_ fields: Fields, to peer: Int, name: UnsafeRawBufferPointer) {
        let place = write(fields, to: peer, payloadByteCount: name.count)
        if name.count > 0 { memcpy(place, name.baseAddress!, name.count) }
    }

    mutating func write<Fields: PeerMessage>(_ fields: Fields, to peer: Int, _ payload: MessagePayload) {
        payload.write(to: write(fields, to: peer, payloadByteCount: payload.byteCount))
    }

    @inline(never)
    private func extend(_ batch: PeerBatch, of peer: Int, byteCount: Int) {
        let used = Int(batch.pointee.byteCount)
        let larger = PeerBatches.allocate(capacity: max(used + byteCount, used * 2))
        larger.pointee.sender = batch.pointee.sender
        larger.pointee.byteCount = batch.pointee.byteCount
        larger.pointee.messageCount = batch.pointee.messageCount
        memcpy(PeerBatches.bytes(of: larger), PeerBatches.bytes(of: batch), used)
        batches[peer] = larger
        PeerBatches.free(batch)
    }

    private func open(_ peer: Int, byteCount: Int) -> PeerBatch {
        let batch = PeerBatches.allocate(capacity: max(byteCount, Self.batchByteCount))
        batch.pointee.sender = UInt32(index)
        batches[peer] = batch
        return batch
    }

    // MARK: Posting

    /// End of turn: posts what was written. `wake` is called for each worker that may sleep.
    mutating func post(_ wake: (Int) -> Void) {
        for peer in 0..<peerCount {
            if let batch = batches[peer] { post(batch, to: peer) }
            if wakesDue[peer] {
                wakesDue[peer] = false
                wake(peer)
            }
        }
    }

    /// Posts what was written to all workers but `owner`, so that they have it before what they hear from that one on.
    mutating func postAll(except owner: Int) {
        if keepsTogether { return }
        for peer in 0..<peerCount where peer != owner {
            if let batch = batches[peer] { post(batch, to: peer) }
        }
    }

    private mutating func post(_ batch: PeerBatch, to peer: Int) {
        if isDraining { fabric.report(shard: index, peerMessagesSent: sentCount) }
        batches[peer] = nil
        if fabric.mailbox(peer).post(batch) { wakesDue[peer] = true }
    }

    /// From now on the others hear how many messages they are sent.
    mutating func beginDrain() {
        isDraining = true
        fabric.report(shard: index, peerMessagesSent: sentCount)
    }

    // MARK: Reading

    /// All batches that others have posted, in their order, linked by `next`. To be freed by the caller.
    func takeAll() -> PeerBatch? { fabric.mailbox(index).takeAll() }

    mutating func countReceived() { receivedCount &+= 1 }
}
