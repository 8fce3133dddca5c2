import Glibc
import IO
import STOMP
import Slabs

enum LetterKind: UInt8, BitwiseCopyable {
    case interestAdd, interestAnswer, interestRemove
    case publish
    case send, sendRefused
    case queueRequest
    case consumerAdd, consumerAnswer, consumerRemove, consumerPause
    case deliver, settle
    case barrier, barrierAnswer
    case reserve, reserveWaits, reserveAnswer, reserveCancel, unreserve
}

/// What one shard tells another: 40 bytes, then `payloadByteCount` bytes padded to 8. Letters from one shard to another
/// arrive in the order they were written.
struct Letter: BitwiseCopyable {
    var kind: LetterKind
    var flag: Bool
    var code: UInt16
    var payloadByteCount: UInt32
    var a: Slot
    var b: Slot
    var value: UInt64
    var extra: UInt64

    init(
        _ kind: LetterKind, flag: Bool = false, code: UInt16 = 0, a: Slot = .none, b: Slot = .none, value: UInt64 = 0,
        extra: UInt64 = 0
    ) {
        self.kind = kind
        self.flag = flag
        self.code = code
        payloadByteCount = 0
        self.a = a
        self.b = b
        self.value = value
        self.extra = extra
    }

    static var byteCount: Int { 40 }
    static func stride(_ payloadByteCount: Int) -> Int { byteCount + (payloadByteCount + 7) & ~7 }
}

/// Heads the payload of a letter that carries a message; name, receipt, headers and body follow.
private struct MessageHead: BitwiseCopyable {
    var nameByteCount: UInt32
    var receiptByteCount: UInt32
    var headersByteCount: UInt32
    var bodyByteCount: UInt32
    var expiresAt: UInt64
    var identity: UInt64
    var isPlain: Bool
    var carriesDestination: Bool

    static var byteCount: Int { 40 }
}

// Letters to and from other workers. A turn's letters to one worker travel together in a parcel, with one wake-up.
extension Shard {
    private static let parcelByteCount = 16 * 1024

    // MARK: Writing

    /// Appends a letter for `peer`; returns where its payload goes.
    @discardableResult
    private mutating func write(_ letter: Letter, to peer: Int, payloadByteCount: Int = 0) -> UnsafeMutableRawPointer {
        invariant(peer != index && peer < shardCount, "letters go to other workers")
        let needed = Letter.stride(payloadByteCount)
        if let parcel = outbox.parcels[peer], Int(parcel.pointee.capacity - parcel.pointee.byteCount) < needed {
            post(parcel, to: peer)
        }
        if outbox.parcels[peer] == nil {
            let parcel = Parcels.allocate(capacity: max(needed, Self.parcelByteCount))
            parcel.pointee.sender = UInt32(index)
            outbox.parcels[peer] = parcel
        }
        let parcel = outbox.parcels[peer]!
        let place = Parcels.bytes(of: parcel) + Int(parcel.pointee.byteCount)
        var letter = letter
        letter.payloadByteCount = UInt32(payloadByteCount)
        place.storeBytes(of: letter, as: Letter.self)
        parcel.pointee.byteCount += UInt32(needed)
        parcel.pointee.letterCount += 1
        counters.lettersSent &+= 1
        return place + Letter.byteCount
    }

    private mutating func write(_ letter: Letter, to peer: Int, name: UnsafeRawBufferPointer) {
        let place = write(letter, to: peer, payloadByteCount: name.count)
        memcpy(place, name.baseAddress!, name.count)
    }

    private mutating func write(
        _ letter: Letter, to peer: Int, name: UnsafeRawBufferPointer, _ message: Message,
        receipt: UnsafeRawBufferPointer?
    ) {
        let receiptByteCount = receipt?.count ?? 0
        let total =
            MessageHead.byteCount + name.count + receiptByteCount + message.headersByteCount + message.bodyByteCount
        var place = write(letter, to: peer, payloadByteCount: total)
        place.storeBytes(
            of: MessageHead(
                nameByteCount: UInt32(name.count), receiptByteCount: UInt32(receiptByteCount),
                headersByteCount: UInt32(message.headersByteCount), bodyByteCount: UInt32(message.bodyByteCount),
                expiresAt: message.expiresAt, identity: message.identity, isPlain: message.isPlain,
                carriesDestination: message.carriesDestination),
            as: MessageHead.self)
        place += MessageHead.byteCount
        if name.count > 0 { memcpy(place, name.baseAddress!, name.count) }
        place += name.count
        if let receipt, receipt.count > 0 { memcpy(place, receipt.baseAddress!, receipt.count) }
        place += receiptByteCount
        memcpy(place, message.headers, message.headersByteCount)
        memcpy(place + message.headersByteCount, message.body, message.bodyByteCount)
    }

    /// End of turn: posts what was written, one wake-up for each worker that may sleep.
    mutating func postParcels() {
        if shardCount == 1 { return }
        for peer in 0..<shardCount {
            if let parcel = outbox.parcels[peer] { post(parcel, to: peer) }
            if outbox.wakesDue[peer] {
                outbox.wakesDue[peer] = false
                submissions.append(Submission(.wake, peer: UInt16(peer)))
            }
        }
    }

    private mutating func post(_ parcel: Parcel, to peer: Int) {
        if isDraining { fabric.report(shard: index, lettersSent: counters.lettersSent) }
        outbox.parcels[peer] = nil
        if fabric.mailbox(peer).post(parcel) { outbox.wakesDue[peer] = true }
    }

    private mutating func markRemote(_ session: UnsafeMutablePointer<Session>, _ peer: Int) {
        if session.pointee.remoteSet.isNone {
            let index: Index<RemoteSet> = remoteSets.allocate().index
            invariant(!index.isNone, "there are as many remote sets as sessions")
            session.pointee.remoteSet = index
        }
        let set = remoteSets[session.pointee.remoteSet]
        if peer < 64 { set.pointee.low |= 1 << UInt64(peer) } else { set.pointee.high |= 1 << UInt64(peer - 64) }
    }

    mutating func sendBarrier(to peer: Int, _ pending: Index<PendingOperation>) {
        write(Letter(.barrier, b: pendings.handle(pending).slot), to: peer)
    }

    mutating func announceInterest(_ index: Index<Destination>) {
        let destination = destinations[index]
        let letter = Letter(
            .interestAdd, flag: destination.pointee.kind == .pattern, a: destinations.handle(index).slot,
            value: UInt64(destination.pointee.interestEpoch))
        for peer in 0..<shardCount where peer != self.index { write(letter, to: peer, name: nameOf(index)) }
    }

    mutating func announceWithdrawal(_ index: Index<Destination>) {
        for peer in 0..<shardCount where peer != self.index {
            write(Letter(.interestRemove), to: peer, name: nameOf(index))
        }
    }

    mutating func publishElsewhere(_ index: Index<Destination>, _ message: Message) -> Bool {
        let mask = peerMask(index)
        if mask.low | mask.high == 0 { return false }
        forEachPeer(low: mask.low, high: mask.high) { shard, peer in
            shard.write(Letter(.publish), to: peer, name: shard.nameOf(index), message, receipt: nil)
        }
        return true
    }

    mutating func sendToOwner(_ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, _ message: Message)
    {
        let owner = Int(destinations[index].pointee.owner)
        var isReserved = isApplyingCommit
        var byteCount = UInt32(frame.reservedByteCount)
        if !isApplyingCommit, session.pointee.flags.contains(.hasReservation) {
            let pending = reservation(session)
            isReserved = !pendings[pending].pointee.queue.isNone
            byteCount = pendings[pending].pointee.byteCount
            session.pointee.flags.remove(.hasReservation)
            unlinkPending(session, pending)
        }
        write(
            Letter(
                .send, flag: isReserved, a: session.pointee.slot, value: UInt64(byteCount),
                extra: UInt64(addressOfHolder(session))),
            to: owner, name: nameOf(index), message, receipt: receiptOfFrame(session))
        markRemote(session, owner)
    }

    mutating func forwardDeadLetter(_ index: Index<Destination>, _ message: Message) {
        write(
            Letter(.send), to: Int(destinations[index].pointee.owner), name: nameOf(index), message, receipt: nil)
    }

    mutating func subscribeAtOwner(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, _ subscription: Index<Subscription>
    ) {
        guard let pending = makePending(session, .subscribe, receipt: frame.rawValue(.receipt)) else { return }
        pendings[pending].pointee.subscription = subscription
        suspend(session)
        let window = subscriptions[subscription].pointee.window
        write(
            Letter(
                .consumerAdd, flag: session.pointee.flags.contains(.consumersPaused),
                a: subscriptions.handle(subscription).slot, b: pendings.handle(pending).slot,
                value: UInt64(window.messageCount), extra: UInt64(window.byteCount)),
            to: Int(destinations[index].pointee.owner), name: nameOf(index))
    }

    /// The RECEIPT of an UNSUBSCRIBE says that what the consumer held has returned.
    mutating func removeConsumerAtOwner(
        _ owner: Int, _ consumer: Handle<Consumer>, _ held: HeldMessages, for session: UnsafeMutablePointer<Session>?
    ) {
        write(
            Letter(.consumerRemove, a: held.newest.slot, b: consumer.slot, value: held.failed.slot.packed), to: owner)
        if let session { markRemote(session, owner) }
    }

    mutating func pauseAtOwner(_ owner: Int, _ consumer: Handle<Consumer>, _ isPaused: Bool) {
        write(Letter(.consumerPause, flag: isPaused, b: consumer.slot), to: owner)
    }

    mutating func settleAtOwner(
        _ owner: Int, _ entry: Handle<Entry>, consumer: Handle<Consumer>, _ settlement: Settlement,
        for session: UnsafeMutablePointer<Session>?
    ) {
        write(Letter(.settle, code: UInt16(settlement.rawValue), a: entry.slot, b: consumer.slot), to: owner)
        if let session { markRemote(session, owner) }
    }

    mutating func deliverElsewhere(_ entryIndex: Index<Entry>, _ consumerIndex: Index<Consumer>) {
        let entry = entries[entryIndex]
        let consumer = consumers[consumerIndex]
        write(
            Letter(
                .deliver, a: consumer.pointee.subscription.slot, b: entries.handle(entryIndex).slot,
                value: entry.pointee.isRedelivered ? UInt64(entry.pointee.deliveryCount) : 0),
            to: Int(consumer.pointee.shard), name: .init(start: nil, count: 0),
            stored(entry.pointee.message, identity: entry.pointee.identity, expiresAt: entry.pointee.expiresAt),
            receipt: nil)
    }

    /// What a client asks of a queue, should its use of it be the first. The use itself follows.
    mutating func requestAtOwner(_ index: Index<Destination>, _ request: QueueRequest) {
        let name = nameOf(index)
        let deadLetterByteCount = Int(request.deadLetterByteCount)
        let place = write(
            Letter(.queueRequest), to: Int(destinations[index].pointee.owner),
            payloadByteCount: QueueRequest.byteCount + name.count + deadLetterByteCount)
        place.storeBytes(of: request, as: QueueRequest.self)
        memcpy(place + QueueRequest.byteCount, scratch.key, deadLetterByteCount)
        memcpy(place + QueueRequest.byteCount + deadLetterByteCount, name.baseAddress!, name.count)
    }

    private mutating func queueRequested(_ payload: UnsafeRawBufferPointer) {
        let request = payload.load(as: QueueRequest.self)
        let deadLetter = payload.baseAddress! + QueueRequest.byteCount
        let name = UnsafeRawBufferPointer(
            rebasing: payload[(QueueRequest.byteCount + Int(request.deadLetterByteCount))...])
        // Where there is no room for another, what follows is told so.
        guard findDestination(name).isNone, makeRoomForQueue() else { return }
        let index = makeQueue(name, isTemporary: false)
        if !index.isNone { tighten(destinations[index].pointee.queue, request, deadLetter: deadLetter) }
    }

    /// Room for one message of a COMMIT. `place` is where the frame is kept (`KeptCursor.frame`).
    mutating func reserveAtOwner(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, _ pending: Index<PendingOperation>,
        frame place: UInt64
    ) {
        write(
            Letter(
                .reserve, a: session.pointee.slot, b: pendings.handle(pending).slot,
                value: reservedRoom(session), extra: place),
            to: Int(destinations[index].pointee.owner), name: nameOf(index))
    }

    /// A SEND to a queue whose policy is to make publishers wait: it is parsed again when it has room.
    mutating func reserveForSend(_ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>) -> FrameOutcome
    {
        guard let pending = makePending(session, .send, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings[pending].pointee.peer = destinations[index].pointee.owner
        pendings[pending].pointee.byteCount = UInt32(frame.reservedByteCount)
        suspend(session)
        write(
            Letter(
                .reserve, flag: true, a: session.pointee.slot, b: pendings.handle(pending).slot,
                value: reservedRoom(session)),
            to: Int(destinations[index].pointee.owner), name: nameOf(index))
        return .retry
    }

    /// What the SEND under the parser needs, and in the upper half the address of who sends it.
    private func reservedRoom(_ session: UnsafeMutablePointer<Session>) -> UInt64 {
        UInt64(addressOfHolder(session)) << 32 | UInt64(UInt32(frame.reservedByteCount))
    }

    /// The publisher has gone. Its request waits with the owner, or the answer is on its way and will find nobody.
    mutating func cancelReservation(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        guard !pending.counterpart.isNone else { return }
        write(Letter(.reserveCancel, b: pending.counterpart.slot), to: Int(pending.peer))
    }

    mutating func unreserveAtOwner(_ owner: Int, _ queue: Handle<Queue>, byteCount: UInt32) {
        write(Letter(.unreserve, a: queue.slot, value: UInt64(byteCount)), to: owner)
    }

    /// Answers another worker's request for room: granted where the queue is there, and else to be sent and dropped.
    mutating func answerReservation(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        write(
            Letter(
                .reserveAnswer, a: pending.queue.slot, b: pending.counterpart.slot,
                value: UInt64(pending.byteCount)),
            to: Int(pending.peer))
    }

    // MARK: Reading

    mutating func readLetters() {
        if shardCount == 1 { return }
        var next = fabric.mailbox(index).takeAll()
        while let parcel = next {
            next = parcel.pointee.next
            let sender = Int(parcel.pointee.sender)
            let bytes = UnsafeRawPointer(Parcels.bytes(of: parcel))
            var offset = 0
            while offset < Int(parcel.pointee.byteCount) {
                let letter = bytes.load(fromByteOffset: offset, as: Letter.self)
                let payload = bytes + offset + Letter.byteCount
                counters.lettersReceived &+= 1
                apply(letter, payload, from: sender)
                offset += Letter.stride(Int(letter.payloadByteCount))
            }
            Parcels.free(parcel)
        }
    }

    private mutating func apply(_ letter: Letter, _ payload: UnsafeRawPointer, from peer: Int) {
        let name = UnsafeRawBufferPointer(start: payload, count: Int(letter.payloadByteCount))
        switch letter.kind {
        case .interestAdd: addRemoteInterest(letter, name, from: peer)
        case .interestAnswer:
            interestAnswered(
                Handle(letter.a), epoch: UInt32(truncatingIfNeeded: letter.value), isRefused: letter.flag)
        case .interestRemove: removeRemoteInterest(name, from: peer)
        case .publish: publishFromElsewhere(payload)
        case .send: sendFromElsewhere(letter, payload, from: peer)
        case .sendRefused: sendRefused(letter, name)
        case .queueRequest: queueRequested(name)
        case .consumerAdd: addRemoteConsumer(letter, name, from: peer)
        case .consumerAnswer: consumerAnswered(letter, from: peer)
        case .consumerRemove:
            let consumer = Handle<Consumer>(letter.b)
            guard consumers.isLive(consumer) else { return }
            removeConsumer(
                consumer.index, HeldMessages(failed: Handle(Slot(packed: letter.value)), newest: Handle(letter.a)))
        case .consumerPause:
            let consumer = Handle<Consumer>(letter.b)
            guard consumers.isLive(consumer) else { return }
            if letter.flag { pause(consumer.index) } else { unpause(consumer.index) }
        case .deliver:
            deliver(
                message(payload).message, to: Handle(letter.a), entry: Handle(letter.b),
                deliveryCount: UInt16(clamping: letter.value), block: 0)
        case .settle:
            settle(Handle(letter.a), consumer: Handle(letter.b), Settlement(rawValue: UInt8(letter.code))!)
        case .barrier: write(Letter(.barrierAnswer, b: letter.b), to: peer)
        case .barrierAnswer: barrierAnswered(Handle(letter.b))
        case .reserve: reserveForElsewhere(letter, name, from: peer)
        case .reserveAnswer: reserveAnswered(letter, from: peer)
        case .reserveWaits: reservationWaits(letter, from: peer)
        case .reserveCancel: cancelRemoteReservation(Handle(letter.b))
        case .unreserve:
            returnRoom(Handle(letter.a), byteCount: letter.value)
            roomIsFree(Handle(letter.a))
        }
    }

    private func message(
        _ payload: UnsafeRawPointer
    ) -> (name: UnsafeRawBufferPointer, receipt: UnsafeRawBufferPointer, message: Message) {
        let head = payload.load(as: MessageHead.self)
        let name = payload + MessageHead.byteCount
        let receipt = name + Int(head.nameByteCount)
        let headers = receipt + Int(head.receiptByteCount)
        return (
            UnsafeRawBufferPointer(start: name, count: Int(head.nameByteCount)),
            UnsafeRawBufferPointer(start: receipt, count: Int(head.receiptByteCount)),
            Message(
                headers: headers, headersByteCount: Int(head.headersByteCount),
                body: headers + Int(head.headersByteCount), bodyByteCount: Int(head.bodyByteCount),
                isPlain: head.isPlain, carriesDestination: head.carriesDestination, identity: head.identity,
                expiresAt: head.expiresAt)
        )
    }

    // MARK: Topics

    private mutating func addRemoteInterest(_ letter: Letter, _ name: UnsafeRawBufferPointer, from peer: Int) {
        var index = findDestination(name)
        if index.isNone, makeRoomForMatches() { index = makeTopic(name, isPattern: letter.flag) }
        if !index.isNone {
            let destination = destinations[index]
            if peer < 64 {
                destination.pointee.remoteLow |= 1 << UInt64(peer)
            } else {
                destination.pointee.remoteHigh |= 1 << UInt64(peer - 64)
            }
            updateIdle(index)
        }
        write(Letter(.interestAnswer, flag: index.isNone, a: letter.a, value: letter.value), to: peer)
    }

    private mutating func removeRemoteInterest(_ name: UnsafeRawBufferPointer, from peer: Int) {
        let index = findDestination(name)
        if index.isNone { return }
        let destination = destinations[index]
        if peer < 64 {
            destination.pointee.remoteLow &= ~(1 << UInt64(peer))
        } else {
            destination.pointee.remoteHigh &= ~(1 << UInt64(peer - 64))
        }
        updateIdle(index)
    }

    private mutating func publishFromElsewhere(_ payload: UnsafeRawPointer) {
        let (name, _, message) = message(payload)
        var index = findDestination(name)
        if index.isNone {
            // Known here by a pattern only: the topic's record remembers which patterns match.
            if patterns.isEmpty { return }
            _ = makeRoomForOther(isUnused: true)
            _ = makeRoomForMatches()
            index = makeTopic(name, isPattern: false)
            guard !index.isNone else {
                counters.messagesDropped &+= 1
                return notice(.memoryLimit, "no memory for a message to \(printable(name)): it is dropped")
            }
        }
        _ = publishHere(index, message)
    }

    // MARK: Queues

    private mutating func sendFromElsewhere(_ letter: Letter, _ payload: UnsafeRawPointer, from peer: Int) {
        let (name, receipt, message) = message(payload)
        let index = queueForElsewhere(name)
        guard !index.isNone else {
            if begins(name, with: "/reply-queue/") {
                // Its connection is gone.
                counters.messagesDropped &+= 1
                return
            }
            return refuseSend(letter, receipt, refusalOfDestination(), to: peer)
        }
        if destinations[index].pointee.kind == .topic {
            counters.messagesUnrouted &+= 1
            return
        }
        let queueIndex = destinations[index].pointee.queue
        let queue = queues[queueIndex]
        let handle = queues.handle(queueIndex)
        if letter.flag { returnRoom(handle, byteCount: letter.value) }
        // A dead letter drives no other out: two queues could send each other theirs for ever.
        let isDeadLetter = letter.a.isNone
        let holder = QueueHolder(session: Handle(letter.a), address: UInt32(letter.extra), shard: UInt16(peer))
        if !isDeadLetter, destinations[index].pointee.isIdle, let refusal = holders.refusal(of: holder, limits) {
            return refuseSend(letter, receipt, refusal, to: peer)
        }
        if !isDeadLetter, queue.pointee.overflow == .dropOldest,
            !hasRoom(queueIndex, byteCount: message.contentByteCount)
        {
            dropOldest(queueIndex, byteCount: message.contentByteCount)
        }
        let wasEmpty = queue.pointee.messageCount == 0
        if enqueue(queueIndex, message) {
            if wasEmpty, !isDeadLetter { hold(handle, holder) }
        } else {
            let isFull = !hasRoom(queueIndex, byteCount: message.contentByteCount)
            refuseSend(letter, receipt, isFull ? .queue : .memory, to: peer)
        }
        // It may have taken less room than it was granted, or none where it had expired.
        if letter.flag { roomIsFree(handle) }
    }

    /// A queue of this worker by its canonical name, made on first use. None: no room.
    private mutating func queueForElsewhere(_ name: UnsafeRawBufferPointer) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        if begins(name, with: "/reply-queue/") { return .none }
        guard makeRoomForQueue() else { return .none }
        return makeQueue(name, isTemporary: false)
    }

    /// Why `queueForElsewhere` found no room.
    private mutating func refusalOfDestination() -> Refusal { makeRoomForQueue() ? .memory : .destinations }

    private mutating func refuseSend(
        _ letter: Letter, _ receipt: UnsafeRawBufferPointer, _ refusal: Refusal, to peer: Int
    ) {
        guard !letter.a.isNone else {
            counters.messagesDropped &+= 1
            return notice(.messagesDropped, "1 dead letter: its destination has no room")
        }
        counters.messagesRefused &+= 1
        write(Letter(.sendRefused, code: refusal.rawValue, a: letter.a), to: peer, name: receipt)
    }

    private mutating func sendRefused(_ letter: Letter, _ receipt: UnsafeRawBufferPointer) {
        guard let session = sessions.find(Handle(letter.a)) else { return }
        failRefused(session, Refusal(letter.code), receipt: receipt.count > 0 ? receipt : nil)
    }

    private mutating func addRemoteConsumer(_ letter: Letter, _ name: UnsafeRawBufferPointer, from peer: Int) {
        let index = queueForElsewhere(name)
        let refusal = index.isNone ? refusalOfDestination() : .memory
        var consumer = Handle<Consumer>.none
        if !index.isNone, !destinations[index].pointee.queue.isNone {
            var window = Window(limits)
            window.messageCount = UInt32(clamping: letter.value)
            window.byteCount = UInt32(clamping: letter.extra)
            consumer = addConsumer(
                destinations[index].pointee.queue, shard: peer, subscription: Handle(letter.a), window)
        }
        write(
            Letter(
                .consumerAnswer, flag: consumer.isNone, code: refusal.rawValue, a: letter.b, b: consumer.slot,
                value: letter.flag ? 1 : 0),
            to: peer)
        guard !consumer.isNone else { return }
        // A client that does not read what it has already gets no more by subscribing again.
        if letter.flag { pause(consumer.index) }
        dispatch(destinations[index].pointee.queue)
    }

    private mutating func consumerAnswered(_ letter: Letter, from peer: Int) {
        let handle = Handle<PendingOperation>(letter.a)
        guard let pending = pendings.find(handle) else {
            // The session has ended meanwhile.
            if !letter.flag { removeConsumerAtOwner(peer, Handle(letter.b), .nothing, for: nil) }
            return
        }
        if letter.flag {
            return failRefused(
                sessions[pending.pointee.session], Refusal(letter.code), receipt: receiptOfPending(handle.index))
        }
        finishSubscribe(handle.index, consumer: Handle(letter.b), isPaused: letter.value != 0)
    }

    // MARK: Reservations

    private mutating func reserveForElsewhere(_ letter: Letter, _ name: UnsafeRawBufferPointer, from peer: Int) {
        let index = queueForElsewhere(name)
        let queueIndex = index.isNone ? Index<Queue>.none : destinations[index].pointee.queue
        let byteCount = letter.value & UInt64(UInt32.max)
        var answer = Letter(
            .reserveAnswer, flag: true, code: Refusal.queue.rawValue, a: .none, b: letter.b, value: byteCount,
            extra: letter.extra)
        let holder = QueueHolder(session: Handle(letter.a), address: UInt32(letter.value >> 32), shard: UInt16(peer))
        if !queueIndex.isNone, destinations[index].pointee.isIdle,
            let refusal = holders.refusal(of: holder, limits)
        {
            answer.code = refusal.rawValue
        } else if !queueIndex.isNone {
            let queue = queues[queueIndex]
            if canReserve(queueIndex, byteCount: Int(byteCount)) {
                queue.pointee.messageCount += 1
                queue.pointee.byteCount += byteCount
                updateIdle(index)
                if queue.pointee.messageCount == 1 { hold(queues.handle(queueIndex), holder) }
                answer.a = queues.handle(queueIndex).slot
                answer.flag = false
            } else if letter.flag, queue.pointee.overflow == .block, byteCount <= queue.pointee.byteCountMax {
                let handle: Handle<PendingOperation> = pendings.allocate()
                if !handle.isNone {
                    let pending = pendings[handle.index]
                    pending.pointee.kind = .remoteReservation
                    pending.pointee.peer = UInt16(peer)
                    pending.pointee.counterpart = Handle(letter.b)
                    pending.pointee.queue = queues.handle(queueIndex)
                    pending.pointee.byteCount = UInt32(byteCount)
                    queue.pointee.blocked.append(handle.index, in: pendings)
                    write(Letter(.reserveWaits, a: handle.slot, b: letter.b), to: peer)
                    return
                }
            }
        } else if !index.isNone || begins(name, with: "/reply-queue/") {
            // The temporary queue is gone; what is sent to it is dropped when it comes.
            answer.flag = false
        } else {
            answer.code = refusalOfDestination().rawValue
        }
        write(answer, to: peer)
    }

    /// The publisher's worker hears that it has to wait, and where.
    private mutating func reservationWaits(_ letter: Letter, from peer: Int) {
        guard let pending = pendings.find(Handle(letter.b)) else {
            // It has left meanwhile.
            write(Letter(.reserveCancel, b: letter.a), to: peer)
            return
        }
        pending.pointee.counterpart = Handle(letter.a)
    }

    /// The publisher left before it was granted room. If it was, the answer finds nobody and the room comes back.
    private mutating func cancelRemoteReservation(_ handle: Handle<PendingOperation>) {
        guard let pending = pendings.find(handle) else { return }
        let queue = pending.pointee.queue
        if let record = queues.find(queue) { record.pointee.blocked.remove(handle.index, in: pendings) }
        pendings.free(handle.index)
        // Who waited behind it may need less.
        roomIsFree(queue)
    }

    private mutating func reserveAnswered(_ letter: Letter, from peer: Int) {
        let handle = Handle<PendingOperation>(letter.b)
        guard let pending = pendings.find(handle) else {
            if !letter.flag, !letter.a.isNone { write(Letter(.unreserve, a: letter.a, value: letter.value), to: peer) }
            return
        }
        let session = sessions[pending.pointee.session]
        if pending.pointee.kind == .send {
            if letter.flag {
                return failRefused(session, Refusal(letter.code), receipt: receiptOfPending(handle.index))
            }
            pending.pointee.queue = Handle(letter.a)
            return granted(handle.index)
        }
        if letter.flag {
            pending.pointee.refusal = letter.code
        } else if !letter.a.isNone {
            // Remembered with the frame, should another be refused.
            let kept = keptFrame(letter.extra)
            kept.pointee.reservedByteCount = UInt32(letter.value)
            kept.pointee.queue = Handle(letter.a)
            kept.pointee.owner = UInt16(peer)
        }
        pending.pointee.answersDue -= 1
        guard pending.pointee.answersDue == 0 else { return }
        if pending.pointee.refusal != 0 {
            return failRefused(
                session, Refusal(pending.pointee.refusal), "; none of the transaction was applied",
                receipt: receiptOfPending(handle.index))
        }
        applyCommit(session, handle.index)
        if session.pointee.state == .connected { resumeSoon(session) }
    }

    /// Gives back what was granted to the frames of a transaction.
    mutating func releaseElsewhere(_ index: Index<Transaction>) {
        var cursor = KeptCursor()
        while advance(&cursor, in: index) {
            let kept = keptFrame(cursor.frame).pointee
            if kept.reservedByteCount != 0 {
                unreserveAtOwner(Int(kept.owner), kept.queue, byteCount: kept.reservedByteCount)
            }
        }
    }
}
