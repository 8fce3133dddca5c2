import Glibc

/// A subscription of a destination and the session it belongs to, by their indices.
@frozen
public struct Member: BitwiseCopyable, Hashable, Sendable {
    public var session: UInt32
    public var subscription: UInt32

    @inlinable
    public init(session: UInt32, subscription: UInt32) {
        self.session = session
        self.subscription = subscription
    }
}

/// A growable list of members that fits into a slab record: 16 bytes, and zeros are an empty list.
///
/// Bits can be copied, ownership cannot: the record that holds the list owns the memory, and calls `deallocate` before
/// it is freed. Members lie together in memory, because a fan-out walks them all; a member that leaves is replaced by
/// the last, whose owner is told its new position.
///
/// Grows by half (from 4), halves when less than a quarter is used, and owns no memory while it is empty.
@frozen
public struct MemberList: BitwiseCopyable {
    @usableFromInline var base: UnsafeMutablePointer<Member>?
    @usableFromInline var storedCount: UInt32
    @usableFromInline var storedCapacity: UInt32

    private static var capacityMin: UInt32 { 4 }

    /// An empty list.
    @inlinable
    public init() {
        base = nil
        storedCount = 0
        storedCapacity = 0
    }

    @inlinable public var count: UInt32 { storedCount }
    @inlinable public var capacity: UInt32 { storedCapacity }
    @inlinable public var isEmpty: Bool { storedCount == 0 }

    /// The member at a position (0 ..< `count`). Positions are checked in debug builds only.
    @inlinable
    public subscript(_ position: UInt32) -> Member {
        get {
            assert(position < storedCount, "the position is in the list")
            return base.unsafelyUnwrapped[Int(position)]
        }
        nonmutating set {
            assert(position < storedCount, "the position is in the list")
            base.unsafelyUnwrapped[Int(position)] = newValue
        }
    }

    /// Adds a member at the end and returns its position.
    @inlinable
    public mutating func append(_ member: Member) -> UInt32 {
        if storedCount == storedCapacity { grow() }
        let position = storedCount
        (base.unsafelyUnwrapped + Int(position)).initialize(to: member)
        storedCount = position &+ 1
        return position
    }

    /// Removes a member. The last takes its position and is returned; nil when it was the last itself.
    @inlinable
    public mutating func swapRemove(at position: UInt32) -> Member? {
        invariant(position < storedCount, "the member that is removed is in the list")
        let last = storedCount &- 1
        var moved: Member?
        if position != last {
            let member = base.unsafelyUnwrapped[Int(last)]
            base.unsafelyUnwrapped[Int(position)] = member
            moved = member
        }
        storedCount = last
        if last < storedCapacity / 4 || last == 0 { shrink() }
        return moved
    }

    /// Gives the memory back; the list is empty afterwards.
    public mutating func deallocate() {
        free(base)
        self = MemberList()
    }

    @usableFromInline @inline(never)
    mutating func grow() {
        let (half, overflows) = storedCapacity.addingReportingOverflow(storedCapacity / 2)
        invariant(!overflows, "a list has fewer than 2^32 members")
        resize(to: max(Self.capacityMin, half))
    }

    @usableFromInline @inline(never)
    mutating func shrink() {
        if storedCount == 0 {
            deallocate()
        } else if storedCapacity / 2 >= Self.capacityMin {
            resize(to: storedCapacity / 2)
        }
    }

    /// realloc(3) moves large lists by remapping their pages, without copying.
    private mutating func resize(to capacity: UInt32) {
        guard let memory = realloc(base, Int(capacity) * MemoryLayout<Member>.stride) else {
            fatalError("out of memory for a list of members")
        }
        base = memory.assumingMemoryBound(to: Member.self)
        storedCapacity = capacity
    }
}
