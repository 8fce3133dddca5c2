import Slabs

// Durable subscriptions: their queues, and the topics that have some.
extension DestinationDirectory {
    private func record(_ index: Index<Destination>) -> UnsafeMutablePointer<Destination> {
        UnsafeMutablePointer(mutating: self[index])
    }

    /// It is the queue of a durable subscription, here or the stand-in of one, or is not any more.
    mutating func setDurableQueue(_ isDurableQueue: Bool, _ index: Index<Destination>) {
        if isDurableQueue {
            record(index).pointee.marks.insert(.durableQueue)
        } else {
            record(index).pointee.marks.remove(.durableQueue)
        }
    }

    /// Some worker has durable subscriptions to the topic or pattern, or none has any more.
    mutating func setDurable(_ hasDurable: Bool, _ index: Index<Destination>) {
        if hasDurable {
            record(index).pointee.marks.insert(.hasDurable)
        } else {
            record(index).pointee.marks.remove(.hasDurable)
        }
    }

    /// The other workers know already that this one is to hear of what they publish to the topic or pattern.
    mutating func setRegistered(_ index: Index<Destination>) {
        record(index).pointee.interest = .registered
        record(index).pointee.interestEpoch &+= 1
    }

    /// Other workers are to be asked anew for what they publish to the topic or pattern, for what they are told of it has
    /// changed. Answers to earlier questions count no more; those who wait for them wait for these.
    mutating func registerAgain(_ index: Index<Destination>, peerCount: Int) {
        let record = record(index)
        record.pointee.interest = .registering
        record.pointee.interestEpoch &+= 1
        record.pointee.answersDue = UInt32(peerCount)
    }
}
