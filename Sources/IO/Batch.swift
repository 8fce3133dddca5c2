/// A growable array of plain values. It is filled and emptied once a turn and keeps its memory.
///
/// Unlike `Array` it has no reference count and no uniqueness check, and emptying it is one store. It grows by
/// doubling, a few times in the life of a process and never in steady state.
@frozen
public struct Batch<Element: BitwiseCopyable>: ~Copyable {
    public private(set) var base: UnsafeMutablePointer<Element>
    public private(set) var capacity: Int
    @usableFromInline var storedCount: Int

    public init(capacity: Int) {
        self.capacity = max(capacity, 16)
        base = .allocate(capacity: self.capacity)
        storedCount = 0
    }

    deinit { base.deallocate() }

    @inlinable public var count: Int { storedCount }
    @inlinable public var isEmpty: Bool { storedCount == 0 }

    @inlinable
    public mutating func append(_ element: Element) {
        if _slowPath(storedCount == capacity) { grow() }
        (base + storedCount).initialize(to: element)
        storedCount += 1
    }

    @inlinable
    public subscript(index: Int) -> Element {
        get { base[index] }
        set { base[index] = newValue }
    }

    @inlinable public mutating func removeAll() { storedCount = 0 }
    @inlinable public mutating func removeLast() -> Element {
        storedCount -= 1
        return base[storedCount]
    }

    /// Removes all but the first `count` elements.
    @inlinable public mutating func keepFirst(_ count: Int) { storedCount = count }

    /// Removes the first `count` elements and moves the others to the front. Complexity: O(n) in the elements that
    /// stay.
    public mutating func removeFirst(_ count: Int) {
        storedCount -= count
        if storedCount > 0 && count > 0 { base.update(from: base + count, count: storedCount) }
    }

    @inline(never) @usableFromInline
    mutating func grow() {
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: base, count: storedCount)
        base.deallocate()
        base = larger
        capacity *= 2
    }
}
