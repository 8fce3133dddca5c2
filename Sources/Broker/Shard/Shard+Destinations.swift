import Glibc
import IO
import STOMP
import Slabs

// Destinations by name: found, created within limits, forgotten when nobody needs them.
extension Shard {
    @inline(__always)
    func nameOf(_ index: Index<Destination>) -> UnsafeRawBufferPointer { destinations.name(of: index, in: memory) }

    @inline(__always)
    func destinationText(_ index: Index<Destination>) -> String { nameText(nameOf(index)) }

    /// The text that makes a session's temporary names unique, and unguessable.
    @inline(__always)
    func ownerText(_ session: UnsafeMutablePointer<Session>) -> String {
        identity.text(of: session.pointee.handle, for: .temporaryNames)
    }

    /// The destination of that canonical name; none where there is none.
    @inline(__always)
    func findDestination(_ name: UnsafeRawBufferPointer) -> Index<Destination> {
        destinations.find(name: name)
    }

    /// The destination of the SEND under the parser. None: it was answered with ERROR.
    ///
    /// - Parameter kept: A temporary destination of this connection that must not make room for another.
    mutating func destinationForSend(
        _ context: FrameContext, _ raw: UnsafeRawBufferPointer,
        keeping kept: Index<Destination> = .none
    ) -> Index<Destination> {
        let session = context.session
        let name = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
        let index = destination(context, name, subscribes: false, keeping: kept)
        if index.isNone { return .none }
        switch destinations[index].pointee.kind {
        case .pattern:
            failFrame(context, "Invalid destination", "SEND needs a destination without wildcards")
            return .none
        case .queue, .remoteQueue: return asksForSupportedQueue(context) ? index : .none
        case .topic, .subscriptionQueue: return index
        }
    }

    /// The destination of the SUBSCRIBE under the parser. None: it was answered with ERROR.
    mutating func destinationForSubscribe(
        _ context: FrameContext, _ name: UnsafeRawBufferPointer
    ) -> Index<Destination> {
        destination(context, name, subscribes: true, keeping: .none)
    }

    /// The destination of that name where there is one; none otherwise.
    mutating func destinationWithoutError(
        _ session: UnsafeMutablePointer<Session>, _ written: UnsafeRawBufferPointer
    ) -> Index<Destination> {
        guard
            let parsed = try? DestinationName.parse(
                written, bareNamePrefix: options.bareNamePrefix, byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { ownerText(session) },
                host: hosts.prefix(of: session.pointee.index), into: scratch.name)
        else { return .none }
        return findDestination(UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount))
    }

    /// - Parameters:
    ///   - subscribes: it is the destination of a SUBSCRIBE.
    ///   - kept: as for `destinationForSend`.
    private mutating func destination(
        _ context: FrameContext, _ written: UnsafeRawBufferPointer, subscribes: Bool,
        keeping kept: Index<Destination>
    ) -> Index<Destination> {
        guard let parsed = parseDestination(context, written) else { return .none }
        let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
        switch parsed.kind {
        case .temporaryQueue, .temporaryTopic:
            return temporary(context, written, parsed.kind, keeping: kept)
        case .replyQueue, .replyTopic:
            if subscribes {
                failFrame(
                    context, "Access refused",
                    "only the connection that created a temporary destination may subscribe to it")
                return .none
            }
            return reply(context, name, parsed.kind)
        case .queuePattern:
            failFrame(
                context, "Invalid destination",
                "'\(printable(written))': wildcards are supported for topics, not for queues")
            return .none
        case .pattern where !subscribes:
            failFrame(context, "Invalid destination", "SEND needs a destination without wildcards")
            return .none
        case .topic, .pattern, .queue:
            return findOrCreate(context, name, parsed.kind, subscribes: subscribes)
        }
    }

    /// Brings a name to its canonical form, at `scratch.name`. nil: it was answered with ERROR.
    private mutating func parseDestination(
        _ context: FrameContext, _ written: UnsafeRawBufferPointer
    ) -> DestinationName? {
        do throws(DestinationNameError) {
            return try DestinationName.parse(
                written, bareNamePrefix: options.bareNamePrefix, byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { "" },
                host: hosts.prefix(of: context.session.pointee.index), into: scratch.name)
        } catch {
            switch error {
            case .invalid:
                if written.count > limits.destinationNameByteCountMax { counters.limits.count(.destinationName) }
                if options.bareNamePrefix.isEmpty, let first = written.first, first != UInt8(ascii: "/") {
                    failFrame(
                        context, "Invalid destination",
                        "'\(printable(written))' has no leading slash, and this broker takes no such names (bare-names): "
                            + "write /topic/NAME or /queue/NAME")
                    return nil
                }
                failFrame(
                    context, "Invalid destination",
                    "'\(printable(written))' must be a prefix such as /queue/ and a name: together at most "
                        + "\(limits.destinationNameByteCountMax) bytes of UTF-8, without control characters")
            case .tooManyLevels: failManyLevels(context, written)
            case .durableSubscription:
                failFrame(
                    context, "Invalid destination",
                    "'\(printable(written))' names a durable subscription; SUBSCRIBE to its topic, with the header "
                        + "durable:true or a subscription name")
            case .unknown:
                failFrame(
                    context, "Unknown destination",
                    "'\(printable(written))' must begin with /topic/, /queue/, /temp-topic/ or /temp-queue/")
            }
            return nil
        }
    }

    /// A topic, a pattern or a queue that is no temporary one. None: ERROR was sent.
    private mutating func findOrCreate(
        _ context: FrameContext, _ name: UnsafeRawBufferPointer, _ kind: DestinationClass,
        subscribes: Bool
    ) -> Index<Destination> {
        var index = findDestination(name)
        if subscribes, !index.isNone, destinations.isOneTooMany(index) {
            remove(index)
            index = .none
        }
        if gate.isOn,
            !admits(context, subscribes ? .subscribe : .publish, name, index, isPattern: kind == .pattern)
        {
            return .none
        }
        if kind != .queue {
            return !index.isNone ? index : create(context, name, kind, QueueRequest(), subscribes: subscribes)
        }
        guard let request = queueRequestOfFrame(context) else { return .none }
        if gate.isOn, request.asksForAnything, !admitsArguments(context, request, name) { return .none }
        if index.isNone { index = create(context, name, kind, request, subscribes: subscribes) }
        if !index.isNone, destinations[index].pointee.kind == .remoteQueue, frame.hasAny(QueueRequest.bits) {
            requestAtOwner(index, request)
        }
        return index
    }

    mutating func failManyLevels(_ context: FrameContext, _ written: UnsafeRawBufferPointer) {
        counters.limits.count(.destinationLevels)
        failFrame(
            context, "Invalid destination",
            "'\(printable(written))' has more than \(limits.destinationLevelCountMax) levels, separated by '.' or '/', "
                + "after its prefix (limits.destination-levels-max)")
    }

    /// A destination that is used for the first time, on behalf of a client.
    private mutating func create(
        _ context: FrameContext, _ name: UnsafeRawBufferPointer, _ kind: DestinationClass,
        _ request: QueueRequest, subscribes: Bool
    ) -> Index<Destination> {
        if !options.clientsCreateDestinations, policies.index(of: name) == 0 {
            failFrame(
                context, "Unknown destination",
                "'\(nameText(name))' is not configured, and clients may not create destinations")
            return .none
        }
        recordAllowance -= 1
        guard makeRoom(name, isQueue: kind == .queue, isUnused: !subscribes, mayExceed: context.isCommitting) else {
            failDestination(context, .destinations)
            return .none
        }
        guard kind != .pattern || destinations.patternCount < limits.patternCountMax else {
            counters.limits.count(.patterns)
            failFrame(
                context, "Too many patterns",
                "a worker may know \(limits.patternCountMax) patterns (limits.patterns-max); use fewer and wider ones")
            return .none
        }
        guard kind == .queue || makeRoomForMatches() else {
            counters.limits.count(.patterns)
            failFrame(
                context, "Too many patterns",
                "patterns match topics \(destinations.matchCount) times, and the limit is \(Limits.matchesPerDestinationMax) for "
                    + "each of limits.destinations-max; use fewer and narrower patterns")
            return .none
        }
        let index = kind == .queue ? makeQueue(name, isTemporary: false) : makeTopic(name, isPattern: kind == .pattern)
        if !index.isNone, !destinations[index].pointee.queue.isNone {
            queues.tighten(destinations[index].pointee.queue, request, deadLetter: scratch.key, &memory)
            if store.isEnabled { keepArguments(of: destinations[index].pointee.queue, request) }
        }
        if index.isNone { failFrame(context, "Out of memory", "the broker has reached its memory limit") }
        return index
    }

    // MARK: Making and removing

    /// A topic or a pattern. None: no memory.
    mutating func makeTopic(_ name: UnsafeRawBufferPointer, isPattern: Bool) -> Index<Destination> {
        let made = destinations.makeTopic(name, isPattern: isPattern, memory: &memory)
        chargeForSteps(made.stepCount)
        if policies.hasLogs, !isPattern, !made.index.isNone { applyLogPolicy(made.index, name) }
        return made.index
    }

    /// A queue, or the stand-in of one that another worker holds. None: no memory.
    mutating func makeQueue(_ name: UnsafeRawBufferPointer, isTemporary: Bool) -> Index<Destination> {
        let owner = isTemporary ? index : destinations.owner(ofQueue: name)
        if owner != index {
            let policy = policies[UInt32(policies.index(of: name))]
            return destinations.makeRemoteQueue(
                name, owner: owner, blocks: policy.overflow == .block,
                storage: store.isEnabled ? policy.storage : .never, memory: &memory)
        }
        let destination = destinations.makeQueue(name, memory: &memory)
        if destination.isNone { return .none }
        guard attachQueue(to: destination, isNamed: !isTemporary) else {
            destinations.remove(destination, memory: &memory)
            return .none
        }
        if !isTemporary { updateIdle(destination) }
        return destination
    }

    /// Removes a destination that nobody needs, with its queue.
    mutating func remove(_ index: Index<Destination>) {
        destinations.leaveIdle(index)
        let queue = destinations[index].pointee.queue
        if !queue.isNone { removeQueue(queue) }
        destinations.remove(index, memory: &memory)
    }
}
