// The links of intrusive lists. A record that may be in a list has a field for its links in that list. A type that
// conforms to `DoublyLinked` or `SinglyLinked` names the field:
//
//     enum ReadyLink: DoublyLinked {
//         static func link(of entry: UnsafeMutablePointer<Entry>) -> DoubleLink<Entry> { entry.pointee.link }
//         static func setLink(_ link: DoubleLink<Entry>, of entry: UnsafeMutablePointer<Entry>) { entry.pointee.link = link }
//     }
//     typealias ReadyList = List<ReadyLink>
//
// The compiler specialises all of it, so it costs the same as links written by hand. In release builds the ends of a
// list link to none, and a record that leaves a list keeps its old links, which are not read. In debug builds the ends
// link to `Index.end`, and a record that leaves gets zeros. So debug builds can check whether a record is in a list:
//
//                                release           debug
//     in no list                 anything          0, 0
//     the only one of a list     0, 0              end, end
//
// In a `Fifo` a record is only once in its life, and its link is zero before that.

/// The links of a record in a list that is linked in both directions: 8 bytes. Zeros: it is in no list.
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

/// The link of a record in a list that is linked in one direction: 4 bytes. Zero: it is in no list.
@frozen
public struct SingleLink<Record>: BitwiseCopyable, Sendable {
    @usableFromInline var next: Index<Record>

    /// In no list.
    @inlinable @inline(__always)
    public init() { self.init(next: .none) }

    @inlinable @inline(__always)
    init(next: Index<Record>) { self.next = next }
}

/// Names the field in which records of a type keep their links for one kind of `List` or `Chain`.
public protocol DoublyLinked {
    associatedtype Record: SlabRecord
    static func link(of record: UnsafeMutablePointer<Record>) -> DoubleLink<Record>
    static func setLink(_ link: DoubleLink<Record>, of record: UnsafeMutablePointer<Record>)
}

/// Names the field in which records of a type keep their link for one kind of `Fifo` or `Stack`.
public protocol SinglyLinked {
    associatedtype Record: SlabRecord
    static func link(of record: UnsafeMutablePointer<Record>) -> SingleLink<Record>
    static func setLink(_ link: SingleLink<Record>, of record: UnsafeMutablePointer<Record>)
}

extension Index {
    /// The index that the last record of a list links to.
    @inlinable @inline(__always)
    static var end: Index {
        #if DEBUG
            Index(.max)
        #else
            .none
        #endif
    }

    /// Converts a link to an index: none at the end.
    @inlinable @inline(__always)
    var target: Index { self == .end ? .none : self }

    /// Converts an index to a link: the end for none.
    @inlinable @inline(__always)
    var link: Index { isNone ? .end : self }
}

extension DoublyLinked {
    // The protocol requires functions: unoptimised code would allocate at each use of a subscript of a protocol.

    @inlinable @inline(__always)
    static subscript(_ record: UnsafeMutablePointer<Record>) -> DoubleLink<Record> {
        get { link(of: record) }
        set { setLink(newValue, of: record) }
    }

    /// Stops debug builds if a record is added to a list while it is in another one with the same links.
    @inlinable @inline(__always)
    static func auditInsertion(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            invariant(
                self[record].next.isNone && self[record].previous.isNone,
                "a record that is put into a list is in no other with the same links")
        #endif
    }

    /// Stops debug builds if a record that is removed from a list is in none, or its neighbours do not link to it.
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

    /// Clears the links of a removed record, in debug builds.
    @inlinable @inline(__always)
    static func clear(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            self[record] = DoubleLink()
        #endif
    }
}

extension SinglyLinked {
    // The protocol requires functions: unoptimised code would allocate at each use of a subscript of a protocol.

    @inlinable @inline(__always)
    static subscript(_ record: UnsafeMutablePointer<Record>) -> SingleLink<Record> {
        get { link(of: record) }
        set { setLink(newValue, of: record) }
    }

    /// Searches from `first` on for the record before `index`. None: `index` is the first. nil: `index` is not in the
    /// list.
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

    /// Stops debug builds if a record is added to a list while it is in another one with the same link.
    @inlinable @inline(__always)
    static func auditInsertion(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            invariant(
                self[record].next.isNone, "a record that is put into a list is in no other with the same link")
        #endif
    }

    /// Stops debug builds if a record that is removed from a list is in none.
    @inlinable @inline(__always)
    static func auditRemoval(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            invariant(!self[record].next.isNone, "a record that leaves a list is in one")
        #endif
    }

    /// Clears the link of a removed record, in debug builds.
    @inlinable @inline(__always)
    static func clear(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            self[record] = SingleLink()
        #endif
    }

    /// Marks a record that left a `Fifo`, in debug builds: its link is not zero, so it cannot be added again.
    @inlinable @inline(__always)
    static func retire(_ record: UnsafeMutablePointer<Record>) {
        #if DEBUG
            self[record] = SingleLink(next: .end)
        #endif
    }
}
