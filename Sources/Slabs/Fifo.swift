/// A first-in, first-out queue of slab records, linked in one direction. The owner keeps 8 bytes, each record 4. All
/// zeros: an empty queue.
///
/// Appending at the end and removing at the front take constant time. Removing a record in the middle takes time linear
/// in the number of records before it. A record may be in a queue only once in its life: its link is zero when it comes
/// from the slab, and `append` does not write it. The queue does not own the records; their owner allocates and frees
/// them. `SinglyLinked` says where a record keeps its link.
@frozen
public struct Fifo<Link: SinglyLinked>: BitwiseCopyable {
    public typealias Record = Link.Record

    @usableFromInline var head: Index<Record>
    @usableFromInline var tail: Index<Record>

    /// An empty queue.
    @inlinable @inline(__always)
    public init() {
        head = .none
        tail = .none
    }

    @inlinable @inline(__always) public var isEmpty: Bool { head.isNone }
    /// None when the queue is empty.
    @inlinable @inline(__always) public var first: Index<Record> { head }
    /// None when the queue is empty.
    @inlinable @inline(__always) public var last: Index<Record> { tail }

    /// The record after one that is in a queue; none after the last.
    @inlinable @inline(__always)
    public static func next(after index: Index<Record>, in slab: borrowing Slab<Record>) -> Index<Record> {
        Link[slab[index]].next.target
    }

    /// Appends a record that was in no queue before.
    @inlinable @inline(__always)
    public mutating func append(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        #if DEBUG
            Link.auditInsertion(slab[index])
            Link[slab[index]] = SingleLink(next: .end)
        #endif
        if tail.isNone { head = index } else { Link[slab[tail]].next = index }
        tail = index
    }

    /// Removes and returns the first record. None if the queue is empty.
    @inlinable @inline(__always)
    public mutating func popFirst(in slab: borrowing Slab<Record>) -> Index<Record> {
        let index = head
        if !index.isNone { removeFirst(in: slab) }
        return index
    }

    /// Removes the first record. The queue must not be empty.
    @inlinable @inline(__always)
    public mutating func removeFirst(in slab: borrowing Slab<Record>) {
        let record = slab[head]
        Link.auditRemoval(record)
        head = Link[record].next.target
        if head.isNone { tail = .none }
        Link.retire(record)
    }

    /// Removes a record at any position. Returns false if it is not in this queue.
    @inlinable
    public mutating func remove(_ index: Index<Record>, in slab: borrowing Slab<Record>) -> Bool {
        guard let previous = Link.previous(of: index, from: head, in: slab) else { return false }
        if previous.isNone {
            removeFirst(in: slab)
            return true
        }
        let record = slab[index]
        Link[slab[previous]].next = Link[record].next
        if tail == index { tail = previous }
        Link.retire(record)
        return true
    }
}

/// A stack of slab records, linked in one direction: last in, first out. The owner keeps 4 bytes, each record 4. All
/// zeros: an empty stack.
///
/// Removing a record that is not the first takes time linear in the number of records before it.
@frozen
public struct Stack<Link: SinglyLinked>: BitwiseCopyable {
    public typealias Record = Link.Record

    @usableFromInline var head: Index<Record>

    /// An empty stack.
    @inlinable @inline(__always)
    public init() { head = .none }

    @inlinable @inline(__always) public var isEmpty: Bool { head.isNone }
    /// None when the stack is empty.
    @inlinable @inline(__always) public var first: Index<Record> { head }

    /// The record after one that is in a stack; none after the last.
    @inlinable @inline(__always)
    public static func next(after index: Index<Record>, in slab: borrowing Slab<Record>) -> Index<Record> {
        Link[slab[index]].next.target
    }

    /// Pushes a record that is in no stack.
    @inlinable @inline(__always)
    public mutating func push(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = SingleLink(next: head.link)
        head = index
    }

    /// Removes and returns the first record. None if the stack is empty.
    @inlinable @inline(__always)
    public mutating func pop(in slab: borrowing Slab<Record>) -> Index<Record> {
        let index = head
        guard !index.isNone else { return index }
        let record = slab[index]
        Link.auditRemoval(record)
        head = Link[record].next.target
        Link.clear(record)
        return index
    }

    /// Removes a record at any position. Returns false if it is not in this stack.
    @inlinable
    public mutating func remove(_ index: Index<Record>, in slab: borrowing Slab<Record>) -> Bool {
        guard let previous = Link.previous(of: index, from: head, in: slab) else { return false }
        if previous.isNone {
            _ = pop(in: slab)
            return true
        }
        let record = slab[index]
        Link[slab[previous]].next = Link[record].next
        Link.clear(record)
        return true
    }
}
