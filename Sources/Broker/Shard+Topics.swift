import Glibc
import IO
import STOMP
import Slabs

// Topics: groups of subscribers whose MESSAGEs are the same bytes, encoded once, given out by reference.
extension Shard {
    // MARK: Groups

    /// The subscription id of a group, unescaped. It follows the key's first eight bytes.
    func idOf(_ index: Index<Group>) -> UnsafeRawBufferPointer {
        let group = groups[index]
        return UnsafeRawBufferPointer(
            start: memory.blocks.base(group.pointee.prefix) + 8, count: Int(group.pointee.keyByteCount) - 8)
    }

    /// The group for `id` in a destination, made if there is none. None: no memory.
    ///
    /// - Parameters:
    ///   - isNamed: SUBSCRIBE gave the id, so that MESSAGE repeats it.
    ///   - consumes: the group encodes a queue's deliveries; topic and queue groups do not mix.
    mutating func findOrMakeGroup(
        _ destinationIndex: Index<Destination>, id: UnsafeRawBufferPointer, isNamed: Bool, version: Version,
        consumes: Bool
    ) -> Index<Group> {
        let key = scratch.name
        key.storeBytes(of: destinationIndex.rawValue, as: UInt32.self)
        let kind: UInt32 = (consumes ? 0x100 : 0) | (isNamed ? 0x200 : 0)
        key.storeBytes(of: UInt32(version.rawValue) | kind, toByteOffset: 4, as: UInt32.self)
        memcpy(key + 8, id.baseAddress!, id.count)
        let found = groupTable.find(key, 8 + id.count)
        if found != 0 { return Index(found) }

        let index: Index<Group> = groups.allocate().index
        if index.isNone { return .none }
        let destination = destinations[destinationIndex]
        let name = nameOf(destinationIndex)
        let block = memory.blocks.allocate(
            byteCount: 8 + id.count + 64 + FrameWriter.escapedByteCountMax(id.count)
                + FrameWriter.escapedByteCountMax(name.count))
        guard block != 0 else {
            groups.free(index)
            return .none
        }
        let base = memory.blocks.base(block)
        memcpy(base, key, 8 + id.count)
        var writer = FrameWriter(at: base + 8 + id.count)
        writer.write("MESSAGE\n")
        if isNamed {
            writer.write("subscription:")
            writer.writeEscaped(id.baseAddress!, id.count, version: version)
            writer.write("\n")
        }
        writer.write("message-id:")
        let prefixEnd = writer.cursor
        if destination.pointee.kind != .pattern {
            writer.write("\ndestination:")
            writer.writeEscaped(name.baseAddress!, name.count, version: version)
        }
        let group = groups[index]
        group.pointee.destination = destinationIndex
        group.pointee.prefix = block
        group.pointee.keyByteCount = UInt32(8 + id.count)
        group.pointee.prefixByteCount = UInt32(prefixEnd - base - 8 - id.count)
        group.pointee.nameByteCount = UInt16(writer.cursor - prefixEnd)
        group.pointee.version = version
        destinations[groupsOf: destinationIndex].prepend(index, in: groups)
        groupTable.insert(base, 8 + id.count, value: index.rawValue)
        return index
    }

    /// Gives up a group that has neither members nor consumers.
    mutating func removeGroupIfEmpty(_ index: Index<Group>) {
        let group = groups[index]
        guard group.pointee.members.count == 0, group.pointee.nonMemberCount == 0 else { return }
        flush(index)
        destinations[groupsOf: group.pointee.destination].remove(index, in: groups)
        _ = groupTable.remove(memory.blocks.base(group.pointee.prefix), Int(group.pointee.keyByteCount))
        memory.blocks.release(group.pointee.prefix)
        group.pointee.members.deallocate()
        groups.free(index)
    }

    // MARK: SUBSCRIBE

    /// SUBSCRIBE, all of it checked. Suspends the session where other workers have to agree.
    mutating func subscribe(
        _ session: UnsafeMutablePointer<Session>, to index: Index<Destination>, id: UnsafeRawBufferPointer,
        ackMode: AckMode,
        window: Window
    ) -> FrameOutcome {
        // Its RECEIPT precedes its first MESSAGE, and receipts leave in order.
        if !session.pointee.pendings.isEmpty || !session.pointee.remoteSet.isNone {
            updateIdle(index)
            return retryAfterPending(session)
        }
        let consumes =
            ackMode != .auto || destinations[index].pointee.kind == .queue
            || destinations[index].pointee.kind == .remoteQueue
        let subscription = makeSubscription(
            session, index, id: id, isNamed: frame.has(.id), ackMode: ackMode, consumes: consumes, window: window)
        if subscription.isNone {
            updateIdle(index)
            counters.limits.count(.subscriptions)
            failFrame(session, "Out of memory", "no room for another subscription (limits.subscriptions-max)")
            return .done
        }
        switch destinations[index].pointee.kind {
        case .topic, .pattern:
            session.pointee.flags.insert(.hasTopics)
            guard isInterested(index, session, subscription) else { return .done }
            confirm(session)
            activate(subscription)
        case .queue:
            confirm(session)
            addConsumer(destinations[index].pointee.queue, subscription)
        case .remoteQueue:
            subscribeAtOwner(session, index, subscription)
        case .subscriptionQueue:
            invariant(false, "a subscription's own queue has no name to subscribe to")
        }
        return .done
    }

    private mutating func makeSubscription(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, id: UnsafeRawBufferPointer,
        isNamed: Bool,
        ackMode: AckMode, consumes: Bool, window: Window
    ) -> Index<Subscription> {
        let group = findOrMakeGroup(
            index, id: id, isNamed: isNamed, version: session.pointee.version, consumes: consumes)
        if group.isNone { return .none }
        let created: Index<Subscription> = subscriptions.allocate().index
        guard !created.isNone else {
            removeGroupIfEmpty(group)
            return .none
        }
        let subscription = subscriptions[created]
        subscription.pointee.session = session.pointee.index
        subscription.pointee.destination = index
        subscription.pointee.group = group
        subscription.pointee.ackMode = ackMode
        subscription.pointee.window = window
        subscription.pointee.flags = consumes ? [.pending, .isConsumer] : .pending
        groups[group].pointee.nonMemberCount += 1
        session.pointee.subscriptions.prepend(created, in: subscriptions)
        session.pointee.subscriptionCount += 1
        if session.pointee.flags.contains(.isIndexed) {
            addToIndex(created)
        } else if session.pointee.subscriptionCount > Self.unindexedSubscriptionsMax {
            session.pointee.flags.insert(.isIndexed)
            var own = session.pointee.subscriptions.first
            while !own.isNone {
                addToIndex(own)
                own = SubscriptionChain.next(after: own, in: subscriptions)
            }
        }
        destinations.addSubscription(to: index)
        updateIdle(index)
        return created
    }

    /// Most sessions have few subscriptions, and find one sooner without an index, which takes memory.
    private static var unindexedSubscriptionsMax: UInt16 { 16 }

    private mutating func addToIndex(_ index: Index<Subscription>) {
        subscriptionIndex.insert(hashOf(index), index.rawValue)
    }

    private mutating func hashOf(_ index: Index<Subscription>) -> UInt32 {
        let subscription = subscriptions[index]
        let id = idOf(subscription.pointee.group)
        return subscriptionIndex.hash(subscription.pointee.session.rawValue, id.baseAddress!, id.count)
    }

    /// The subscription counts from now on.
    mutating func activate(_ index: Index<Subscription>) {
        let subscription = subscriptions[index]
        subscription.pointee.flags.remove(.pending)
        if subscription.pointee.flags.contains(.isConsumer) {
            bindQueue(index)
            return
        }
        let group = groups[subscription.pointee.group]
        // What was published before goes to those who were there.
        if group.pointee.flags.contains(.dirty) { flush(subscription.pointee.group) }
        subscription.pointee.position = group.pointee.members.append(
            Member(session: subscription.pointee.session, subscription: index))
        group.pointee.nonMemberCount -= 1
    }

    /// The `reply-to` of a SEND: a subscription whose id is the temporary name itself. False: ERROR was sent.
    mutating func subscribeToTemporary(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, id: UnsafeRawBufferPointer
    ) -> Bool {
        let subscription = makeSubscription(
            session, index, id: id, isNamed: true, ackMode: .auto, consumes: true, window: Window(limits))
        guard !subscription.isNone else {
            counters.limits.count(.subscriptions)
            failFrame(session, "Out of memory", "no room for another subscription (limits.subscriptions-max)")
            return false
        }
        addConsumer(destinations[index].pointee.queue, subscription)
        return session.pointee.state == .connected
    }

    // MARK: UNSUBSCRIBE

    /// Ends a subscription. What its consumer holds unacknowledged returns to the queue.
    mutating func unsubscribe(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Subscription>, _ end: ConsumerEnd = .left
    ) {
        let subscription = subscriptions[index]
        let groupIndex = subscription.pointee.group
        let destinationIndex = subscription.pointee.destination
        let group = groups[groupIndex]
        if subscription.pointee.flags.contains(.isConsumer) {
            let held = forgetDeliveries(session, index, end)
            group.pointee.nonMemberCount -= 1
            if !subscription.pointee.ownQueue.isNone {
                unbindQueue(index)
            } else if !subscription.pointee.flags.contains(.pending) || !subscription.pointee.consumer.isNone {
                removeConsumer(of: index, session, held)
            }
        } else if !subscription.pointee.flags.contains(.pending) {
            if group.pointee.flags.contains(.dirty) { flush(groupIndex) }
            if let moved = group.pointee.members.swapRemove(at: subscription.pointee.position) {
                subscriptions[moved.subscription].pointee.position = subscription.pointee.position
            }
        } else {
            group.pointee.nonMemberCount -= 1
        }
        if session.pointee.flags.contains(.isIndexed) { subscriptionIndex.remove(hashOf(index), index.rawValue) }
        session.pointee.subscriptions.remove(index, in: subscriptions)
        if session.pointee.subscriptions.isEmpty { session.pointee.flags.remove(.isIndexed) }
        session.pointee.subscriptionCount -= 1
        subscriptions.free(index)
        removeGroupIfEmpty(groupIndex)
        if destinations.removeSubscription(from: destinationIndex) { announceWithdrawal(destinationIndex) }
        updateIdle(destinationIndex)
    }

    // MARK: Publishing

    /// Gives a message to every subscriber of a topic, here and with other workers.
    mutating func publish(_ index: Index<Destination>, _ message: Message) {
        if message.expiresAt != 0, message.expiresAt <= wallMilliseconds {
            counters.messagesExpired &+= 1
            return
        }
        let routedHere = publishHere(index, message)
        let routedElsewhere = shardCount > 1 && publishElsewhere(index, message)
        if !routedHere && !routedElsewhere { counters.messagesUnrouted &+= 1 }
    }

    /// Gives a message to this worker's subscribers.
    mutating func publishHere(_ index: Index<Destination>, _ message: Message) -> Bool {
        let destination = destinations[index]
        var wasRouted = false
        var group = destination.pointee.groups.first
        while !group.isNone {
            if groups[group].pointee.members.count != 0 {
                encode(group, message, name: nil)
                wasRouted = true
            }
            group = GroupChain.next(after: group, in: groups)
        }
        if destination.pointee.bound.count != 0 {
            enqueueToBound(index, message, name: nameOf(index))
            wasRouted = true
        }
        for i in 0..<destination.pointee.matches.count {
            let pattern = destination.pointee.matches[i].destination
            var group = destinations[pattern].pointee.groups.first
            while !group.isNone {
                if groups[group].pointee.members.count != 0 {
                    encode(group, message, name: nameOf(index))
                    wasRouted = true
                }
                group = GroupChain.next(after: group, in: groups)
            }
            if destinations[pattern].pointee.bound.count != 0 {
                enqueueToBound(pattern, message, name: nameOf(index))
                wasRouted = true
            }
        }
        return wasRouted
    }

    /// Appends a MESSAGE to the group's run.
    ///
    ///     MESSAGE\nsubscription:ID\nmessage-id:HEX\ndestination:NAME\ncontent-length:N\nHEADERS\n\nBODY\0\n
    private mutating func encode(_ index: Index<Group>, _ message: Message, name: UnsafeRawBufferPointer?) {
        let group = groups[index]
        let prefixByteCount = Int(group.pointee.prefixByteCount)
        let needed =
            prefixByteCount + Int(group.pointee.nameByteCount) + 64 + message.contentByteCountMax
            + (name.map { FrameWriter.escapedByteCountMax($0.count) + 16 } ?? 0)
        var run = group.pointee.run
        if run != 0, memory.blocks.capacity(run) - memory.blocks.used(run) < needed {
            group.pointee.runByteCountExpected = UInt32(min(memory.blocks.capacity(run) * 4, 256 * 1024))
            flush(index)
            run = 0
        }
        if run == 0 {
            run = memory.allocateBulk(byteCount: max(needed, Int(group.pointee.runByteCountExpected)))
            guard run != 0 else {
                counters.messagesDropped &+= UInt64(group.pointee.members.count)
                notice(
                    .memoryLimit,
                    "no memory to send a message to \(group.pointee.members.count) subscribers: it is dropped")
                return
            }
            memory.blocks.setUsed(run, 0)
            group.pointee.run = run
            group.pointee.flags.insert(.dirty)
            dirtyGroups.append(groups.handle(index))
        }
        let start = memory.blocks.base(run) + memory.blocks.used(run)
        var writer = FrameWriter(at: start)
        let prefix = UnsafeRawPointer(memory.blocks.base(group.pointee.prefix)) + Int(group.pointee.keyByteCount)
        writer.write(prefix, prefixByteCount)
        writer.writeHex(message.identity)
        if !message.carriesDestination {
            if let name {
                writer.write("\ndestination:")
                writer.writeEscaped(name.baseAddress!, name.count, version: group.pointee.version)
            } else {
                writer.write(prefix + prefixByteCount, Int(group.pointee.nameByteCount))
            }
        }
        writer.write("\ncontent-length:")
        writer.writeDecimal(UInt64(message.bodyByteCount))
        writer.write(UInt8(ascii: "\n"))
        message.writeContent(&writer, version: group.pointee.version)
        memory.blocks.setUsed(run, memory.blocks.used(run) + (writer.cursor - start))
        counters.messagesDelivered &+= UInt64(group.pointee.members.count)
    }

    /// Gives a group's run to its members and lets go of it: an idle group holds no memory.
    mutating func flush(_ index: Index<Group>) {
        let group = groups[index]
        guard group.pointee.flags.contains(.dirty) else { return }
        group.pointee.flags.remove(.dirty)
        let run = group.pointee.run
        let byteCount = memory.blocks.used(run)
        group.pointee.run = 0
        let expected = Int(group.pointee.runByteCountExpected)
        group.pointee.runByteCountExpected = UInt32(min(max(byteCount, expected / 2), 256 * 1024))
        let members = group.pointee.members
        flushedGroup = index
        for i in 0..<members.count {
            let session = sessions[members[i].session]
            // It is cut as soon as there is time.
            if session.pointee.flags.contains(.doomed) { continue }
            appendRun(session, run, offset: 0, byteCount: byteCount)
        }
        flushedGroup = .none
        memory.blocks.release(run)
    }

    /// Flushes all groups that gained messages in this turn.
    mutating func flushGroups() {
        for i in 0..<dirtyGroups.count {
            if groups.isLive(dirtyGroups[i]) { flush(dirtyGroups[i].index) }
        }
        dirtyGroups.removeAll()
    }

    /// Flushes the groups a session is in, so that what was routed to it precedes what is written to it next.
    mutating func flushGroups(of session: UnsafeMutablePointer<Session>) {
        if Int(session.pointee.subscriptionCount) > dirtyGroups.count { return flushGroups() }
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            let group = subscriptions[index].pointee.group
            if groups[group].pointee.flags.contains(.dirty) { flush(group) }
            index = SubscriptionChain.next(after: index, in: subscriptions)
        }
    }
}
