import Glibc
import IO
import STOMP
import Slabs

// One method per command. A frame is applied in full, or answered with ERROR and the connection's end, or (`.retry`)
// not applied at all and parsed again when what it waits for is there.
extension Shard {
    mutating func apply(frameOf session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        let command = frame.command
        switch session.pointee.state {
        case .fresh:
            switch command {
            case .connect, .stomp: connect(session)
            case .send, .subscribe, .unsubscribe, .begin, .commit, .abort, .ack, .nack, .disconnect:
                fail(
                    session, "Illegal command", "You must log in using CONNECT first", receipt: receiptOfFrame(session))
            case .connected, .message, .receipt, .error: failServerCommand(session)
            }
            return .done
        case .connected:
            switch command {
            case .send: return send(session)
            case .ack: return acknowledge(session, accepts: true)
            case .nack: return acknowledge(session, accepts: false)
            case .subscribe: return subscribe(session)
            case .unsubscribe: return unsubscribe(session)
            case .begin: return begin(session)
            case .commit: return commit(session)
            case .abort: return abort(session)
            case .disconnect: return disconnect(session)
            case .connect, .stomp:
                fail(session, "Illegal command", "this connection is CONNECTED", receipt: receiptOfFrame(session))
            case .connected, .message, .receipt, .error: failServerCommand(session)
            }
            return .done
        case .authenticating:
            invariant(false, "frames behind CONNECT wait for its answer")
            return .done
        case .ending, .lingering, .closing:
            return .done  // frames behind DISCONNECT or a faulty frame are not processed
        }
    }

    private mutating func failServerCommand(_ session: UnsafeMutablePointer<Session>) {
        fail(session, "Bad command", "only a server sends this command", receipt: receiptOfFrame(session))
    }

    /// The frame's `receipt` as the client wrote it. Mutating, or the shard would be copied to call it.
    mutating func receiptOfFrame(_ session: UnsafeMutablePointer<Session>) -> UnsafeRawBufferPointer? {
        if !commitReceipt.isNone { return receiptOfPending(commitReceipt) }
        return session.pointee.state == .connected ? frame.rawValue(.receipt) : nil
    }

    mutating func failFrame(_ session: UnsafeMutablePointer<Session>, _ message: StaticString, _ explanation: String) {
        fail(session, message, explanation, receipt: receiptOfFrame(session))
    }

    /// The frame is processed: RECEIPT where it was asked for.
    mutating func confirm(_ session: UnsafeMutablePointer<Session>) {
        guard !isApplyingCommit, let id = frame.rawValue(.receipt) else { return }
        if pendings.answersAtOnce(session) {
            writeReceipt(session, id)
        } else {
            confirmLater(session, id)
        }
    }

    // MARK: CONNECT

    private mutating func connect(_ session: UnsafeMutablePointer<Session>) {
        let version: Version
        if let list = frame.rawValue(.acceptVersion) {
            guard let common = AcceptVersion.highestCommon(list) else {
                notice(.protocolError, session: session.pointee.index, "no common version in \(printable(list))")
                writeError(
                    session, "Supported versions are 1.0,1.1,1.2",
                    "accept-version lists none of the versions that this broker speaks", receipt: nil, version: true)
                return end(session)
            }
            version = common
        } else {
            version = .v1_0
        }
        var wish: (UInt32, UInt32) = (0, 0)
        if let text = frame.rawValue(.heartBeat) {
            guard let parsed = HeartBeat.parse(text) else {
                return fail(
                    session, "Bad heart-beat", "heart-beat must be two numbers of milliseconds, as in 10000,10000")
            }
            wish = parsed
        }
        let offer = UInt32(limits.heartBeatSendMilliseconds)
        let want = UInt32(limits.heartBeatReceiveMilliseconds)
        session.pointee.sendInterval = offer == 0 || wish.1 == 0 ? 0 : max(offer, wish.1)
        session.pointee.receiveInterval = want == 0 || wish.0 == 0 ? 0 : max(want, wish.0)
        session.pointee.version = version
        keepLogin(session)
        authenticate(session)
    }

    mutating func writeConnected(_ session: UnsafeMutablePointer<Session>) {
        var server = options.serverName
        guard let room = reserveOutput(session, 256 + server.utf8.count) else { return }
        var writer = FrameWriter(at: room)
        writer.write("CONNECTED\nversion:")
        writer.write(session.pointee.version.text)
        writer.write("\nserver:")
        server.withUTF8 { writer.write(UnsafeRawPointer($0.baseAddress!), $0.count) }
        writer.write("\nheart-beat:")
        writer.writeDecimal(UInt64(limits.heartBeatSendMilliseconds))
        writer.write(",")
        writer.writeDecimal(UInt64(limits.heartBeatReceiveMilliseconds))
        writer.write("\nsession:")
        var identity = sessionText(session)
        identity.withUTF8 { writer.write(UnsafeRawPointer($0.baseAddress!), $0.count) }
        writer.write("\n\n\0\n")
        commitOutput(session, writer.cursor - room)
    }

    // MARK: DISCONNECT

    private mutating func disconnect(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        // Everything before it is processed, by other workers too, before it is answered.
        if pendings.holdsBack(session, asksForReceipt: frame.has(.receipt)) { return retryAfterPending(session) }
        flushGroups(of: session)
        // Unconsumed deliveries go back only after this, so that the RECEIPT is the last frame.
        confirm(session)
        end(session, .left)
        return .done
    }

    // MARK: SEND

    private mutating func send(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        guard frame.has(.destination) else {
            failFrame(session, "Missing destination", "SEND needs a destination header")
            return .done
        }
        if isDraining {
            failFrame(session, "Shutting down", "the broker is shutting down and takes no more messages")
            return .done
        }
        if frame.has(.transaction) { return memoryIsFull ? waitForRoom(session) : keepSend(session) }
        counters.messagesReceived &+= 1
        let outcome = sendNow(session)
        if case .retry = outcome { counters.messagesReceived &-= 1 }
        return outcome
    }

    /// SEND outside of a transaction, or at its COMMIT.
    mutating func sendNow(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        let raw = frame.rawValue(.destination)!
        replyTo = .none
        let isUncommon = frame.hasAny(Self.uncommon)
        if isUncommon {
            if frame.has(.persistent) { noticePersistence(session) }
            if frame.has(.replyTo) {
                guard let temporary = replyDestination(session) else { return .done }
                replyTo = temporary
            }
        }
        var index = session.pointee.lastDestination.index
        isAlias = false
        // An escaped name may look like another one that is not.
        let isEscaped = !frame.isPlain && frame.firstField(.destination)!.flags.contains(.valueIsEscaped)
        let asksForQueue = isUncommon && frame.hasAny(QueueRequest.bits | QueueRequest.unsupportedBits)
        if index.isNone || isEscaped || asksForQueue || !isDestination(session.pointee.lastDestination, raw) {
            index = destinationForSend(session, raw, keeping: replyTo)
            if index.isNone { return .done }
            session.pointee.lastDestination = destinations.handle(index)
            let written = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
            isAlias = !isDestination(session.pointee.lastDestination, written)
        }
        let destination = destinations[index]
        var hadReservation = false
        if session.pointee.flags.contains(.hasReservation), destination.pointee.kind != .remoteQueue, !isApplyingCommit
        {
            // What was granted is kept meanwhile.
            if destination.pointee.kind == .queue, memoryIsFull { return waitForRoom(session) }
            hadReservation = true
            returnReservation(session)
        }
        switch destination.pointee.kind {
        case .topic:
            if !isApplyingCommit {
                if memoryIsFull, topicHasToWait(index) {
                    return waitForRoom(session, isTopic: !destinations.keepsMessages(index))
                }
                if shardCount > 1, peersAreFull(index) { return waitForRoom(session, isTopic: true) }
            }
            guard let message = messageOfFrame(session) else { return .done }
            publish(index, message)
        case .queue:
            if memoryIsFull, !isApplyingCommit { return waitForRoom(session) }
            if destination.pointee.isIdle, let refusal = queues.refusal(of: holder(session), limits) {
                counters.messagesRefused &+= 1
                failDestination(session, refusal)
                return .done
            }
            let queue = queues.handle(destination.pointee.queue)
            let wasEmpty = queues[queue.index].pointee.messageCount == 0
            guard queues.hasRoom(queue.index, byteCount: frame.reservedByteCount) else {
                return queueIsFull(session, queue.index)
            }
            guard let message = messageOfFrame(session) else {
                roomIsFree(queue)
                return .done
            }
            let wasTaken = enqueue(queue.index, message)
            if wasEmpty { hold(queue, holder(session)) }
            // It may have taken less room than it was granted, or none where it had expired.
            if hadReservation || !queues[queue.index].pointee.blocked.isEmpty { roomIsFree(queue) }
            guard wasTaken else {
                counters.messagesRefused &+= 1
                failFrame(session, Refusal.memory.message, Refusal.memory.explanation(limits))
                return .done
            }
        case .remoteQueue:
            if !isApplyingCommit {
                if memoryIsFull { return waitForRoom(session) }
                let owner = destination.pointee.owner
                if fabric.isFull(Int(owner)) { return waitForRoom(session, owner: owner) }
            }
            if destination.pointee.blocks, !isApplyingCommit, !session.pointee.flags.contains(.hasReservation) {
                return reserveForSend(session, index)
            }
            guard let message = messageOfFrame(session) else { return .done }
            sendToOwner(session, index, message)
        case .pattern, .subscriptionQueue:
            invariant(false, "nobody sends to a pattern or to a subscription's own queue")
        }
        if session.pointee.state == .connected, !session.pointee.flags.contains(.suspended) { confirm(session) }
        return .done
    }

    @inline(__always)
    private func isDestination(_ handle: Handle<Destination>, _ raw: UnsafeRawBufferPointer) -> Bool {
        guard let destination = destinations.find(handle), Int(destination.pointee.nameByteCount) == raw.count else {
            return false
        }
        return memcmp(memory.blocks.base(destination.pointee.name), raw.baseAddress!, raw.count) == 0
    }

    /// Headers of SEND that most frames do not have, and that take a closer look.
    @inline(__always)
    private static var uncommon: UInt64 {
        HeaderName.replyTo.bit | HeaderName.persistent.bit | QueueRequest.bits | QueueRequest.unsupportedBits
    }

    /// Headers that the broker consumes or writes itself; all others pass from SEND to MESSAGE.
    @inline(__always)
    private static var consumed: UInt64 {
        HeaderName.destination.bit | HeaderName.receipt.bit | HeaderName.transaction.bit | HeaderName.contentLength.bit
            | HeaderName.subscription.bit | HeaderName.messageId.bit | HeaderName.ack.bit | HeaderName.redelivered.bit
            | HeaderName.deliveryCount.bit
    }

    /// The SEND under the parser as a message. nil: it was answered with ERROR, or has expired.
    mutating func messageOfFrame(_ session: UnsafeMutablePointer<Session>) -> Message? {
        var expiresAt: UInt64 = 0
        if frame.has(.expires) || frame.has(.expiration) || frame.has(.ttl) {
            guard let time = expiryOfFrame(session) else { return nil }
            expiresAt = time
        }
        var message = Message(
            headers: frame.base, headersByteCount: 0, body: frame.base + frame.bodyOffset,
            bodyByteCount: frame.bodyByteCount, isPlain: frame.isPlain, identity: takeIdentity(), expiresAt: expiresAt)
        let mask = Self.consumed
        if frame.isPlain && replyTo.isNone && !isAlias {
            // Runs of kept lines are copied as they are; often there is only one, and then nothing is copied.
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
                    return message
                }
                writer.write(frame.base + runStart, runEnd - runStart)
            }
            message.headers = UnsafeRawPointer(scratch.headers)
            message.headersByteCount = writer.cursor - scratch.headers
            return message
        }
        var writer = FrameWriter(at: scratch.headers)
        if isAlias {
            writer.writeTranscoded(
                frame.firstField(.destination)!, of: frame, from: session.pointee.version, to: .v1_2)
            message.carriesDestination = true
        }
        if !replyTo.isNone {
            writer.write("reply-to:")
            let name = nameOf(replyTo)
            writer.writeEscaped(name.baseAddress!, name.count, version: .v1_2)
            writer.write(UInt8(ascii: "\n"))
        }
        for i in 0..<frame.fieldCount {
            let field = frame.field(i)
            if mask & (1 << UInt64(field.known.rawValue)) != 0 { continue }
            if !replyTo.isNone, field.known == .replyTo { continue }
            writer.writeTranscoded(field, of: frame, from: session.pointee.version, to: .v1_2)
        }
        message.isPlain = frame.isPlain && replyTo.isNone
        message.headers = UnsafeRawPointer(scratch.headers)
        message.headersByteCount = writer.cursor - scratch.headers
        return message
    }

    /// `expires` (epoch ms), `expiration` and `ttl` (ms from now) as epoch ms; 0: never. nil: ERROR.
    mutating func expiryOfFrame(_ session: UnsafeMutablePointer<Session>) -> UInt64? {
        for name: HeaderName in [.expires, .expiration, .ttl] {
            guard let value = number(session, name, default: 0, "Bad expiry") else { return nil }
            if value == 0 { continue }  // 0 means "never" to clients that always send the header
            return name == .expires ? value : wallMilliseconds &+ value
        }
        return 0
    }

    // MARK: SUBSCRIBE and UNSUBSCRIBE

    /// The subscription's id: `id`, or in 1.0 the destination as it was written. MESSAGE repeats only the former.
    private mutating func subscriptionId(_ session: UnsafeMutablePointer<Session>) -> UnsafeRawBufferPointer? {
        if let id = frame.value(.id, into: scratch.value, version: session.pointee.version) { return id }
        guard session.pointee.version == .v1_0 else { return nil }
        return frame.rawValue(.destination)
    }

    private mutating func subscribe(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        recordAllowance -= 1
        guard frame.has(.destination) else {
            failFrame(session, "Missing destination", "SUBSCRIBE needs a destination header")
            return .done
        }
        if isDraining {
            failFrame(session, "Shutting down", "the broker is shutting down")
            return .done
        }
        guard let id = subscriptionId(session) else {
            failFrame(session, "Missing header", "SUBSCRIBE needs an id header in STOMP 1.1 and 1.2")
            return .done
        }
        if frame.has(.id), id.count > limits.subscriptionIdByteCountMax {
            counters.limits.count(.subscriptionIdBytes)
            failFrame(
                session, "Subscription id too long",
                "an id may be \(limits.subscriptionIdByteCountMax) bytes long (limits.subscription-id-bytes)")
            return .done
        }
        if !findSubscription(session, id).isNone {
            failFrame(
                session, "Duplicated subscription identifier", "this connection already has a subscription with that id"
            )
            return .done
        }
        if Int(session.pointee.subscriptionCount) >= limits.subscriptionsPerConnectionMax {
            counters.limits.count(.subscriptionsPerConnection)
            failFrame(
                session, "Too many subscriptions",
                "a connection may have \(limits.subscriptionsPerConnectionMax) subscriptions "
                    + "(limits.subscriptions-per-connection-max)")
            return .done
        }
        var ackMode = AckMode.auto
        if let text = frame.value(.ack, into: scratch.key, version: session.pointee.version) {
            if equals(text, "auto") {
                ackMode = .auto
            } else if equals(text, "client") {
                ackMode = .client
            } else if equals(text, "client-individual") {
                ackMode = .clientIndividual
            } else {
                failFrame(
                    session, "Invalid ack mode",
                    "ack must be auto, client or client-individual, not '\(printable(text))'")
                return .done
            }
        }
        // To ignore these would be to deliver what was not asked for, or to lose what was to be kept.
        if frame.has(.selector) || frame.has(.filter) {
            failFrame(session, "Selectors are not supported", "remove the selector or filter header")
            return .done
        }
        guard let browses = boolean(session, .browser) else { return .done }
        if browses {
            failFrame(session, "Browsing is not supported", "without the browser header the messages would be consumed")
            return .done
        }
        guard let isDurable = asksForDurability(session), asksForSupportedQueue(session),
            let window = windowOfFrame(session)
        else { return .done }
        let raw = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
        let index = destinationForSubscribe(session, raw)
        if index.isNone { return .done }
        if isDurable, [.topic, .pattern].contains(destinations[index].pointee.kind) {
            updateIdle(index)
            failFrame(
                session, "Durable subscriptions are not supported",
                "remove the headers durable and persistent and the subscription's name, or use a queue")
            return .done
        }
        guard asksForSupportedLimits(session, of: index) else { return .done }
        return subscribe(session, to: index, id: id, ackMode: ackMode, window: window)
    }

    private mutating func unsubscribe(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        recordAllowance -= 1
        guard let id = subscriptionId(session) else {
            failFrame(
                session, "Missing header",
                session.pointee.version == .v1_0
                    ? "UNSUBSCRIBE needs the id or destination header of its SUBSCRIBE"
                    : "UNSUBSCRIBE needs the id header of its SUBSCRIBE")
            return .done
        }
        var index = findSubscription(session, id)
        if index.isNone, session.pointee.version == .v1_0, !frame.has(.id) {
            // 1.0 lets a subscription that has an id go by its destination too.
            index = subscriptions.find(session, to: destinationWithoutError(session, id))
        }
        if index.isNone {
            failFrame(session, "Subscription not found", "this connection has no subscription with that id")
            return .done
        }
        // What was published before leaves before the RECEIPT.
        flushGroups(of: session)
        unsubscribe(session, index)
        confirm(session)
        return .done
    }

    func equals(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        bytes.count == text.utf8CodeUnitCount
            && (bytes.count == 0 || memcmp(bytes.baseAddress!, text.utf8Start, bytes.count) == 0)
    }

    /// The session's subscription with this id; none where there is none.
    func findSubscription(
        _ session: UnsafeMutablePointer<Session>, _ id: UnsafeRawBufferPointer
    ) -> Index<Subscription> {
        subscriptions.find(session, id, groups, memory)
    }
}
