/// Records of a slab in order, linked in both directions: 8 bytes with their owner, 8 with each record. Zeros are an empty
/// list.
///
///     owner:   | first | last |
///     records: | next | previous |  the first has none before it, the last none after it
///
/// All operations take constant time. The list owns nothing: records are put into it and taken out of it by those who
/// allocate and free them. See `DoublyLinked` for what says where a record keeps its links.
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

    /// Puts a record that is in no list behind the last.
    @inlinable @inline(__always)
    public mutating func append(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = DoubleLink(next: .end, previous: tail.link)
        if tail.isNone { head = index } else { Link[slab[tail]].next = index }
        tail = index
    }

    /// Puts a record that is in no list before the first.
    @inlinable @inline(__always)
    public mutating func prepend(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = DoubleLink(next: head.link, previous: .end)
        if head.isNone { tail = index } else { Link[slab[head]].previous = index }
        head = index
    }

    /// Puts a record that is in no list behind one that is in this.
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

    /// Puts a record that is in no list before one that is in this.
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

    /// Takes a record out that is in this list.
    @inlinable @inline(__always)
    public mutating func remove(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        Link.auditRemoval(index, first: head, in: slab)
        let record = slab[index]
        let link = Link[record]
        if link.next == .end { tail = link.previous.target } else { Link[slab[link.next]].previous = link.previous }
        if link.previous == .end { head = link.next.target } else { Link[slab[link.previous]].next = link.next }
        Link.clear(record)
    }

    /// Takes the first record out; none when the list is empty.
    @inlinable @inline(__always)
    public mutating func popFirst(in slab: borrowing Slab<Record>) -> Index<Record> {
        let index = head
        if !index.isNone { remove(index, in: slab) }
        return index
    }
}

/// Records of a slab linked in both directions, the one that came last first: as `List`, but 4 bytes with their owner, for
/// where nobody asks for the other end.
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

    /// Puts a record that is in no list before the first.
    @inlinable @inline(__always)
    public mutating func prepend(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = DoubleLink(next: head.link, previous: .end)
        if !head.isNone { Link[slab[head]].previous = index }
        head = index
    }

    /// Takes a record out that is in this chain.
    @inlinable @inline(__always)
    public mutating func remove(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        Link.auditRemoval(index, first: head, in: slab)
        let record = slab[index]
        let link = Link[record]
        if link.next != .end { Link[slab[link.next]].previous = link.previous }
        if link.previous == .end { head = link.next.target } else { Link[slab[link.previous]].next = link.next }
        Link.clear(record)
    }

    /// Takes a record out of the chain that it is in, wherever its owner is. False: it is the first, so the owner has to
    /// be found, and nothing was done. For chains whose owner takes a search to find.
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
