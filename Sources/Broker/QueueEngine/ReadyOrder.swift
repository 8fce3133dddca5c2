import Slabs

/// A queue's ready messages: those that no consumer has.
struct ReadyEntries: BitwiseCopyable {
    /// As the queue's `ReadyOrder` has put them.
    fileprivate(set) var list: EntryList
    fileprivate(set) var count: UInt32
    /// An entry beside which the next one that is put back belongs, if these come back in order. None: none is known.
    fileprivate(set) var returnHint: Index<Entry>

    @inline(__always) var isEmpty: Bool { list.isEmpty }
    /// The one that is given out next. None: there is none.
    @inline(__always) var first: Index<Entry> { list.first }

    /// Takes an entry out, wherever it is.
    @inline(__always)
    mutating func remove(_ entry: Index<Entry>, in entries: borrowing Slab<Entry>) {
        if returnHint == entry {
            let previous = EntryList.previous(before: entry, in: entries)
            returnHint = previous.isNone ? EntryList.next(after: entry, in: entries) : previous
        }
        list.remove(entry, in: entries)
        count -= 1
    }
}

/// In which order a queue gives its ready messages out: where each one is put when it comes, and when it comes back.
///
/// What is taken out, and the one that is next, do not depend on the order.
protocol ReadyOrder {
    /// Puts an entry in that is new.
    static func insert(_ entry: Index<Entry>, into ready: inout ReadyEntries, in entries: borrowing Slab<Entry>)

    /// Puts an entry back that a consumer had. Returns how many other entries it was compared with, beyond the first and
    /// the last.
    static func putBack(_ entry: Index<Entry>, into ready: inout ReadyEntries, in entries: borrowing Slab<Entry>) -> Int

    /// Whether, of two ready entries, the first is given out before the second.
    static func precedes(_ entry: Index<Entry>, _ other: Index<Entry>, in entries: borrowing Slab<Entry>) -> Bool
}

/// First in, first out; what comes back goes before all that came after it.
enum FirstInFirstOut: ReadyOrder {
    @inline(__always)
    static func insert(_ entry: Index<Entry>, into ready: inout ReadyEntries, in entries: borrowing Slab<Entry>) {
        ready.append(entry, in: entries)
    }

    /// The search begins where the last entry was put back, for what was delivered in order mostly returns in order: a
    /// consumer's whole window, or one NACK after the other.
    static func putBack(_ entry: Index<Entry>, into ready: inout ReadyEntries, in entries: borrowing Slab<Entry>) -> Int
    {
        let order = entries[entry].pointee.order
        var previous = ready.list.last
        var stepCount = 0
        if !previous.isNone, entries[previous].pointee.order > order {
            previous = .none
            let first = ready.list.first
            if entries[first].pointee.order < order {
                // It belongs between these two; from here on neither search meets an end of the list.
                previous = ready.returnHint.isNone ? first : ready.returnHint
                while entries[previous].pointee.order > order {
                    previous = EntryList.previous(before: previous, in: entries)
                    stepCount += 1
                }
                while case let next = EntryList.next(after: previous, in: entries), entries[next].pointee.order < order
                {
                    previous = next
                    stepCount += 1
                }
            }
        }
        ready.insert(entry, after: previous, in: entries)
        ready.returnHint = entry
        return stepCount
    }

    static func precedes(_ entry: Index<Entry>, _ other: Index<Entry>, in entries: borrowing Slab<Entry>) -> Bool {
        entries[entry].pointee.order < entries[other].pointee.order
    }
}

// How an order puts entries in.
extension ReadyEntries {
    /// Behind the last.
    @inline(__always)
    mutating func append(_ entry: Index<Entry>, in entries: borrowing Slab<Entry>) {
        list.append(entry, in: entries)
        count += 1
    }

    /// Behind `previous`, which is ready. None: before the first.
    @inline(__always)
    mutating func insert(
        _ entry: Index<Entry>, after previous: Index<Entry>, in entries: borrowing Slab<Entry>
    ) {
        if previous.isNone {
            list.prepend(entry, in: entries)
        } else {
            list.insert(entry, after: previous, in: entries)
        }
        count += 1
    }
}
