import Glibc
import IO
import STOMP
import Slabs

/// Where a SEND goes.
struct SendTarget: BitwiseCopyable {
    var destination: Index<Destination>
    /// The temporary destination that the SEND names in `reply-to`. None: none.
    var replyTo = Index<Destination>.none
    /// Its destination is written otherwise than in its canonical form; MESSAGE repeats it as it was written.
    var isAlias = false
}

// SEND: where it goes, whether it has to wait, and what of it is the message.
extension Shard {
    mutating func send(_ context: FrameContext) -> FrameOutcome {
        guard frame.has(.destination) else {
            failFrame(context, "Missing destination", "SEND needs a destination header")
            return .done
        }
        if isDraining {
            failFrame(context, "Shutting down", "the broker is shutting down and takes no more messages")
            return .done
        }
        if frame.has(.transaction) { return memoryIsFull(context) ? waitForRoom(context) : keepSend(context) }
        if gate.knowsUsers, isRenewal() { return renew(context) }
        counters.messagesReceived &+= 1
        let outcome = sendNow(context)
        if case .retry = outcome { counters.messagesReceived &-= 1 }
        return outcome
    }

    /// SEND outside of a transaction, or at its COMMIT.
    mutating func sendNow(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        guard let target = targetOfSend(context) else { return .done }
        let destination = destinations[target.destination]
        var hadReservation = false
        if session.pointee.flags.contains(.hasReservation), destination.pointee.kind != .remoteQueue,
            !context.isCommitting
        {
            // What was granted is kept meanwhile.
            if destination.pointee.kind == .queue, memoryIsFull(context) { return waitForRoom(context) }
            hadReservation = true
            returnReservation(session)
        }
        let outcome: FrameOutcome
        switch destination.pointee.kind {
        case .topic:
            outcome = frame.has(.sendOption) ? sendToTopicWithOptions(context, target) : sendToTopic(context, target)
        case .queue: outcome = sendToQueue(context, target, hadReservation: hadReservation)
        case .remoteQueue: outcome = sendToRemoteQueue(context, target)
        case .pattern, .subscriptionQueue:
            invariant(false, "nobody sends to a pattern or to a subscription's own queue")
            return .done
        }
        return outcome
    }

    /// Finds or makes the destination of the SEND under the parser. nil: it was answered with ERROR.
    @inline(__always)
    private mutating func targetOfSend(_ context: FrameContext) -> SendTarget? {
        let session = context.session
        let raw = frame.rawValue(.destination)!
        var target = SendTarget(destination: session.pointee.lastDestination.index)
        let isUncommon = frame.hasAny(Self.uncommon)
        if isUncommon {
            if frame.has(.persistent), !store.isEnabled { _ = asksForPersistence(session) }
            if gate.knowsUsers, frame.has(.userId), !admitsUserID(context) { return nil }
            if frame.has(.retain), retainOfFrame(context) == nil { return nil }
            if frame.has(.replyTo) {
                guard let temporary = replyDestination(context) else { return nil }
                target.replyTo = temporary
            }
        }
        // An escaped name may look like another one that is not.
        let isEscaped = !frame.isPlain && frame.firstField(.destination)!.flags.contains(.valueIsEscaped)
        let asksForQueue = isUncommon && frame.hasAny(QueueRequest.bits | QueueRequest.unsupportedBits)
        if target.destination.isNone || isEscaped || asksForQueue
            || !isDestination(session.pointee.lastDestination, raw)
        {
            let last = session.pointee.lastDestination
            // Of another host than the standard one, it has a prefix.
            if !hosts.isOn || isEscaped || asksForQueue || !isSeen(last, as: raw) {
                target.destination = destinationForSend(context, raw, keeping: target.replyTo)
                if target.destination.isNone { return nil }
                session.pointee.lastDestination = destinations.handle(target.destination)
                let written = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
                target.isAlias = !isSeen(session.pointee.lastDestination, as: written)
            }
        }
        if isUncommon, frame.has(.retain), !mayRetain(context, target.destination) { return nil }
        if isUncommon, store.isEnabled, destinations[target.destination].pointee.storage == .never,
            frame.has(.persistent), asksForPersistence(session),
            !durables.isUsed || storingWorkers(of: target.destination, isPersistent: true).isEmpty
        {
            noticePersistence(session)
        }
        return target
    }

    @inline(__always)
    private func isDestination(_ handle: Handle<Destination>, _ raw: UnsafeRawBufferPointer) -> Bool {
        guard let destination = destinations.find(handle), Int(destination.pointee.nameByteCount) == raw.count else {
            return false
        }
        return memcmp(memory.blocks.base(destination.pointee.name), raw.baseAddress!, raw.count) == 0
    }

    /// The destination is live, and clients of its host write it like this.
    @inline(__always)
    private func isSeen(_ handle: Handle<Destination>, as written: UnsafeRawBufferPointer) -> Bool {
        guard destinations.isLive(handle) else { return false }
        let name = visible(nameOf(handle.index))
        return name.count == written.count && memcmp(name.baseAddress!, written.baseAddress!, name.count) == 0
    }

    /// Headers of SEND that most frames do not have, and that take a closer look.
    @inline(__always)
    private static var uncommon: UInt64 {
        HeaderName.replyTo.bit | HeaderName.persistent.bit | HeaderName.userId.bit | HeaderName.retain.bit
            | QueueRequest.bits
            | QueueRequest.unsupportedBits
    }

    /// The message is where it was to go: RECEIPT, unless that ended or suspended the session.
    @inline(__always)
    mutating func didSend(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        if session.pointee.state == .connected, !session.pointee.flags.contains(.suspended) { confirm(context) }
        return .done
    }

    @inline(__always)
    mutating func sendToTopic(_ context: FrameContext, _ target: SendTarget) -> FrameOutcome {
        let index = target.destination
        if destinations[index].pointee.isSequenced { return sendToSequenced(context, target) }
        if !context.isCommitting {
            if memoryIsFull(context) {
                let keepsMessages = destinations.keepsMessages(index)
                // What is above 100 % is for messages that do not stay.
                if keepsMessages || topicsFillMemory || !memory.hasBulk(0) {
                    return waitForRoom(context, isTopic: !keepsMessages)
                }
            }
            if shardCount > 1, fabric.isFullForTopics(anyOf: destinations.peers(of: index)) {
                return waitForRoom(context, isTopic: true)
            }
        }
        if durables.isUsed { return sendToDurables(context, target) }
        guard let message = messageOfFrame(context, for: target) else { return .done }
        publish(index, message)
        return didSend(context)
    }

    /// - Parameter hadReservation: it was granted room, which is free again, and may take less now.
    private mutating func sendToQueue(
        _ context: FrameContext, _ target: SendTarget, hadReservation: Bool
    ) -> FrameOutcome {
        let session = context.session
        let destination = destinations[target.destination]
        if memoryIsFull(context), !context.isCommitting { return waitForRoom(context) }
        if destination.pointee.isIdle, let refusal = queues.refusal(of: holder(session), limits) {
            counters.messagesRefused &+= 1
            failDestination(context, refusal)
            return .done
        }
        let queue = queues.handle(destination.pointee.queue)
        if frame.has(.sendOption) || queues[queue.index].pointee.storage != .never,
            let outcome = holdBack(context, target, queue.index)
        {
            if hadReservation { roomIsFree(queue) }
            return outcome
        }
        let wasEmpty = queues[queue.index].pointee.messageCount == 0
        guard queues.hasRoom(queue.index, byteCount: frame.reservedByteCount) else {
            return queueIsFull(context, target, queue.index)
        }
        guard let message = messageOfFrame(context, for: target) else {
            roomIsFree(queue)
            return .done
        }
        let wasTaken = take(queue.index, message)
        if wasEmpty { hold(queue, holder(session)) }
        // It may have taken less room than it was granted, or none where it had expired.
        if hadReservation || !queues[queue.index].pointee.blocked.isEmpty { roomIsFree(queue) }
        guard wasTaken else {
            counters.messagesRefused &+= 1
            failFrame(context, Refusal.memory.message, Refusal.memory.explanation(limits))
            return .done
        }
        return didSend(context)
    }

    /// The SEND has options, or may go to the log. nil: it goes on as any other.
    @inline(never)
    private mutating func holdBack(
        _ context: FrameContext, _ target: SendTarget, _ index: Index<Queue>
    ) -> FrameOutcome? {
        if frame.has(.sendOption), let outcome = settleOptions(context, target, index) { return outcome }
        guard queues[index].pointee.storage != .never, storesFrame(context.session, in: target.destination) else {
            return nil
        }
        return holdBackStored(context)
    }

    @inline(never)
    private mutating func sendToRemoteQueue(_ context: FrameContext, _ target: SendTarget) -> FrameOutcome {
        let destination = destinations[target.destination]
        if !context.isCommitting {
            if memoryIsFull(context) { return waitForRoom(context) }
            let owner = destination.pointee.owner
            if fabric.isFull(Int(owner)) { return waitForRoom(context, owner: owner) }
            if destination.pointee.storage != .never, fabric.storeIsFull(Int(owner)),
                storesFrame(context.session, in: target.destination)
            {
                return waitForRoom(context, owner: owner, limit: .messageMemory)
            }
            if destination.pointee.blocks, !context.session.pointee.flags.contains(.hasReservation) {
                return reserveForSend(context, target)
            }
        }
        guard let message = messageOfFrame(context, for: target) else { return .done }
        if destination.pointee.storage != .never, storesFrame(context.session, in: target.destination) {
            context.session.pointee.flags.insert(.hasStoredElsewhere)
        }
        sendToOwner(context, target.destination, message)
        return didSend(context)
    }

    // MARK: The message

    /// Headers that the broker consumes or writes itself; all others pass from SEND to MESSAGE.
    @inline(__always)
    private static var consumed: UInt64 {
        HeaderName.destination.bit | HeaderName.receipt.bit | HeaderName.transaction.bit | HeaderName.contentLength.bit
            | HeaderName.subscription.bit | HeaderName.messageId.bit | HeaderName.ack.bit | HeaderName.redelivered.bit
            | HeaderName.deliveryCount.bit | HeaderName.retain.bit | HeaderName.xStreamOffset.bit
    }

    /// The SEND under the parser as a message. nil: it was answered with ERROR, or has expired.
    mutating func messageOfFrame(_ context: FrameContext, for target: SendTarget) -> Message? {
        let isUncommon = frame.hasAny(
            HeaderName.expires.bit | HeaderName.expiration.bit | HeaderName.ttl.bit | HeaderName.persistent.bit
                | HeaderName.sendOption.bit)
        var marks: MessageMarks = frame.isPlain ? .isPlain : []
        var expiresAt: UInt64 = 0
        if isUncommon {
            guard let time = expiryOfFrame(context) else { return nil }
            expiresAt = time
            if store.isEnabled, asksForPersistence(context.session) { marks.insert(.isPersistent) }
        }
        var message = Message(
            headers: frame.base, headersByteCount: 0, body: frame.base + frame.bodyOffset,
            bodyByteCount: frame.bodyByteCount, marks: marks, identity: takeIdentity(), expiresAt: expiresAt)
        if isUncommon, frame.has(.sendOption) { return addOptions(&message, context, target) ? message : nil }
        if frame.isPlain && target.replyTo.isNone && !target.isAlias {
            gatherHeaders(&message)
        } else {
            transcodeHeaders(&message, target, from: context.session.pointee.version)
        }
        return message
    }

    /// Headers that are the same bytes in all versions. Runs of kept lines are copied as they are; often there is only one,
    /// and then nothing is copied.
    @inline(__always)
    private func gatherHeaders(_ message: inout Message) {
        let mask = Self.consumed
        var writer = FrameWriter(at: scratch.headers)
        var runStart = -1
        var runEnd = 0
        var runCount = 0
        for i in 0..<frame.fieldCount {
            let field = frame.field(i)
            if mask & (1 << UInt64(field.known.rawValue)) != 0 { continue }
            let start = Int(field.nameOffset)
            let end = Int(field.valueOffset) + Int(field.valueCount) + 1
            if start == runEnd && runStart >= 0 {
                runEnd = end
                continue
            }
            if runStart >= 0 {
                writer.write(frame.base + runStart, runEnd - runStart)
                runCount += 1
            }
            runStart = start
            runEnd = end
        }
        if runStart >= 0 {
            if runCount == 0 {
                message.headers = frame.base + runStart
                message.headersByteCount = runEnd - runStart
                return
            }
            writer.write(frame.base + runStart, runEnd - runStart)
        }
        message.headers = UnsafeRawPointer(scratch.headers)
        message.headersByteCount = writer.cursor - scratch.headers
    }

    /// Headers in the escapes of 1.2, with the destination as it was written and the name that others may reply to.
    ///
    /// - Parameter lineByteCount: of the line that is in `Scratch.headers` already: they go behind it.
    mutating func transcodeHeaders(
        _ message: inout Message, _ target: SendTarget, from version: Version, behind lineByteCount: Int = 0
    ) {
        let mask = Self.consumed
        var writer = FrameWriter(at: scratch.headers + lineByteCount)
        if target.isAlias {
            writer.writeTranscoded(frame.firstField(.destination)!, of: frame, from: version, to: .v1_2)
            message.carriesDestination = true
        }
        if !target.replyTo.isNone {
            writer.write("reply-to:")
            let name = visible(nameOf(target.replyTo))
            writer.writeEscaped(name.baseAddress!, name.count, version: .v1_2)
            writer.write(UInt8(ascii: "\n"))
        }
        for i in 0..<frame.fieldCount {
            let field = frame.field(i)
            if mask & (1 << UInt64(field.known.rawValue)) != 0 { continue }
            if !target.replyTo.isNone, field.known == .replyTo { continue }
            if field.known == .sendOption, isScheduleField(field) { continue }
            writer.writeTranscoded(field, of: frame, from: version, to: .v1_2)
        }
        message.isPlain = frame.isPlain && target.replyTo.isNone
        message.headers = UnsafeRawPointer(scratch.headers)
        message.headersByteCount = writer.cursor - scratch.headers
    }

    /// `expires` (epoch ms), `expiration` and `ttl` (ms from now) as epoch ms; 0: never. nil: ERROR.
    mutating func expiryOfFrame(_ context: FrameContext) -> UInt64? {
        for name: HeaderName in [.expires, .expiration, .ttl] {
            guard let value = number(context, name, default: 0, "Bad expiry") else { return nil }
            if value == 0 { continue }  // 0 means "never" to clients that always send the header
            return name == .expires ? value : wallMilliseconds &+ value
        }
        return 0
    }
}
