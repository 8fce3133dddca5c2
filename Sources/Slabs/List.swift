/// A list of slab records, linked in both directions. The owner keeps 8 bytes, each record 8. All zeros: an empty list.
///
///     owner:   | first | last |
///     records: | next | previous |  the first has none before it, the last none after it
///
/// All operations take constant time. The list does not own the records; their owner allocates and frees them.
/// `DoublyLinked` says where a record keeps its links.
@frozen
public struct List<Link: DoublyLinked>: BitwiseCopyable {
    public typealias Record = Link.Record

    @usableFromInline var head: Index<Record>
    @usableFromInline var tail: Index<Record>

    /// An empty list.
    @inlinable @inline(__always)
    public init() {
        head = .none
        tail = .none
    }

    @inlinable @inline(__always) public var isEmpty: Bool { head.isNone }
    /// None when the list is empty.
    @inlinable @inline(__always) public var first: Index<Record> { head }
    /// None when the list is empty.
    @inlinable @inline(__always) public var last: Index<Record> { tail }

    /// The record after one that is in a list; none after the last.
    @inlinable @inline(__always)
    public static func next(after index: Index<Record>, in slab: borrowing Slab<Record>) -> Index<Record> {
        Link[slab[index]].next.target
    }

    /// The record before one that is in a list; none before the first.
    @inlinable @inline(__always)
    public static func previous(before index: Index<Record>, in slab: borrowing Slab<Record>) -> Index<Record> {
        Link[slab[index]].previous.target
    }

    /// Appends a record that is in no list.
    @inlinable @inline(__always)
    public mutating func append(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = DoubleLink(next: .end, previous: tail.link)
        if tail.isNone { head = index } else { Link[slab[tail]].next = index }
        tail = index
    }

    /// Adds a record that is in no list at the front.
    @inlinable @inline(__always)
    public mutating func prepend(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = DoubleLink(next: head.link, previous: .end)
        if head.isNone { tail = index } else { Link[slab[head]].previous = index }
        head = index
    }

    /// Inserts a record that is in no list after a record of this list.
    @inlinable @inline(__always)
    public mutating func insert(
        _ index: Index<Record>, after previous: Index<Record>, in slab: borrowing Slab<Record>
    ) {
        let record = slab[index]
        Link.auditInsertion(record)
        let next = Link[slab[previous]].next
        Link[record] = DoubleLink(next: next, previous: previous)
        Link[slab[previous]].next = index
        if next == .end { tail = index } else { Link[slab[next]].previous = index }
    }

    /// Inserts a record that is in no list before a record of this list.
    @inlinable @inline(__always)
    public mutating func insert(
        _ index: Index<Record>, before next: Index<Record>, in slab: borrowing Slab<Record>
    ) {
        let record = slab[index]
        Link.auditInsertion(record)
        let previous = Link[slab[next]].previous
        Link[record] = DoubleLink(next: next, previous: previous)
        Link[slab[next]].previous = index
        if previous == .end { head = index } else { Link[slab[previous]].next = index }
    }

    /// Removes a record of this list.
    @inlinable @inline(__always)
    public mutating func remove(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        Link.auditRemoval(index, first: head, in: slab)
        let record = slab[index]
        let link = Link[record]
        if link.next == .end { tail = link.previous.target } else { Link[slab[link.next]].previous = link.previous }
        if link.previous == .end { head = link.next.target } else { Link[slab[link.previous]].next = link.next }
        Link.clear(record)
    }

    /// Removes and returns the first record. None if the list is empty.
    @inlinable @inline(__always)
    public mutating func popFirst(in slab: borrowing Slab<Record>) -> Index<Record> {
        let index = head
        if !index.isNone { remove(index, in: slab) }
        return index
    }
}

/// A list of slab records, linked in both directions, to which records are added only at the front. As `List`, but the
/// owner keeps 4 bytes, because it does not need the last record.
@frozen
public struct Chain<Link: DoublyLinked>: BitwiseCopyable {
    public typealias Record = Link.Record

    @usableFromInline var head: Index<Record>

    /// An empty chain.
    @inlinable @inline(__always)
    public init() { head = .none }

    @inlinable @inline(__always) public var isEmpty: Bool { head.isNone }
    /// None when the chain is empty.
    @inlinable @inline(__always) public var first: Index<Record> { head }

    /// The record after one that is in a chain; none after the last.
    @inlinable @inline(__always)
    public static func next(after index: Index<Record>, in slab: borrowing Slab<Record>) -> Index<Record> {
        Link[slab[index]].next.target
    }

    /// Adds a record that is in no list at the front.
    @inlinable @inline(__always)
    public mutating func prepend(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = DoubleLink(next: head.link, previous: .end)
        if !head.isNone { Link[slab[head]].previous = index }
        head = index
    }

    /// Removes a record of this chain.
    @inlinable @inline(__always)
    public mutating func remove(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        Link.auditRemoval(index, first: head, in: slab)
        let record = slab[index]
        let link = Link[record]
        if link.next != .end { Link[slab[link.next]].previous = link.previous }
        if link.previous == .end { head = link.next.target } else { Link[slab[link.previous]].next = link.next }
        Link.clear(record)
    }

    /// Removes a record from its chain without the owner of the chain, unless the record is the first. For chains whose
    /// owner is expensive to find.
    ///
    /// - Returns: false if the record is the first. Then nothing was changed, and the owner must remove it.
    @inlinable @inline(__always)
    public static func removeUnlessFirst(_ index: Index<Record>, in slab: borrowing Slab<Record>) -> Bool {
        let record = slab[index]
        let link = Link[record]
        if link.previous == .end { return false }
        Link.auditRemoval(index, first: .none, in: slab)
        if link.next != .end { Link[slab[link.next]].previous = link.previous }
        Link[slab[link.previous]].next = link.next
        Link.clear(record)
        return true
    }
}
