import Glibc

/// A growable array that fits into a slab record: 16 bytes. All zeros: an empty array.
///
/// A copy does not own the memory. The record that holds the array owns it, and its owner calls `deallocate` before it
/// frees the record. The elements are contiguous in memory, because a fan-out visits all of them. `swapRemove` fills
/// the gap of a removed element with the last element and returns that element, so that its new position can be stored.
///
/// It grows by half (from 4), and halves when less than a quarter is used. An empty array takes no memory.
@frozen
public struct RecordArray<Element: BitwiseCopyable>: BitwiseCopyable {
    @usableFromInline var base: UnsafeMutablePointer<Element>?
    @usableFromInline var storedCount: UInt32
    @usableFromInline var storedCapacity: UInt32

    @inlinable static var capacityMin: UInt32 { 4 }

    /// An empty array.
    @inlinable
    public init() {
        base = nil
        storedCount = 0
        storedCapacity = 0
    }

    @inlinable public var count: UInt32 { storedCount }
    @inlinable public var capacity: UInt32 { storedCapacity }
    @inlinable public var isEmpty: Bool { storedCount == 0 }

    /// The element at a position (0 ..< `count`). Only debug builds check the position.
    @inlinable
    public subscript(_ position: UInt32) -> Element {
        get {
            assert(position < storedCount, "the position is in the array")
            return base.unsafelyUnwrapped[Int(position)]
        }
        nonmutating set {
            assert(position < storedCount, "the position is in the array")
            base.unsafelyUnwrapped[Int(position)] = newValue
        }
    }

    /// Adds an element at the end and returns its position.
    @inlinable
    public mutating func append(_ element: Element) -> UInt32 {
        if storedCount == storedCapacity { grow() }
        let position = storedCount
        (base.unsafelyUnwrapped + Int(position)).initialize(to: element)
        storedCount = position &+ 1
        return position
    }

    /// Removes an element. The last element moves to its position and is returned. nil: the removed element was the
    /// last.
    @inlinable
    public mutating func swapRemove(at position: UInt32) -> Element? {
        invariant(position < storedCount, "the element that is removed is in the array")
        let last = storedCount &- 1
        var moved: Element?
        if position != last {
            let element = base.unsafelyUnwrapped[Int(last)]
            base.unsafelyUnwrapped[Int(position)] = element
            moved = element
        }
        storedCount = last
        if last < storedCapacity / 4 || last == 0 { shrink() }
        return moved
    }

    /// Frees the memory. The array is empty afterwards.
    @inlinable
    public mutating func deallocate() {
        ArrayMemory.free(base)
        self = RecordArray()
    }

    @inlinable @inline(never)
    mutating func grow() {
        let (half, overflows) = storedCapacity.addingReportingOverflow(storedCapacity / 2)
        invariant(!overflows, "an array has fewer than 2^32 elements")
        resize(to: max(Self.capacityMin, half))
    }

    @inlinable @inline(never)
    mutating func shrink() {
        if storedCount == 0 {
            deallocate()
        } else if storedCapacity / 2 >= Self.capacityMin {
            resize(to: storedCapacity / 2)
        }
    }

    @inlinable
    mutating func resize(to capacity: UInt32) {
        let memory = ArrayMemory.resize(base, byteCount: Int(capacity) * MemoryLayout<Element>.stride)
        base = memory.assumingMemoryBound(to: Element.self)
        storedCapacity = capacity
    }
}

/// The allocator of the C library, for inlined code in modules that do not import it.
@usableFromInline
enum ArrayMemory {
    /// realloc(3) moves the pages of large arrays without copying them.
    @usableFromInline
    static func resize(_ base: UnsafeMutableRawPointer?, byteCount: Int) -> UnsafeMutableRawPointer {
        guard let memory = realloc(base, byteCount) else { fatalError("out of memory for an array of a record") }
        return memory
    }

    @usableFromInline
    static func free(_ base: UnsafeMutableRawPointer?) { Glibc.free(base) }
}
