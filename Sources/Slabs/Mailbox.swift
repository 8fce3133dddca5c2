import Synchronization

/// The inbox of a shard: any thread posts, one thread (the owner) takes and sleeps.
///
/// A post pushes onto a lock-free stack; the owner takes the whole stack with one exchange and turns it round, so
/// parcels of one sender come in the order they were posted. Nobody but the owner removes anything, and it removes
/// everything, so a pointer that was read cannot come back under another meaning (no ABA problem).
///
/// The box is bounded by agreement: `post` never refuses, for a letter may be the one that frees memory; a sender looks
/// at `isOverfull` and stops reading from what makes it send.
///
/// Why no wake-up is lost. All four of these operations are sequentially consistent, so all threads agree on one order
/// of them that keeps the order within each thread:
///
///     sender                              owner
///     S1  push onto `stack`               O1  isAsleep = true
///     S2  read `isAsleep`                 O2  read `stack`: not empty -> do not sleep
///
/// Suppose that the owner sleeps although a parcel lies there, and no sender wakes it. It sleeps, so O2 saw the stack
/// empty and comes before S1. Then O1, O2, S1, S2 is the order, and S2 reads what O1 wrote or something later: true,
/// and this sender goes on to exchange it for false; or false, written by another sender's exchange after O1, or by the
/// owner itself when it was awake again. In the first case this sender, and in the second that other one, was told
/// true and wakes the owner, in the third the owner is not asleep: a contradiction. The exchange hands the true that O1
/// wrote to one sender only, so there is at most one wake-up for each sleep.
///
/// A wake-up may also reach an owner that decided at O2 not to sleep. It costs a turn without letters, no more.
public final class Mailbox: Sendable {
    /// The address of the parcel that was posted last; 0: empty.
    private let stack = Atomic<UInt>(0)
    private let isAsleep = Atomic<Bool>(false)
    private let storedPendingByteCount = Atomic<Int>(0)
    private let byteCountMax: Int

    /// A box that is overfull when more than `byteCountMax` bytes wait in it.
    public init(byteCountMax: Int) { self.byteCountMax = byteCountMax }

    deinit {
        var parcel = Parcel(bitPattern: stack.load(ordering: .acquiring))
        while let current = parcel {
            parcel = current.pointee.next
            Parcels.free(current)
        }
    }

    /// Hands a parcel over. Any thread.
    ///
    /// - Returns: true when the owner may sleep, and then the caller, and nobody else, must wake it.
    public func post(_ parcel: Parcel) -> Bool {
        // Counted before the owner can see the parcel, so that the count never falls below zero.
        storedPendingByteCount.add(Self.weight(parcel), ordering: .relaxed)
        var top = stack.load(ordering: .relaxed)
        var posted = false
        while !posted {
            parcel.pointee.next = Parcel(bitPattern: top)
            (posted, top) = stack.weakCompareExchange(
                expected: top, desired: UInt(bitPattern: parcel), successOrdering: .sequentiallyConsistent,
                failureOrdering: .relaxed)
        }
        // The read spares senders to a busy owner the exchange, which would pull the cache line away from others.
        return isAsleep.load(ordering: .sequentiallyConsistent)
            && isAsleep.exchange(false, ordering: .sequentiallyConsistent)
    }

    /// Takes all parcels: a chain linked by `next`, those of one sender in the order they were posted. Owner only.
    public func takeAll() -> Parcel? {
        // The exchange would make the line exclusive; most turns find nothing.
        guard stack.load(ordering: .relaxed) != 0 else { return nil }
        var rest = Parcel(bitPattern: stack.exchange(0, ordering: .acquiring))
        var chain: Parcel?
        var byteCount = 0
        while let parcel = rest {
            rest = parcel.pointee.next
            parcel.pointee.next = chain
            chain = parcel
            byteCount += Self.weight(parcel)
        }
        storedPendingByteCount.subtract(byteCount, ordering: .relaxed)
        return chain
    }

    /// Announces that the owner is about to sleep. Owner only.
    ///
    /// - Returns: false when there are parcels: the owner must not sleep but take them. true: whoever posts next is
    ///   told to wake the owner.
    public func prepareToSleep() -> Bool {
        isAsleep.store(true, ordering: .sequentiallyConsistent)
        guard stack.load(ordering: .sequentiallyConsistent) == 0 else {
            isAsleep.store(false, ordering: .relaxed)
            return false
        }
        return true
    }

    /// Tells senders that the owner is awake, for whatever reason. Owner only.
    public func didWake() { isAsleep.store(false, ordering: .relaxed) }

    /// Bytes that wait to be taken, headers included.
    public var pendingByteCount: Int { storedPendingByteCount.load(ordering: .relaxed) }

    /// More bytes wait than there should: a sender stops reading from what makes it send.
    public var isOverfull: Bool { pendingByteCount > byteCountMax }

    private static func weight(_ parcel: Parcel) -> Int {
        Parcels.headerByteCount + Int(parcel.pointee.byteCount)
    }
}
