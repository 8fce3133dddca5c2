import Journal
import STOMP
import Schedules
import Slabs

/// What the options of a SEND come to.
struct FrameOptions {
    var options = MessageOptions()
    /// When it is due. nil: at once, and never again.
    var schedule: Schedule?
    /// As it was sent. Empty: there is none.
    var cron = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Of a message that is delayed: from the time when it is due to the end of its life, in milliseconds; 0: it has none.
    var timeToLive: UInt64 = 0
    /// Of a message that is delayed: wall-clock milliseconds; 0: never.
    var expiresAt: UInt64 = 0
}

// What few SENDs ask for, in the headers of `HeaderName.sendOptions`: that the message waits for its time (`Shard+Delays`), and
// that it is taken once (`Shard+Deduplication`).
extension Shard {
    // MARK: The frame

    private mutating func scheduleHeader(_ name: UnsafeRawBufferPointer) -> ScheduleHeader? {
        var number: UInt8 = 0
        while let header = ScheduleHeader(rawValue: number) {
            if equals(name, header.text) { return header }
            number += 1
        }
        return nil
    }

    /// The field says when the message is due: it is not repeated in MESSAGE.
    mutating func isScheduleField(_ field: HeaderField) -> Bool { scheduleHeader(frame.rawName(of: field)) != nil }

    /// What the SEND under the parser asks for. nil: it was answered with ERROR.
    mutating func optionsOfFrame(_ context: FrameContext, for index: Index<Destination>) -> FrameOptions? {
        var found = FrameOptions()
        var request = ScheduleRequest()
        for i in 0..<frame.fieldCount {
            let field = frame.field(i)
            guard field.known == .sendOption else { continue }
            let value = frame.rawValue(of: field)
            guard let header = scheduleHeader(frame.rawName(of: field)) else {
                guard admitsID(context, value, for: index) else { return nil }
                found.options.insert(.isDeduplicated)
                continue
            }
            do throws(ScheduleError) { try request.take(header, value) } catch {
                let found = error.isComplete ? "" : ", not '\(printable(value))'"
                return failSchedule(context, error.explanation + found)
            }
        }
        guard !request.isEmpty else { return found }
        do throws(ScheduleError) {
            found.schedule = try request.schedule(
                now: wallMilliseconds, delayMax: UInt64(limits.delayMillisecondsMax))
        } catch { return failSchedule(context, error.explanation) }
        guard let schedule = found.schedule else { return found }
        found.options.insert(.isDelayed)
        found.cron = request.cronText
        return addLife(context, schedule, &found) ? found : nil
    }

    private mutating func failSchedule(_ context: FrameContext, _ explanation: String) -> FrameOptions? {
        failFrame(context, "Bad schedule", explanation)
        return nil
    }

    private mutating func admitsID(
        _ context: FrameContext, _ value: UnsafeRawBufferPointer, for index: Index<Destination>
    ) -> Bool {
        if destinations[index].pointee.kind == .topic {
            failFrame(
                context, "Unsupported header",
                "x-deduplication-id is not supported for topics: only queues remember which messages they took")
            return false
        }
        guard 1...DeduplicationTable.valueByteCountMax ~= value.count else {
            failFrame(
                context, "Invalid header",
                "x-deduplication-id must have from 1 to \(DeduplicationTable.valueByteCountMax) bytes, not \(value.count)"
            )
            return false
        }
        return true
    }

    /// `expires` is a time as ever; `ttl` and `expiration` begin when the message is due.
    private mutating func addLife(
        _ context: FrameContext, _ schedule: Schedule, _ found: inout FrameOptions
    ) -> Bool {
        guard let expires = number(context, .expires, default: 0, "Bad expiry"),
            let expiration = number(context, .expiration, default: 0, "Bad expiry"),
            let timeToLive = number(context, .ttl, default: 0, "Bad expiry")
        else { return false }
        found.expiresAt = expires
        if expires == 0 { found.timeToLive = expiration != 0 ? expiration : timeToLive }
        // What COMMIT applies was looked at when it came.
        guard expires != 0, expires <= schedule.dueAt, !context.isCommitting else { return true }
        failFrame(
            context, "Bad schedule",
            "the message expires at \(expires), before it is due at \(schedule.dueAt) (milliseconds since 1970)")
        return false
    }

    /// Makes the SEND under the parser a message with its options. False: it was answered with ERROR.
    mutating func addOptions(_ message: inout Message, _ context: FrameContext, _ target: SendTarget) -> Bool {
        guard let found = optionsOfFrame(context, for: target.destination) else { return false }
        message.options = found.options
        var lineByteCount = 0
        if let schedule = found.schedule {
            message.expiresAt = found.expiresAt
            let line = ScheduleLine(
                schedule, acceptedAt: wallMilliseconds, timeToLive: found.timeToLive, cron: found.cron,
                destination: nameOf(target.destination))
            lineByteCount = line.write(to: scratch.headers)
        }
        transcodeHeaders(&message, target, from: context.session.pointee.version, behind: lineByteCount)
        return true
    }

    // MARK: Taken or not

    /// Why a message is not taken for what it asks for. nil: it is.
    private mutating func refusalOfOptions(_ message: Message, of destination: UnsafeRawBufferPointer) -> Refusal? {
        refusalOfOptions(SendNeeds(message.options), message.contentByteCount, of: destination)
    }

    mutating func refusalOfOptions(
        _ needs: SendNeeds, _ byteCount: Int, of destination: UnsafeRawBufferPointer
    ) -> Refusal? {
        if needs.contains(.isDelayed), delays.isFull(byteCount) { return .delayedMessages }
        if needs.contains(.isDeduplicated), !deduplication.hasRoom(of: destination) { return .deduplicationIDs }
        return nil
    }

    /// The SEND under the parser has options, and is for a queue of this worker. nil: it goes on as any other.
    mutating func settleOptions(_ context: FrameContext, _ target: SendTarget, _ index: Index<Queue>) -> FrameOutcome? {
        guard let message = messageOfFrame(context, for: target) else { return .done }
        let name = nameOf(target.destination)
        if isDuplicate(message, of: name) {
            if stores(index, isPersistent: message.isPersistent) { context.session.pointee.flags.insert(.hasStored) }
            return didSend(context)
        }
        guard !context.isCommitting, let refusal = refusalOfOptions(message, of: name) else { return nil }
        counters.messagesRefused &+= 1
        failDestination(context, refusal)
        return .done
    }

    /// The same of another worker's client; or the message is for a topic, and waits here. True: there is no more to do.
    mutating func settleOptions(_ publication: QueuePublication, _ payload: MessagePayload, from peer: Int) -> Bool {
        let message = payload.message
        if message.options.contains(.isDelayed), isTopic(payload.name) {
            if let refusal = refusalToHold(publication, payload) {
                refuseSend(publication, payload.receipt, refusal, to: peer)
            }
            return true
        }
        if isDuplicate(message, of: payload.name) {
            if queues.isLive(publication.room) {
                returnRoom(publication.room, byteCount: UInt64(publication.byteCount))
                roomIsFree(publication.room)
            }
            return true
        }
        guard !publication.isReserved, let refusal = refusalOfOptions(message, of: payload.name) else { return false }
        refuseSend(publication, payload.receipt, refusal, to: peer)
        return true
    }

    /// Holds a message for a topic that another worker's client has sent. nil: it is held.
    private mutating func refusalToHold(_ publication: QueuePublication, _ payload: MessagePayload) -> Refusal? {
        let message = payload.message
        if !publication.isReserved, let refusal = refusalOfOptions(message, of: payload.name) { return refusal }
        if storesDelayed(payload.name, isPersistent: message.isPersistent),
            let refusal = refusalToStore(publication, payload.name, byteCount: message.contentByteCount)
        {
            return refusal
        }
        return holdDelayed(message, for: .none) ? nil : .memory
    }

    /// Puts a message with options into its queue, or holds it until it is due. False: as for `enqueue`.
    mutating func takeWithOptions(_ index: Index<Queue>, _ message: Message) -> Bool {
        let isDeduplicated = message.options.contains(.isDeduplicated)
        if isDeduplicated, !remember(message, in: index) { return false }
        let wasTaken =
            message.options.contains(.isDelayed) ? holdDelayed(message, for: index) : enqueue(index, message)
        if !wasTaken, isDeduplicated { forget(message, in: index) }
        return wasTaken
    }

    // MARK: Topics

    /// The canonical name is a topic's.
    mutating func isTopic(_ name: UnsafeRawBufferPointer) -> Bool {
        begins(visible(name), with: "/topic/") || begins(visible(name), with: "/reply-topic/")
    }

    /// SEND with options to a topic. The message waits with the worker that would own a queue of that name.
    mutating func sendToTopicWithOptions(_ context: FrameContext, _ target: SendTarget) -> FrameOutcome {
        guard let message = messageOfFrame(context, for: target) else { return .done }
        guard message.options.contains(.isDelayed) else { return sendToTopic(context, target) }
        let name = nameOf(target.destination)
        let owner = destinations.owner(ofQueue: name)
        let isStored = storesDelayed(name, isPersistent: message.isPersistent)
        if !context.isCommitting {
            if memoryIsFull(context) { return waitForRoom(context) }
            if owner != index, fabric.isFull(owner) { return waitForRoom(context, owner: UInt16(owner)) }
            if owner != index, isStored, fabric.storeIsFull(owner) {
                return waitForRoom(context, owner: UInt16(owner), limit: .messageMemory)
            }
        }
        if owner != index {
            if isStored { context.session.pointee.flags.insert(.hasStoredElsewhere) }
            let publication = QueuePublication(
                sender: holder(context.session), byteCount: 0, room: .none, isReserved: context.isCommitting,
                isDeadLetter: false)
            peers.write(
                publication, to: owner, MessagePayload(name: name, receipt: receiptOfFrame(context), message))
            markRemote(context.session, owner)
            return didSend(context)
        }
        if isStored, let outcome = holdBackStored(context) { return outcome }
        let refusal = context.isCommitting ? nil : refusalOfOptions(message, of: name)
        guard refusal == nil, holdDelayed(message, for: .none) else {
            counters.messagesRefused &+= 1
            failDestination(context, refusal ?? .memory)
            return .done
        }
        return didSend(context)
    }

    /// The worker that stores the SEND under the parser though it is for a topic, because it is delayed, and 1. 0: none does.
    mutating func delayOwner(_ options: FrameOptions, _ index: Index<Destination>, isPersistent: Bool) -> UInt8 {
        let name = nameOf(index)
        guard options.schedule != nil, destinations[index].pointee.kind == .topic,
            storesDelayed(name, isPersistent: isPersistent)
        else { return 0 }
        return UInt8(destinations.owner(ofQueue: name) + 1)
    }
}
