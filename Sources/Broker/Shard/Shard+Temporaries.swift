import STOMP
import Slabs

// Temporary destinations: made by their connection, written to by whoever has their address, gone with the connection.
extension Shard {
    /// `/temp-queue/NAME` or `/temp-topic/NAME` of this connection, made on first use. None: ERROR was sent.
    ///
    /// - Parameter kept: Another one, which must not make room for it.
    mutating func temporary(
        _ context: FrameContext, _ written: UnsafeRawBufferPointer, _ kind: DestinationClass,
        keeping kept: Index<Destination> = .none
    ) -> Index<Destination> {
        let session = context.session
        let parsed = try! DestinationName.parse(
            written, bareNamePrefix: options.bareNamePrefix, byteCountMax: limits.destinationNameByteCountMax,
            levelCountMax: limits.destinationLevelCountMax, owner: { ownerText(session) },
            host: hosts.prefix(of: session.pointee.index), into: scratch.name)
        let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
        var index = findDestination(name)
        if !index.isNone {
            if destinations[index].pointee.isTemporary { return index }
            // Somebody who guessed the name has sent to it before it was there.
            if destinations[index].pointee.isIdle {
                remove(index)
                index = .none
            }
        }
        if gate.isOn, !admitsTemporary(context, written) { return .none }
        guard makeRoomForTemporary(context, keeping: kept) else {
            counters.limits.count(.subscriptionsPerConnection)
            failFrame(
                context, "Too many destinations",
                "a connection may have \(limits.subscriptionsPerConnectionMax) temporary destinations with subscribers "
                    + "or messages (limits.subscriptions-per-connection-max)")
            return .none
        }
        let mayExceed = context.isCommitting
        guard
            !index.isNone
                || (kind == .temporaryQueue
                    ? makeRoomForQueue(mayExceed: mayExceed)
                    : makeRoomForOther(isUnused: false, mayExceed: mayExceed))
        else {
            failDestination(context, .destinations)
            return .none
        }
        if index.isNone {
            index = kind == .temporaryQueue ? makeQueue(name, isTemporary: true) : makeTopic(name, isPattern: false)
        }
        if index.isNone {
            failFrame(context, "Out of memory", "the broker has reached its memory limit")
            return .none
        }
        destinations.makeTemporary(index, of: session)
        return index
    }

    /// Whether the session may have another temporary destination. Where it has as many as it may, the oldest that is
    /// empty and that nobody subscribes to makes way, all but `kept`; its name stays the session's, to be used again.
    private mutating func makeRoomForTemporary(
        _ context: FrameContext, keeping kept: Index<Destination>
    ) -> Bool {
        let session = context.session
        var count = 0
        var index = session.pointee.temporaries.first
        while !index.isNone {
            count += 1
            index = destinations.nextTemporary(after: index)
        }
        chargeForSteps(count)
        if count < limits.subscriptionsPerConnectionMax { return true }
        var unused = Index<Destination>.none
        index = session.pointee.temporaries.first
        while !index.isNone {
            if index != kept, !isInUse(index) { unused = index }
            index = destinations.nextTemporary(after: index)
        }
        chargeForSteps(count)
        // Where COMMIT was checked with other ones in use than now, it goes beyond the limit: half a transaction would be
        // worse.
        if unused.isNone { return context.isCommitting }
        letGoTemporary(session, unused)
        return true
    }

    /// A temporary destination as others address it. One whose connection is gone takes messages and drops them,
    /// counted: a service must not fail because its client did not wait for the answer.
    mutating func reply(
        _ context: FrameContext, _ name: UnsafeRawBufferPointer, _ kind: DestinationClass
    ) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        guard let shard = DestinationName.replyShard(name), shard < shardCount else {
            failFrame(context, "Unknown destination", "'\(nameText(name))' is not a reply address of this broker")
            return .none
        }
        _ = makeRoomForOther(isUnused: true)
        let destination: Index<Destination>
        if kind == .replyTopic || shard == index {
            // A topic without subscribers is what becomes of what is sent to a queue that is gone.
            destination = makeTopic(name, isPattern: false)
        } else {
            destination = destinations.makeRemoteQueue(name, owner: shard, blocks: false, memory: &memory)
        }
        if destination.isNone { failFrame(context, Refusal.memory.message, Refusal.memory.explanation(limits)) }
        return destination
    }

    /// The connection ends, and with it the first of its temporary destinations.
    mutating func removeTemporary(_ session: UnsafeMutablePointer<Session>) {
        letGoTemporary(session, session.pointee.temporaries.first)
    }

    /// It is temporary no more: a queue ends, a topic is forgotten when nobody needs it.
    private mutating func letGoTemporary(_ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>) {
        destinations.endTemporary(index, of: session)
        if destinations[index].pointee.queue.isNone { updateIdle(index) } else { remove(index) }
    }

    /// SEND with `reply-to:/temp-queue/NAME` subscribes its connection by itself. Returns the destination whose name
    /// receivers see instead, none where `reply-to` needs no rewriting, nil after an ERROR.
    mutating func replyDestination(_ context: FrameContext) -> Index<Destination>? {
        let session = context.session
        let value = frame.value(.replyTo, into: scratch.value, version: session.pointee.version)!
        let isQueue = begins(value, with: "/temp-queue/")
        guard isQueue || begins(value, with: "/temp-topic/") else {
            return !gate.isOn || admitsReplyTo(context, value) ? Index.none : nil
        }
        guard value.count > 12, value.count <= limits.destinationNameByteCountMax else {
            failReplyTo(context)
            return nil
        }
        do throws(DestinationNameError) {
            _ = try DestinationName.parse(
                value, bareNamePrefix: "", byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { "" }, into: scratch.name)
        } catch {
            if case .tooManyLevels = error {
                failManyLevels(context, value)
            } else {
                failReplyTo(context)
            }
            return nil
        }
        let index = temporary(context, value, isQueue ? .temporaryQueue : .temporaryTopic)
        if index.isNone { return nil }
        if isQueue, findSubscription(session, value).isNone, destinations[index].pointee.subscriptionCount == 0 {
            guard Int(session.pointee.subscriptionCount) < limits.subscriptionsPerConnectionMax else {
                counters.limits.count(.subscriptionsPerConnection)
                failFrame(
                    context, "Too many subscriptions",
                    "a connection may have \(limits.subscriptionsPerConnectionMax) subscriptions, reply-to included")
                return nil
            }
            if gate.isOn, !context.isCommitting, !admitsSubscription(context) { return nil }
            if hosts.isOn, !hostAdmitsSubscription(context) { return nil }
            guard !destinations[index].pointee.queue.isNone, subscribeToTemporary(context, index, id: value) else {
                return nil
            }
        }
        return index
    }

    private mutating func failReplyTo(_ context: FrameContext) {
        failFrame(
            context, "Invalid destination", "reply-to must name a temporary destination, as in /temp-queue/answers")
    }
}
