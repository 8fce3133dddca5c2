import Glibc
import IO
import STOMP
import Slabs

// Destinations by name: found, created within limits, forgotten when nobody needs them.
extension Shard {
    func nameOf(_ index: Index<Destination>) -> UnsafeRawBufferPointer {
        let destination = destinations[index]
        if destination.pointee.name == 0 {
            return UnsafeRawBufferPointer(start: UnsafeRawPointer(scratch.name), count: 0)
        }
        return UnsafeRawBufferPointer(
            start: UnsafeRawPointer(memory.blocks.base(destination.pointee.name)),
            count: Int(destination.pointee.nameByteCount))
    }

    func destinationText(_ index: Index<Destination>) -> String { printable(nameOf(index)) }

    /// The text that makes a session's temporary names unique, and unguessable: whoever knows the name may send to it.
    func ownerText(_ session: UnsafeMutablePointer<Session>) -> String { identity(session, of: 0) }

    /// `SHARD-SLOT-GENERATION-KEYED`, the last part 16 hexadecimal digits that differ from one `purpose` to another.
    func identity(_ session: UnsafeMutablePointer<Session>, of purpose: UInt64) -> String {
        let slot = UInt64(session.pointee.generation) << 32 | UInt64(session.pointee.index.rawValue)
        let digits = String(options.identityKey(slot, purpose << 32 | UInt64(index)), radix: 16)
        let zeros = String(repeating: "0", count: 16 - digits.utf8.count)
        return "\(index)-\(session.pointee.index.rawValue)-\(session.pointee.generation)-\(zeros)\(digits)"
    }

    /// The destination of that canonical name; none where there is none.
    @inline(__always)
    func findDestination(_ name: UnsafeRawBufferPointer) -> Index<Destination> {
        Index(destinationTable.find(name.baseAddress!, name.count))
    }

    /// The destination of the SEND under the parser. None: it was answered with ERROR.
    ///
    /// - Parameter kept: A temporary destination of this connection that must not make room for another.
    mutating func destinationForSend(
        _ session: UnsafeMutablePointer<Session>, _ raw: UnsafeRawBufferPointer,
        keeping kept: Index<Destination> = .none
    ) -> Index<Destination> {
        let name = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
        let index = destination(session, name, subscribes: false, keeping: kept)
        if index.isNone { return .none }
        switch destinations[index].pointee.kind {
        case .pattern:
            failFrame(session, "Invalid destination", "SEND needs a destination without wildcards")
            return .none
        case .queue, .remoteQueue: return asksForSupportedQueue(session) ? index : .none
        case .topic, .subscriptionQueue: return index
        }
    }

    /// The destination of the SUBSCRIBE under the parser. None: it was answered with ERROR.
    mutating func destinationForSubscribe(
        _ session: UnsafeMutablePointer<Session>, _ name: UnsafeRawBufferPointer
    ) -> Index<Destination> {
        destination(session, name, subscribes: true, keeping: .none)
    }

    /// The destination of that name where there is one; none otherwise.
    mutating func destinationWithoutError(
        _ session: UnsafeMutablePointer<Session>, _ written: UnsafeRawBufferPointer
    ) -> Index<Destination> {
        guard
            let parsed = try? DestinationName.parse(
                written, bareNamePrefix: options.bareNamePrefix, byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { ownerText(session) }, into: scratch.name)
        else { return .none }
        return findDestination(UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount))
    }

    private mutating func destination(
        _ session: UnsafeMutablePointer<Session>, _ written: UnsafeRawBufferPointer, subscribes: Bool,
        keeping kept: Index<Destination>
    ) -> Index<Destination> {
        let parsed: DestinationName
        do throws(DestinationNameError) {
            parsed = try DestinationName.parse(
                written, bareNamePrefix: options.bareNamePrefix, byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { "" }, into: scratch.name)
        } catch {
            switch error {
            case .invalid:
                if written.count > limits.destinationNameByteCountMax { counters.limits.count(.destinationName) }
                failFrame(
                    session, "Invalid destination",
                    "'\(printable(written))' must be a prefix such as /queue/ and a name: together at most "
                        + "\(limits.destinationNameByteCountMax) bytes of UTF-8, without control characters")
            case .tooManyLevels: failManyLevels(session, written)
            case .durableSubscription:
                failFrame(
                    session, "Durable subscriptions are not supported",
                    "'\(printable(written))' names a durable subscription; use a queue")
            case .unknown:
                failFrame(
                    session, "Unknown destination",
                    "'\(printable(written))' must begin with /topic/, /queue/, /temp-topic/ or /temp-queue/")
            }
            return .none
        }
        switch parsed.kind {
        case .temporaryQueue, .temporaryTopic:
            return temporary(session, written, parsed.kind, keeping: kept)
        case .replyQueue, .replyTopic:
            let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
            if subscribes {
                failFrame(
                    session, "Access refused",
                    "only the connection that created a temporary destination may subscribe to it")
                return .none
            }
            return reply(session, name, parsed.kind)
        case .queuePattern:
            failFrame(
                session, "Invalid destination",
                "'\(printable(written))': wildcards are supported for topics, not for queues")
            return .none
        case .pattern where !subscribes:
            failFrame(session, "Invalid destination", "SEND needs a destination without wildcards")
            return .none
        case .topic, .pattern, .queue:
            let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
            var index = findDestination(name)
            if subscribes, !index.isNone, isOneTooMany(index) {
                remove(index)
                index = .none
            }
            if parsed.kind != .queue {
                return !index.isNone
                    ? index : create(session, name, parsed.kind, QueueRequest(), subscribes: subscribes)
            }
            guard let request = queueRequestOfFrame(session) else { return .none }
            if index.isNone { index = create(session, name, parsed.kind, request, subscribes: subscribes) }
            if !index.isNone, destinations[index].pointee.kind == .remoteQueue, frame.hasAny(QueueRequest.bits) {
                requestAtOwner(index, request)
            }
            return index
        }
    }

    private mutating func failManyLevels(_ session: UnsafeMutablePointer<Session>, _ written: UnsafeRawBufferPointer) {
        counters.limits.count(.destinationLevels)
        failFrame(
            session, "Invalid destination",
            "'\(printable(written))' has more than \(limits.destinationLevelCountMax) levels, separated by '.' or '/', "
                + "after its prefix (limits.destination-levels-max)")
    }

    /// A destination that is used for the first time, on behalf of a client.
    private mutating func create(
        _ session: UnsafeMutablePointer<Session>, _ name: UnsafeRawBufferPointer, _ kind: DestinationClass,
        _ request: QueueRequest, subscribes: Bool
    ) -> Index<Destination> {
        if !options.clientsCreateDestinations, policies.index(of: name) == 0 {
            failFrame(
                session, "Unknown destination",
                "'\(printable(name))' is not configured, and clients may not create destinations")
            return .none
        }
        recordAllowance -= 1
        guard makeRoom(name, isQueue: kind == .queue, isUnused: !subscribes) else {
            failDestination(session, .destinations)
            return .none
        }
        guard kind != .pattern || patternCount < limits.patternCountMax else {
            counters.limits.count(.patterns)
            failFrame(
                session, "Too many patterns",
                "a worker may know \(limits.patternCountMax) patterns (limits.patterns-max); use fewer and wider ones")
            return .none
        }
        guard kind == .queue || makeRoomForMatches() else {
            counters.limits.count(.patterns)
            failFrame(
                session, "Too many patterns",
                "patterns match topics \(matchCount) times, and the limit is \(Limits.matchesPerDestinationMax) for "
                    + "each of limits.destinations-max; use fewer and narrower patterns")
            return .none
        }
        let index = kind == .queue ? makeQueue(name, isTemporary: false) : makeTopic(name, isPattern: kind == .pattern)
        if !index.isNone, !destinations[index].pointee.queue.isNone {
            queues.tighten(destinations[index].pointee.queue, request, deadLetter: scratch.key, &memory)
        }
        if index.isNone { failFrame(session, "Out of memory", "the broker has reached its memory limit") }
        return index
    }

    // MARK: Making and removing

    private mutating func makeDestination(_ name: UnsafeRawBufferPointer, _ kind: DestinationKind) -> Index<Destination>
    {
        let created: Index<Destination> = destinations.allocate().index
        if created.isNone { return .none }
        let destination = destinations[created]
        destination.pointee.kind = kind
        destination.pointee.owner = UInt16(index)
        destination.pointee.nameByteCount = UInt16(name.count)
        if name.count > 0 {
            let block = memory.blocks.allocate(byteCount: name.count)
            guard block != 0 else {
                destinations.free(created)
                return .none
            }
            memcpy(memory.blocks.base(block), name.baseAddress!, name.count)
            destination.pointee.name = block
            destinationTable.insert(memory.blocks.base(block), name.count, value: created.rawValue)
        }
        return created
    }

    /// A topic or a pattern. It begins idle: the first subscription, here or elsewhere, makes it needed.
    mutating func makeTopic(_ name: UnsafeRawBufferPointer, isPattern: Bool) -> Index<Destination> {
        let index = makeDestination(name, isPattern ? .pattern : .topic)
        if index.isNone { return .none }
        let own = nameOf(index)
        var comparisonCount = 0
        var levelCount = 0
        var middle = Wildcard.Middle()
        if isPattern {
            patternCount += 1
            forEachTopic { shard, topic in
                comparisonCount += 1
                if Wildcard.matches(own, shard.nameOf(topic), &middle, levelCount: &levelCount) {
                    shard.match(pattern: index, topic: topic)
                }
            }
            patterns.prepend(index, in: destinations)
        } else {
            var pattern = patterns.first
            while !pattern.isNone {
                comparisonCount += 1
                middle.reset()
                if Wildcard.matches(nameOf(pattern), own, &middle, levelCount: &levelCount) {
                    match(pattern: pattern, topic: index)
                }
                pattern = PatternChain.next(after: pattern, in: destinations)
            }
            becomeIdle(index)
        }
        chargeForSteps(comparisonCount * Self.stepsPerComparison + levelCount / Self.levelsPerStep)
        return index
    }

    /// To compare a pattern with a topic means to fetch a record and its name.
    private static var stepsPerComparison: Int { 2 }
    /// So many of their levels are compared in the time of a step.
    private static var levelsPerStep: Int { 8 }

    /// A queue, or the stand-in of one that another worker holds.
    mutating func makeQueue(_ name: UnsafeRawBufferPointer, isTemporary: Bool) -> Index<Destination> {
        let owner = isTemporary ? index : ownerOfQueue(name)
        if owner != index {
            let destination = makeDestination(name, .remoteQueue)
            if destination.isNone { return .none }
            destinations[destination].pointee.owner = UInt16(owner)
            destinations[destination].pointee.blocks =
                policies[UInt32(policies.index(of: name))].overflow == .block
            becomeIdle(destination)
            return destination
        }
        let destination = makeDestination(name, .queue)
        if destination.isNone { return .none }
        guard attachQueue(to: destination) else {
            remove(destination)
            return .none
        }
        if !isTemporary { becomeIdle(destination) }
        return destination
    }

    /// Which worker holds a queue: the same for all workers, whatever their seeds.
    func ownerOfQueue(_ name: UnsafeRawBufferPointer) -> Int {
        if shardCount == 1 { return 0 }
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        hash ^= hash >> 32
        return Int(hash % UInt64(shardCount))
    }

    /// Each of the two remembers the other, and its own place in the other's list, so that they part in constant time.
    private mutating func match(pattern: Index<Destination>, topic: Index<Destination>) {
        matchCount += 1
        let placeInPattern = destinations[pattern].pointee.matches.count
        let placeInTopic = destinations[topic].pointee.matches.append(
            Match(destination: pattern, position: placeInPattern))
        _ = destinations[pattern].pointee.matches.append(Match(destination: topic, position: placeInTopic))
    }

    private mutating func unmatch(_ match: Match) {
        matchCount -= 1
        let other = destinations[match.destination]
        if let moved = other.pointee.matches.swapRemove(at: match.position) {
            destinations[moved.destination].pointee.matches[moved.position].position = match.position
        }
    }

    private mutating func forEachTopic(_ body: (inout Shard, Index<Destination>) -> Void) {
        for position in 0..<destinationTable.capacity {
            let candidate = Index<Destination>(destinationTable.entry(position))
            if !candidate.isNone, destinations[candidate].pointee.kind == .topic { body(&self, candidate) }
        }
    }

    /// Removes a destination that nobody needs.
    mutating func remove(_ index: Index<Destination>) {
        let destination = destinations[index]
        invariant(destination.pointee.groups.isEmpty, "a removed destination has no subscribers")
        if destination.pointee.isIdle { leaveIdle(index) }
        for i in 0..<destination.pointee.matches.count {
            unmatch(destination.pointee.matches[i])
        }
        destination.pointee.matches.deallocate()
        destination.pointee.bound.deallocate()
        if destination.pointee.kind == .pattern {
            patternCount -= 1
            patterns.remove(index, in: destinations)
        }
        if !destination.pointee.queue.isNone { removeQueue(destination.pointee.queue) }
        if destination.pointee.name != 0 {
            _ = destinationTable.remove(
                memory.blocks.base(destination.pointee.name), Int(destination.pointee.nameByteCount))
            memory.blocks.release(destination.pointee.name)
        }
        if destination.pointee.kind == .subscriptionQueue { subscriptionQueueCount -= 1 }
        destinations.free(index)
    }

    // MARK: Temporary destinations

    /// `/temp-queue/NAME` or `/temp-topic/NAME` of this connection, made on first use. None: ERROR was sent.
    ///
    /// - Parameter kept: Another one, which must not make room for it.
    mutating func temporary(
        _ session: UnsafeMutablePointer<Session>, _ written: UnsafeRawBufferPointer, _ kind: DestinationClass,
        keeping kept: Index<Destination> = .none
    ) -> Index<Destination> {
        let parsed = try! DestinationName.parse(
            written, bareNamePrefix: options.bareNamePrefix, byteCountMax: limits.destinationNameByteCountMax,
            levelCountMax: limits.destinationLevelCountMax, owner: { ownerText(session) }, into: scratch.name)
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
        guard makeRoomForTemporary(session, keeping: kept) else {
            counters.limits.count(.subscriptionsPerConnection)
            failFrame(
                session, "Too many destinations",
                "a connection may have \(limits.subscriptionsPerConnectionMax) temporary destinations with subscribers "
                    + "or messages (limits.subscriptions-per-connection-max)")
            return .none
        }
        guard !index.isNone || (kind == .temporaryQueue ? makeRoomForQueue() : makeRoomForOther(isUnused: false)) else {
            failDestination(session, .destinations)
            return .none
        }
        if index.isNone {
            index = kind == .temporaryQueue ? makeQueue(name, isTemporary: true) : makeTopic(name, isPattern: false)
        }
        if index.isNone {
            failFrame(session, "Out of memory", "the broker has reached its memory limit")
            return .none
        }
        if destinations[index].pointee.isIdle { leaveIdle(index) }
        destinations[index].pointee.isTemporary = true
        session.pointee.temporaries.push(index, in: destinations)
        return index
    }

    /// Whether the session may have another temporary destination. Where it has as many as it may, the oldest that is
    /// empty and that nobody subscribes to makes way, all but `kept`; its name stays the session's, to be used again.
    private mutating func makeRoomForTemporary(
        _ session: UnsafeMutablePointer<Session>, keeping kept: Index<Destination>
    ) -> Bool {
        var count = 0
        var index = session.pointee.temporaries.first
        while !index.isNone {
            count += 1
            index = TemporaryStack.next(after: index, in: destinations)
        }
        chargeForSteps(count)
        if count < limits.subscriptionsPerConnectionMax { return true }
        var unused = Index<Destination>.none
        index = session.pointee.temporaries.first
        while !index.isNone {
            if index != kept, !isInUse(index) { unused = index }
            index = TemporaryStack.next(after: index, in: destinations)
        }
        chargeForSteps(count)
        // Where COMMIT was checked with other ones in use than now, it goes beyond the limit: half a transaction would be
        // worse.
        if unused.isNone { return isApplyingCommit }
        _ = session.pointee.temporaries.remove(unused, in: destinations)
        letGoTemporary(unused)
        return true
    }

    /// A temporary destination as others address it. One whose connection is gone takes messages and drops them,
    /// counted: a service must not fail because its client did not wait for the answer.
    private mutating func reply(
        _ session: UnsafeMutablePointer<Session>, _ name: UnsafeRawBufferPointer, _ kind: DestinationClass
    ) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        guard let shard = DestinationName.replyShard(name), shard < shardCount else {
            failFrame(session, "Unknown destination", "'\(printable(name))' is not a reply address of this broker")
            return .none
        }
        _ = makeRoomForOther(isUnused: true)
        let destination: Index<Destination>
        if kind == .replyTopic || shard == index {
            // A topic without subscribers is what becomes of what is sent to a queue that is gone.
            destination = makeTopic(name, isPattern: false)
        } else {
            destination = makeDestination(name, .remoteQueue)
            if !destination.isNone {
                destinations[destination].pointee.owner = UInt16(shard)
                becomeIdle(destination)
            }
        }
        if destination.isNone { failFrame(session, Refusal.memory.message, Refusal.memory.explanation(limits)) }
        return destination
    }

    /// The connection ends, and with it the first of its temporary destinations.
    mutating func removeTemporary(_ session: UnsafeMutablePointer<Session>) {
        letGoTemporary(session.pointee.temporaries.pop(in: destinations))
    }

    /// One that is off its session's list is temporary no more: a queue ends, a topic is forgotten when nobody needs it.
    private mutating func letGoTemporary(_ index: Index<Destination>) {
        let destination = destinations[index]
        destination.pointee.isTemporary = false
        if !destination.pointee.queue.isNone {
            remove(index)
        } else {
            updateIdle(index)
        }
    }

    /// SEND with `reply-to:/temp-queue/NAME` subscribes its connection by itself. Returns the destination whose name
    /// receivers see instead, none where `reply-to` needs no rewriting, nil after an ERROR.
    mutating func replyDestination(_ session: UnsafeMutablePointer<Session>) -> Index<Destination>? {
        let value = frame.value(.replyTo, into: scratch.value, version: session.pointee.version)!
        let isQueue = begins(value, with: "/temp-queue/")
        guard isQueue || begins(value, with: "/temp-topic/") else { return Index.none }
        guard value.count > 12, value.count <= limits.destinationNameByteCountMax else {
            failReplyTo(session)
            return nil
        }
        do throws(DestinationNameError) {
            _ = try DestinationName.parse(
                value, bareNamePrefix: "", byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { "" }, into: scratch.name)
        } catch {
            if case .tooManyLevels = error {
                failManyLevels(session, value)
            } else {
                failReplyTo(session)
            }
            return nil
        }
        let index = temporary(session, value, isQueue ? .temporaryQueue : .temporaryTopic)
        if index.isNone { return nil }
        if isQueue, findSubscription(session, value).isNone, destinations[index].pointee.subscriptionCount == 0 {
            guard Int(session.pointee.subscriptionCount) < limits.subscriptionsPerConnectionMax else {
                counters.limits.count(.subscriptionsPerConnection)
                failFrame(
                    session, "Too many subscriptions",
                    "a connection may have \(limits.subscriptionsPerConnectionMax) subscriptions, reply-to included")
                return nil
            }
            guard !destinations[index].pointee.queue.isNone, subscribeToTemporary(session, index, id: value) else {
                return nil
            }
        }
        return index
    }

    private mutating func failReplyTo(_ session: UnsafeMutablePointer<Session>) {
        failFrame(
            session, "Invalid destination", "reply-to must name a temporary destination, as in /temp-queue/answers")
    }

    func begins(_ bytes: UnsafeRawBufferPointer, with text: StaticString) -> Bool {
        bytes.count >= text.utf8CodeUnitCount && memcmp(bytes.baseAddress!, text.utf8Start, text.utf8CodeUnitCount) == 0
    }
}
