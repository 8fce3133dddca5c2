// The links of intrusive lists. A record that may be in a list has a field for its links there; which field, a type says
// that conforms to `DoublyLinked` or `SinglyLinked`:
//
//     enum ReadyLink: DoublyLinked {
//         static func link(of entry: UnsafeMutablePointer<Entry>) -> DoubleLink<Entry> { entry.pointee.link }
//         static func setLink(_ link: DoubleLink<Entry>, of entry: UnsafeMutablePointer<Entry>) { entry.pointee.link = link }
//     }
//     typealias ReadyList = List<ReadyLink>
//
// All of it is specialised where it is used, and costs what links written by hand cost. In release builds the ends of a
// list link to none, and a record that leaves keeps its stale links, which nobody reads. In debug builds the ends link to
// `Index.end` and records that leave get zeros, so that one that is in a list is told from one that is in none:
//
//                                release           debug
//     in no list                 anything          0, 0
//     the only one of a list     0, 0              end, end
//
// A `Fifo` does with less: a record joins one once in its life, and its link is zero until then.

/// A record's neighbours in a list that is linked in both directions: 8 bytes. Zeros: it is in none.
@frozen
public struct DoubleLink<Record>: BitwiseCopyable, Sendable {
    @usableFromInline var next: Index<Record>
    @usableFromInline var previous: Index<Record>

    /// In no list.
    @inlinable @inline(__always)
    public init() { self.init(next: .none, previous: .none) }

    @inlinable @inline(__always)
    init(next: Index<Record>, previous: Index<Record>) {
        self.next = next
        self.previous = previous
    }
}

/// A record's follower in a list that is linked in one direction: 4 bytes. Zero: it is in none.
@frozen
public struct SingleLink<Record>: BitwiseCopyable, Sendable {
    @usableFromInline var next: Index<Record>

    /// In no list.
    @inlinable @inline(__always)
    public init() { self.init(next: .none) }

    @inlinable @inline(__always)
    init(next: Index<Record>) { self.next = next }
}

/// Where records of a type keep their links of one kind of `List` or `Chain`.
public protocol DoublyLinked {
    associatedtype Record: SlabRecord
    static func link(of record: UnsafeMutablePointer<Record>) -> DoubleLink<Record>
    static func setLink(_ link: DoubleLink<Record>, of record: UnsafeMutablePointer<Record>)
}

/// Where records of a type keep their links of one kind of `Fifo` or `Stack`.
public protocol SinglyLinked {
    associatedtype Record: SlabRecord
    static func link(of record: UnsafeMutablePointer<Record>) -> SingleLink<Record>
    static func setLink(_ link: SingleLink<Record>, of record: UnsafeMutablePointer<Record>)
}

extension Index {
    /// What the last record of a list links to.
    @inlinable @inline(__always)
    static var end: Index {
        #if DEBUG
            Index(.max)
        #else
            .none
        #endif
    }

    /// A link as it is shown outside of lists: none at the end.
    @inlinable @inline(__always)
    var target: Index { self == .end ? .none : self }

    /// An index as it is kept in a link: the end for none.
    @inlinable @inline(__always)
    var link: Index { isNone ? .end : self }
}

extension DoublyLinked {
    // Functions are what the protocol wants: unoptimised code would allocate for each use of a subscript of a protocol.

    @inlinable @inline(__always)
    static subscript(_ record: UnsafeMutablePointer<Record>) -> DoubleLink<Record> {
        get { link(of: record) }
        set { setLink(newValue, of: record) }
    }

    /// Debug builds stop when a record is put into a list while it is in one with these links.
    @inlinable @inline(__always)
    static func auditInsertion(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            invariant(
                self[record].next.isNone && self[record].previous.isNone,
                "a record that is put into a list is in no other with the same links")
        #endif
    }

    /// Debug builds stop when a record that leaves a list is in none, or its neighbours do not link back to it.
    @inlinable @inline(__always)
    static func auditRemoval(_ index: Index<Record>, first: Index<Record>, in slab: borrowing Slab<Record>) {
        #if DEBUG
            let link = self[slab[index]]
            invariant(!link.next.isNone && !link.previous.isNone, "a record that leaves a list is in one")
            if link.previous == .end {
                invariant(first == index, "a record without one before it is the first of the list that it leaves")
            } else {
                invariant(self[slab[link.previous]].next == index, "the record before one links to it")
            }
            if link.next != .end {
                invariant(self[slab[link.next]].previous == index, "the record after one links back to it")
            }
        #endif
    }

    /// A record that left a list has no links, in debug builds.
    @inlinable @inline(__always)
    static func clear(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            self[record] = DoubleLink()
        #endif
    }
}

extension SinglyLinked {
    // Functions are what the protocol wants: unoptimised code would allocate for each use of a subscript of a protocol.

    @inlinable @inline(__always)
    static subscript(_ record: UnsafeMutablePointer<Record>) -> SingleLink<Record> {
        get { link(of: record) }
        set { setLink(newValue, of: record) }
    }

    /// The record before this one among those that follow from `first` on: none before the first. nil: it is not among
    /// them.
    @inlinable
    static func previous(
        of index: Index<Record>, from first: Index<Record>, in slab: borrowing Slab<Record>
    ) -> Index<Record>? {
        var previous = Index<Record>.none
        var candidate = first
        while !candidate.isNone, candidate != index {
            previous = candidate
            candidate = self[slab[candidate]].next.target
        }
        return candidate.isNone ? nil : previous
    }

    /// Debug builds stop when a record is put into a list while it is in one with this link.
    @inlinable @inline(__always)
    static func auditInsertion(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            invariant(
                self[record].next.isNone, "a record that is put into a list is in no other with the same link")
        #endif
    }

    /// Debug builds stop when a record that leaves a list is in none.
    @inlinable @inline(__always)
    static func auditRemoval(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            invariant(!self[record].next.isNone, "a record that leaves a list is in one")
        #endif
    }

    /// A record that left a list has no link, in debug builds.
    @inlinable @inline(__always)
    static func clear(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            self[record] = SingleLink()
        #endif
    }

    /// A record that left a `Fifo` may not join one again: in debug builds its link is not zero.
    @inlinable @inline(__always)
    static func retire(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            self[record] = SingleLink(next: .end)
        #endif
    }
}
