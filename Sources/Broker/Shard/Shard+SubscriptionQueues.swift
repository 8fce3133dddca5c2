import Glibc
import IO
import STOMP
import Slabs

// The queues of acknowledging topic subscriptions.
extension Shard {
    /// An acknowledging topic subscription is a queue of its own, bound to the topic, with this one consumer.
    mutating func bindQueue(_ subscriptionIndex: Index<Subscription>) {
        let subscription = subscriptions[subscriptionIndex]
        let topic = subscription.pointee.destination
        let created = destinations.makeSubscriptionQueue()
        guard !created.isNone else {
            return fail(sessions[subscription.pointee.session], "Out of memory", "no room for another subscription")
        }
        guard attachQueue(to: created, isNamed: false) else {
            destinations.remove(created, memory: &memory)
            return fail(sessions[subscription.pointee.session], "Out of memory", "no room for another subscription")
        }
        let queueIndex = destinations[created].pointee.queue
        queues.bound(queueIndex, byteCountMax: UInt64(limits.outputByteCountMax + limits.prefetchByteCountMax))
        subscriptions.setOwnQueue(created, of: subscriptionIndex)
        if subscription.pointee.flags.contains(.readsLog) { return addConsumer(queueIndex, subscriptionIndex) }
        let position = destinations.bind(created, of: subscriptionIndex, to: topic)
        subscriptions.setPosition(position, of: subscriptionIndex)
        addConsumer(queueIndex, subscriptionIndex)
    }

    mutating func unbindQueue(_ subscriptionIndex: Index<Subscription>) {
        let subscription = subscriptions[subscriptionIndex]
        let topic = subscription.pointee.destination
        if subscription.pointee.flags.contains(.readsLog) {
            removeReader(of: subscriptionIndex)
        } else if let moved = destinations.unbind(at: subscription.pointee.position, from: topic) {
            boundMoved(moved, to: subscription.pointee.position)
        }
        let queueDestination = subscription.pointee.ownQueue
        subscriptions.setOwnQueue(.none, of: subscriptionIndex)
        // What nobody acknowledged goes with its subscription, which is no loss to be told of.
        _ = closeQueue(destinations[queueDestination].pointee.queue)
        remove(queueDestination)
    }

    /// The header line that tells the subscriber of a pattern the name of the topic; the message has it from now on. Empty
    /// where it has one already. In `scratch.key`.
    mutating func destinationLine(
        _ message: inout Message, name canonical: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer {
        if message.carriesDestination { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let name = visible(canonical)
        var extra = FrameWriter(at: scratch.key)
        extra.write("destination:")
        extra.writeEscaped(name.baseAddress!, name.count, version: .v1_2)
        extra.write("\n")
        let line = UnsafeRawBufferPointer(start: scratch.key, count: extra.cursor - scratch.key)
        // A name with escapes makes the lines differ between versions.
        if line.count != 13 + name.count { message.isPlain = false }
        message.carriesDestination = true
        return line
    }

    /// A topic's message for each queue bound to it. A subscriber whose queue is full has fallen too far behind.
    mutating func enqueueToBound(_ index: Index<Destination>, _ message: Message, name: UnsafeRawBufferPointer) {
        var message = message
        let line = destinationLine(&message, name: name)
        let bound = destinations[index].pointee.bound
        for i in 0..<bound.count where !bound[i].subscription.isNone {
            let queue = destinations[bound[i].destination].pointee.queue
            if !enqueue(queue, message, extra: line) {
                let isFull = !queues.hasRoom(queue, byteCount: message.contentByteCount)
                let subscription = subscriptions[bound[i].subscription].pointee
                disconnectSoon(
                    sessions[subscription.session], for: isFull ? .outputBytes : .messageMemory,
                    encoding: subscription.encoding)
            }
        }
        if destinations[index].pointee.marks.contains(.hasDurable) { enqueueToDurables(index, message, line: line) }
    }
}
