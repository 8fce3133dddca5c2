/// Records of a slab in order, linked in one direction: 8 bytes with their owner, 4 with each record. Zeros are an empty
/// one.
///
/// Records join at the end and leave at the front in constant time; to take one out of the middle takes time linear in
/// those before it. A record joins once in its life: its link is zero, as it came from the slab, and joining need not say so
/// again. The queue owns nothing: records are put into it and taken out of it by those who allocate and free them. See
/// `SinglyLinked` for what says where a record keeps its link.
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

    /// Puts a record that was in no queue yet behind the last.
    @inlinable @inline(__always)
    public mutating func append(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        #if DEBUG
            Link.auditInsertion(slab[index])
            Link[slab[index]] = SingleLink(next: .end)
        #endif
        if tail.isNone { head = index } else { Link[slab[tail]].next = index }
        tail = index
    }

    /// Takes the first record out; none when the queue is empty.
    @inlinable @inline(__always)
    public mutating func popFirst(in slab: borrowing Slab<Record>) -> Index<Record> {
        let index = head
        if !index.isNone { removeFirst(in: slab) }
        return index
    }

    /// Takes the first record out of a queue that is not empty.
    @inlinable @inline(__always)
    public mutating func removeFirst(in slab: borrowing Slab<Record>) {
        let record = slab[head]
        Link.auditRemoval(record)
        head = Link[record].next.target
        if head.isNone { tail = .none }
        Link.retire(record)
    }

    /// Takes a record out wherever it is. False: it is not in this queue.
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

/// Records of a slab linked in one direction, the one that came last first: 4 bytes with their owner, 4 with each record.
/// Zeros are an empty one.
///
/// To take out a record that is not the first takes time linear in those before it.
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

    /// Puts a record that is in no stack before the first.
    @inlinable @inline(__always)
    public mutating func push(_ index: Index<Record>, in slab: borrowing Slab<Record>) {
        let record = slab[index]
        Link.auditInsertion(record)
        Link[record] = SingleLink(next: head.link)
        head = index
    }

    /// Takes the first record out; none when the stack is empty.
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

    /// Takes a record out wherever it is. False: it is not in this stack.
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
