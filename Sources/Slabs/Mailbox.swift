import Synchronization

/// The inbox of a worker. Any thread posts batches of peer messages; one thread, the owner, takes them.
///
/// A post pushes the batch onto a lock-free stack. The owner takes the whole stack with one atomic exchange and reverses
/// it, so the batches of one sender come in the order in which they were posted. Only the owner removes batches, and it
/// always removes all of them, so the stack has no ABA problem.
///
/// `post` never refuses a batch, because a message in it may be the one that frees memory. Instead senders look at
/// `isOverfull` and stop reading from the connections that make them send.
///
/// **No wake-up is lost.** The four operations below are sequentially consistent: all threads agree on one order of
/// them, which keeps the order within each thread.
///
///     sender                              owner
///     S1  push onto `stack`               O1  isAsleep = true
///     S2  read `isAsleep`                 O2  read `stack`: not empty -> do not sleep
///
/// Suppose that the owner sleeps while a batch is on the stack, and that no sender wakes the owner. Since the owner
/// sleeps, O2 found the stack empty, so O2 comes before S1. The order is then O1, O2, S1, S2, and S2 reads the value of
/// O1 or a later one. Each case contradicts the assumption:
///
/// - S2 reads true. The sender exchanges it for false. If the exchange returns true, this sender wakes the owner.
/// - S2, or the exchange, finds false because the exchange of another sender came first. That sender wakes the owner.
/// - S2, or the exchange, finds false because the owner stored it after it woke up. The owner is not asleep.
///
/// Only one exchange can return the true that O1 stored, so there is at most one wake-up for each sleep. A wake-up may
/// also reach an owner that decided at O2 not to sleep. That costs one turn without messages.
public final class Mailbox: Sendable {
    /// The address of the batch that was posted last. 0: the mailbox is empty.
    private let stack = Atomic<UInt>(0)
    private let isAsleep = Atomic<Bool>(false)
    private let storedPendingByteCount = Atomic<Int>(0)
    private let byteCountMax: Int

    /// - Parameter byteCountMax: the mailbox is overfull while more bytes than this wait in it, headers included.
    public init(byteCountMax: Int) { self.byteCountMax = byteCountMax }

    deinit {
        var batch = PeerBatch(bitPattern: stack.load(ordering: .acquiring))
        while let current = batch {
            batch = current.pointee.next
            PeerBatches.free(current)
        }
    }

    /// Hands a batch to the owner. Any thread may call it.
    ///
    /// - Returns: true if the owner may be asleep. Then the caller must wake it; no other sender will.
    public func post(_ batch: PeerBatch) -> Bool {
        // The bytes are counted before the owner can take the batch, so that the count never falls below zero.
        storedPendingByteCount.add(Self.weight(batch), ordering: .relaxed)
        var top = stack.load(ordering: .relaxed)
        var posted = false
        while !posted {
            batch.pointee.next = PeerBatch(bitPattern: top)
            (posted, top) = stack.weakCompareExchange(
                expected: top, desired: UInt(bitPattern: batch), successOrdering: .sequentiallyConsistent,
                failureOrdering: .relaxed)
        }
        // The load avoids the exchange while the owner is awake: the exchange would take the cache line away from other
        // threads.
        return isAsleep.load(ordering: .sequentiallyConsistent)
            && isAsleep.exchange(false, ordering: .sequentiallyConsistent)
    }

    /// Takes all batches, as a chain linked by `next`. The batches of one sender are in the order in which they were
    /// posted. Only the owner may call it.
    public func takeAll() -> PeerBatch? {
        // Most turns find nothing. The load avoids the exchange, which would take the cache line away from senders.
        guard stack.load(ordering: .relaxed) != 0 else { return nil }
        var rest = PeerBatch(bitPattern: stack.exchange(0, ordering: .acquiring))
        var chain: PeerBatch?
        var byteCount = 0
        while let batch = rest {
            rest = batch.pointee.next
            batch.pointee.next = chain
            chain = batch
            byteCount += Self.weight(batch)
        }
        storedPendingByteCount.subtract(byteCount, ordering: .relaxed)
        return chain
    }

    /// Announces that the owner is about to sleep. Only the owner may call it.
    ///
    /// - Returns: false if batches wait: the owner must take them and not sleep. true if none wait: the next sender is
    ///   told to wake the owner.
    public func prepareToSleep() -> Bool {
        isAsleep.store(true, ordering: .sequentiallyConsistent)
        guard stack.load(ordering: .sequentiallyConsistent) == 0 else {
            isAsleep.store(false, ordering: .relaxed)
            return false
        }
        return true
    }

    /// Tells senders that the owner is awake, for whatever reason. Only the owner may call it.
    public func didWake() { isAsleep.store(false, ordering: .relaxed) }

    /// Bytes of batches that wait to be taken, headers included.
    public var pendingByteCount: Int { storedPendingByteCount.load(ordering: .relaxed) }

    /// Whether more than `byteCountMax` bytes wait. Senders then stop reading from the connections that make them send.
    public var isOverfull: Bool { pendingByteCount > byteCountMax }

    private static func weight(_ batch: PeerBatch) -> Int {
        PeerBatches.headerByteCount + Int(batch.pointee.byteCount)
    }
}
