import Slabs

extension QueueEngine {
    /// The first broken rule among those that hold between turns, or nil: a queue's counts are those of its lists, no
    /// queue exceeds its limit, no consumer its prefetch. Time is linear in the queue's messages.
    func audit(_ index: Index<Queue>) -> String? {
        let queue = self[index].pointee
        var ready = 0
        var bytes = 0
        var entry = queue.ready.first
        while !entry.isNone {
            if self[entry].pointee.state != .ready { return "an entry among the ready ones is not ready" }
            ready += 1
            bytes += Int(self[entry].pointee.byteCount)
            entry = next(after: entry)
        }
        var unacked = 0
        var storedWithConsumers = 0
        var consumer = queue.consumers.first
        while !consumer.isNone {
            var bytesOfConsumer = 0
            entry = self[consumer].pointee.unacked.first
            while !entry.isNone {
                if self[entry].pointee.consumer != consumer { return "an entry is with another consumer" }
                unacked += 1
                if self[entry].pointee.isStored { storedWithConsumers += 1 }
                bytesOfConsumer += Int(self[entry].pointee.byteCount)
                entry = next(after: entry)
            }
            if bytesOfConsumer != Int(self[consumer].pointee.unackedByteCount) {
                return "a consumer's bytes are miscounted"
            }
            bytes += bytesOfConsumer
            consumer = next(after: consumer)
        }
        if ready != Int(queue.ready.count) { return "\(queue.ready.count) ready messages, \(ready) on the list" }
        if ready + unacked > Int(queue.messageCount) {
            return "holds \(ready) + \(unacked) messages and counts \(queue.messageCount)"
        }
        if bytes > Int(queue.byteCount) { return "holds \(bytes) bytes and counts \(queue.byteCount)" }
        // What was restored may exceed a limit that is new.
        let stored = storedCount(index) + storedWithConsumers
        if ready + unacked > Int(queue.messageCountMax), stored == 0 {
            return "holds \(ready + unacked) messages, the limit is \(queue.messageCountMax)"
        }
        if !queue.ready.isEmpty, !queue.turns.isEmpty { return "a message and a consumer wait for each other" }
        return nil
    }
}
