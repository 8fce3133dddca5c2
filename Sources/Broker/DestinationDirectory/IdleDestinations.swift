import Slabs

/// The destinations of a `DestinationDirectory` that nobody needs and that may be forgotten, least recently used first.
///
/// Those with a queue are on a list of their own: they do not share their room with the others.
struct IdleDestinations: ~Copyable {
    private var queues = IdleList()
    private var others = IdleList()

    /// None: there is none.
    var oldestQueue: Index<Destination> { queues.first }
    /// The same of those without a queue.
    var oldestOther: Index<Destination> { others.first }

    mutating func add(_ index: Index<Destination>, in records: borrowing Slab<Destination>) {
        records[index].pointee.isIdle = true
        if records[index].pointee.queue.isNone {
            others.append(index, in: records)
        } else {
            queues.append(index, in: records)
        }
    }

    /// Takes it off its list, if it is on one.
    mutating func remove(_ index: Index<Destination>, in records: borrowing Slab<Destination>) {
        guard records[index].pointee.isIdle else { return }
        records[index].pointee.isIdle = false
        if records[index].pointee.queue.isNone {
            others.remove(index, in: records)
        } else {
            queues.remove(index, in: records)
        }
    }

    /// How many there are. nil: one is on a list and does not say that it is idle.
    func audit(in records: borrowing Slab<Destination>) -> Int? {
        var count = 0
        for first in [queues.first, others.first] {
            var listed = first
            while !listed.isNone, count <= records.liveCount {
                if !records[listed].pointee.isIdle { return nil }
                count += 1
                listed = IdleList.next(after: listed, in: records)
            }
        }
        return count
    }
}
