import Slabs
import Testing

@testable import Broker

/// The destinations that a worker knows, without a worker.
@Suite("Destination directory")
struct DestinationDirectoryTests {
    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Directory {
        var part: DestinationDirectory
        var memory: MemoryBudget
        private var sessions: Slab<Session>

        init(_ countMax: Int = 10, worker: Int = 0, of workerCount: Int = 1, byteCountMax: Int = 8 << 20) throws {
            var limits = Limits()
            limits.destinationCountMax = countMax
            limits.messageMemoryByteCountMax = byteCountMax
            limits.subscriptionCountMax = 1_000
            part = try DestinationDirectory(limits, worker: worker, of: workerCount, seed: 1)
            memory = try MemoryBudget(limits)
            sessions = try Slab(recordCountMax: 4)
        }

        subscript(_ index: Index<Destination>) -> Destination { part[index].pointee }
        var liveCount: Int { part.liveCount }
        var patternCount: Int { part.patternCount }
        var matchCount: Int { part.matchCount }
        var blockByteCount: Int { memory.blocks.byteCountInUse }
        var hasRoomForQueue: Bool { part.hasRoomForQueue }
        var oldestIdleQueue: Index<Destination> { part.oldestIdleQueue }
        var idleCount: Int? { part.auditIdle() }

        func session() -> UnsafeMutablePointer<Session> {
            let handle: Handle<Session> = sessions.allocate()
            return sessions[handle.index]
        }

        func find(_ name: String) -> Index<Destination> { withBytes(name) { part.find(name: $0) } }
        func name(of index: Index<Destination>) -> String {
            String(decoding: part.name(of: index, in: memory), as: UTF8.self)
        }
        func owner(ofQueue name: String) -> Int { withBytes(name) { part.owner(ofQueue: $0) } }

        func topic(_ name: String) -> Index<Destination> {
            withBytes(name) { part.makeTopic($0, isPattern: false, memory: &memory).index }
        }
        /// A pattern with a subscription, as each has in a worker.
        func pattern(_ name: String) -> Index<Destination> {
            let made = withBytes(name) { part.makeTopic($0, isPattern: true, memory: &memory) }
            part.addSubscription(to: made.index)
            return made.index
        }
        /// A destination with the queue of that number, which holds nothing.
        func queue(_ name: String, _ number: UInt32 = 1) -> Index<Destination> {
            let index = withBytes(name) { part.makeQueue($0, memory: &memory) }
            part.attach(Index(number), to: index)
            _ = updateIdle(index)
            return index
        }
        func remoteQueue(_ name: String) -> Index<Destination> {
            withBytes(name) { part.makeRemoteQueue($0, owner: 1, blocks: true, memory: &memory) }
        }

        func updateIdle(_ index: Index<Destination>, queueIsInUse: Bool = false) -> Index<Queue> {
            let isNeeded = queueIsInUse || part[index].pointee.isTemporary || part.isInUse(index)
            return part.updateIdle(index, isNeeded: isNeeded, memory: &memory)
        }
        func subscribe(_ index: Index<Destination>) {
            part.addSubscription(to: index)
            _ = updateIdle(index)
        }
        /// Whether other workers are to be told.
        func unsubscribe(_ index: Index<Destination>) -> Bool {
            defer { _ = updateIdle(index) }
            return part.removeSubscription(from: index)
        }
        func remove(_ index: Index<Destination>) {
            part.leaveIdle(index)
            if !part[index].pointee.queue.isNone { part.detachQueue(from: index) }
            part.remove(index, memory: &memory)
        }
        /// The same for one that may have a subscription.
        func unsubscribeOrRemove(_ index: Index<Destination>) {
            if part[index].pointee.subscriptionCount == 0 { remove(index) } else { _ = unsubscribe(index) }
        }
        func stepCount(ofPattern name: String) -> Int {
            let made = withBytes(name) { part.makeTopic($0, isPattern: true, memory: &memory) }
            return made.stepCount
        }
        func stepCount(ofTopic name: String) -> Int {
            withBytes(name) { part.makeTopic($0, isPattern: false, memory: &memory).stepCount }
        }
        func makeRoomForMatches() -> (hasRoom: Bool, removedCount: Int, stepCount: Int) {
            part.makeRoomForMatches(memory: &memory)
        }
        func isLive(_ handle: Handle<Destination>) -> Bool { part.isLive(handle) || part.find(handle) != nil }
        func isOneTooMany(_ index: Index<Destination>) -> Bool { part.isOneTooMany(index) }
        func bind(
            _ queue: Index<Destination>, of subscription: Index<Subscription>, to topic: Index<Destination>
        ) -> UInt32 { part.bind(queue, of: subscription, to: topic) }
        func unbind(at place: UInt32, from topic: Index<Destination>) -> BoundQueue? {
            part.unbind(at: place, from: topic)
        }
        func keepsMessages(_ index: Index<Destination>) -> Bool { part.keepsMessages(index) }
        func register(_ index: Index<Destination>) -> Bool { part.register(index) }
        func agree(to index: Index<Destination>) -> Bool { part.agree(to: index) }
        func awaitsAnswer(_ handle: Handle<Destination>, epoch: UInt32) -> Bool {
            part.awaitsAnswer(handle, epoch: epoch)
        }
        func peers(of index: Index<Destination>) -> [Int] {
            let peers = part.peers(of: index)
            #expect(peers.isEmpty == !(0..<128).contains { peers.contains($0) })
            return (0..<128).filter { peers.contains($0) }
        }
        func makeRoomForOther() -> Bool { part.makeRoomForOther(memory: &memory) }

        /// The names of what matches a topic, or of what a pattern matches. Fails where they do not know each other.
        func matches(of index: Index<Destination>) -> Set<String> {
            let matches = part[index].pointee.matches
            var names: Set<String> = []
            for i in 0..<matches.count {
                let other = part[matches[i].destination].pointee.matches[matches[i].position]
                #expect(other.destination == index && other.position == i)
                names.insert(name(of: matches[i].destination))
            }
            #expect(names.count == Int(matches.count))
            return names
        }

        private func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
            var text = text
            return text.withUTF8 { body(UnsafeRawBufferPointer($0)) }
        }
    }

    // MARK: Names

    @Test("A name leads to its destination until that is removed, and its memory goes with it")
    func names() throws {
        let directory = try Directory()
        #expect(directory.find("/topic/a").isNone)
        let topic = directory.topic("/topic/a")
        let queue = directory.queue("/queue/a")
        #expect(directory.find("/topic/a") == topic && directory.find("/queue/a") == queue)
        #expect(directory.name(of: topic) == "/topic/a")
        #expect(directory[topic].kind == .topic && directory[queue].kind == .queue)
        let handle = directory.part.handle(topic)
        #expect(directory.isLive(handle))
        directory.remove(topic)
        #expect(directory.find("/topic/a").isNone)
        #expect(!directory.isLive(handle))
        directory.remove(queue)
        #expect(directory.liveCount == 0 && directory.blockByteCount == 0)
    }

    @Test("A walk over the names meets each destination that has one")
    func walk() throws {
        let directory = try Directory(200)
        let made = Set((0..<100).map { directory.topic("/topic/\($0)") })
        _ = directory.part.makeSubscriptionQueue()
        let places = (0..<directory.part.placeCount).map { directory.part.named(at: $0) }.filter { !$0.isNone }
        #expect(places.count == 100 && Set(places) == made)
    }

    @Test("Without memory for its name no destination is made")
    func memory() throws {
        let directory = try Directory(100_000, byteCountMax: 1 << 20)
        let text = String(repeating: "x", count: 4_000)
        var count = 0
        while !directory.topic("/topic/\(text)\(count)").isNone { count += 1 }
        #expect(count > 100)
        #expect(directory.liveCount == count && directory.find("/topic/\(text)\(count)").isNone)
        #expect(directory.remoteQueue("/queue/\(text)").isNone)
        #expect(directory.liveCount == count && directory.idleCount == count)
    }

    @Test("All workers agree who holds a queue")
    func owners() throws {
        let alone = try Directory()
        let one = try Directory(worker: 0, of: 3)
        let other = try Directory(worker: 2, of: 3)
        var counts = [0, 0, 0]
        for number in 0..<300 {
            let name = "/queue/\(number)"
            #expect(alone.owner(ofQueue: name) == 0)
            #expect(one.owner(ofQueue: name) == other.owner(ofQueue: name))
            counts[one.owner(ofQueue: name)] += 1
        }
        #expect(counts.min()! > 60)
        let queue = other.queue("/queue/a")
        let remote = other.remoteQueue("/queue/b")
        #expect(other[queue].owner == 2 && other[remote].owner == 1 && other[remote].blocks)
    }

    // MARK: Patterns

    @Test("Topics and patterns that come and go in any order know those that they match")
    func matches() throws {
        var random = SplitMix(state: 3)
        let directory = try Directory(1_000)
        let parts = ["a", "b", "c", "*", "#"]
        var live: [String: Index<Destination>] = [:]
        for _ in 0..<2_000 {
            let levels = (0...random.next(3)).map { _ in parts[random.next(random.next(2) == 0 ? 3 : 5)] }
            let name = "/topic/" + levels.joined(separator: ".")
            let isPattern = levels.contains("*") || levels.contains("#")
            if let index = live.removeValue(forKey: name) {
                if isPattern { #expect(!directory.unsubscribe(index)) } else { directory.remove(index) }
            } else {
                live[name] = isPattern ? directory.pattern(name) : directory.topic(name)
            }
        }
        let patterns = live.keys.filter { $0.contains("*") || $0.contains("#") }
        let topics = live.keys.filter { !patterns.contains($0) }
        #expect(patterns.count > 10 && topics.count > 10 && directory.patternCount == patterns.count)
        var pairCount = 0
        for pattern in patterns {
            let expected = Set(topics.filter { Self.matches(pattern, $0) })
            #expect(directory.matches(of: live[pattern]!) == expected, "\(pattern)")
            pairCount += expected.count
        }
        for topic in topics {
            #expect(directory.matches(of: live[topic]!) == Set(patterns.filter { Self.matches($0, topic) }), "\(topic)")
        }
        #expect(directory.matchCount == pairCount && pairCount > 10)
        for index in live.values { directory.unsubscribeOrRemove(index) }
        #expect(directory.matchCount == 0 && directory.patternCount == 0 && directory.blockByteCount == 0)
    }

    private static func matches(_ pattern: String, _ name: String) -> Bool {
        var (pattern, name, middle, count) = (pattern, name, Wildcard.Middle(), 0)
        return pattern.withUTF8 { pattern in
            name.withUTF8 { name in
                Wildcard.matches(
                    UnsafeRawBufferPointer(pattern), UnsafeRawBufferPointer(name), &middle, levelCount: &count)
            }
        }
    }

    @Test("What a comparison costs grows with the topics, or the patterns, that there are")
    func steps() throws {
        let directory = try Directory(1_000)
        for number in 0..<100 { _ = directory.topic("/topic/\(number)") }
        // Queues are not compared.
        for number in 0..<100 { _ = directory.remoteQueue("/queue/\(number)") }
        let few = directory.stepCount(ofPattern: "/topic/*.x")
        #expect(few >= 200 && few < 300)
        for number in 100..<200 { _ = directory.topic("/topic/\(number)") }
        #expect(directory.stepCount(ofPattern: "/topic/*.y") >= few + 200)
        #expect(directory.stepCount(ofTopic: "/topic/z") >= 4)
    }

    @Test("A topic's messages are kept by queues that are bound to it, or to a pattern that matches it")
    func bound() throws {
        let directory = try Directory()
        let topic = directory.topic("/topic/a.b")
        let pattern = directory.pattern("/topic/a.*")
        #expect(!directory.keepsMessages(topic))
        let queues = (1...3).map { _ in directory.part.makeSubscriptionQueue() }
        for (place, queue) in queues.enumerated() {
            let subscription = Index<Subscription>(UInt32(place + 1))
            #expect(directory.bind(queue, of: subscription, to: pattern) == UInt32(place))
        }
        #expect(directory.keepsMessages(topic) && directory.keepsMessages(pattern))
        // The last takes the place of the first, and its subscription is to be told.
        #expect(directory.unbind(at: 0, from: pattern)?.subscription == Index(3))
        #expect(directory.unbind(at: 1, from: pattern) == nil)
        #expect(directory[pattern].bound[0].destination == queues[2])
        #expect(directory.unbind(at: 0, from: pattern) == nil)
        #expect(!directory.keepsMessages(topic))
    }

    // MARK: Who needs it

    @Test("A destination is idle while nobody needs it; a pattern that nobody needs is gone")
    func idle() throws {
        let directory = try Directory()
        let topic = directory.topic("/topic/a")
        #expect(directory[topic].isIdle && directory.idleCount == 1)
        directory.subscribe(topic)
        #expect(!directory[topic].isIdle && directory.idleCount == 0)
        #expect(!directory.unsubscribe(topic))
        #expect(directory[topic].isIdle)
        directory.part.setRemote(true, of: 1, to: topic)
        _ = directory.updateIdle(topic)
        #expect(!directory[topic].isIdle)
        directory.part.setRemote(false, of: 1, to: topic)
        _ = directory.updateIdle(topic)
        #expect(directory[topic].isIdle)

        let pattern = directory.pattern("/topic/*")
        directory.subscribe(pattern)
        #expect(!directory.unsubscribe(pattern))
        #expect(directory.patternCount == 1 && !directory[pattern].isIdle)
        #expect(!directory.unsubscribe(pattern))
        #expect(directory.patternCount == 0 && directory.find("/topic/*").isNone && directory.idleCount == 1)
    }

    @Test("A queue that becomes idle is named once, so that its time begins")
    func idleQueue() throws {
        let directory = try Directory()
        let index = directory.queue("/queue/a", 7)
        #expect(directory[index].isIdle && directory.oldestIdleQueue == index)
        #expect(directory.updateIdle(index, queueIsInUse: true).isNone)
        #expect(!directory[index].isIdle && directory.oldestIdleQueue.isNone)
        #expect(directory.updateIdle(index, queueIsInUse: true).isNone)
        #expect(directory.updateIdle(index) == Index(7))
        #expect(directory.updateIdle(index).isNone)
    }

    @Test("Queues have room of their own, and the one that was used least recently makes way")
    func roomForQueues() throws {
        let directory = try Directory(3)
        for number in 0..<3 { _ = directory.topic("/topic/\(number)") }
        let queues = (1...3).map { number in
            #expect(directory.hasRoomForQueue)
            return directory.queue("/queue/\(number)", UInt32(number))
        }
        #expect(!directory.hasRoomForQueue && directory.oldestIdleQueue == queues[0])
        _ = directory.updateIdle(queues[0], queueIsInUse: true)
        _ = directory.updateIdle(queues[0])
        #expect(directory.oldestIdleQueue == queues[1])
        directory.remove(queues[1])
        #expect(directory.hasRoomForQueue && directory.oldestIdleQueue == queues[2])
        // The queues of topic subscriptions do not count.
        for number in 0..<5 {
            let own = directory.part.makeSubscriptionQueue()
            directory.part.attach(Index(UInt32(10 + number)), to: own)
            #expect(directory.hasRoomForQueue && directory.name(of: own) == "")
        }
        _ = directory.queue("/queue/4", 4)
        #expect(!directory.hasRoomForQueue)
    }

    @Test("Topics make way from the one that was used least recently; those that are needed stay")
    func roomForOthers() throws {
        let directory = try Directory(3)
        let topics = (0..<3).map { directory.topic("/topic/\($0)") }
        _ = directory.queue("/queue/a")
        directory.subscribe(topics[0])
        #expect(directory.makeRoomForOther())
        #expect(directory.find("/topic/1").isNone && directory.find("/topic/0") == topics[0])
        #expect(!directory.find("/queue/a").isNone)
        let remote = directory.remoteQueue("/queue/b")
        directory.subscribe(topics[2])
        #expect(directory.makeRoomForOther())
        #expect(directory.find("/queue/b").isNone)
        let last = directory.topic("/topic/3")
        directory.subscribe(last)
        #expect(remote != topics[0] && !directory.makeRoomForOther())
        // Made beyond the limit: nobody needs it, so it makes way for one that somebody needs.
        let extra = directory.topic("/topic/4")
        #expect(directory.isOneTooMany(extra) && !directory.isOneTooMany(last))
        #expect(directory.makeRoomForOther() == false && directory.find("/topic/4").isNone)
    }

    @Test("Idle topics that match make way until patterns and topics match few times; others stay")
    func roomForMatches() throws {
        // 100 matches for each of two destinations.
        let directory = try Directory(2)
        for number in 0..<20 { _ = directory.pattern("/topic/a.#.\(number).#") }
        let other = directory.topic("/topic/b")
        let name = "/topic/a." + (0..<20).map(String.init).joined(separator: ".")
        let needed = directory.topic(name)
        directory.subscribe(needed)
        let idle = (0..<9).map { directory.topic("\(name).\($0)") }
        #expect(directory.matchCount == 200)
        let room = directory.makeRoomForMatches()
        #expect(room.hasRoom && room.removedCount == 1 && room.stepCount == 2)
        #expect(directory.matchCount == 180 && directory.find("\(name).0").isNone)
        #expect(directory.find("/topic/b") == other)
        let again = directory.makeRoomForMatches()
        #expect(again.hasRoom && again.removedCount == 0 && again.stepCount == 0)
        for index in idle.dropFirst() { directory.subscribe(index) }
        directory.subscribe(directory.topic("\(name).9"))
        let none = directory.makeRoomForMatches()
        #expect(!none.hasRoom && none.removedCount == 0 && directory.matchCount == 200)
    }

    // MARK: Other workers

    @Test("A registration is under way until all other workers have agreed to this one, and no earlier one")
    func registration() throws {
        let directory = try Directory(of: 3)
        let topic = directory.topic("/topic/a")
        let handle = directory.part.handle(topic)
        directory.subscribe(topic)
        #expect(directory.register(topic) && !directory.register(topic))
        let epoch = directory[topic].interestEpoch
        #expect(directory.awaitsAnswer(handle, epoch: epoch))
        #expect(!directory.awaitsAnswer(handle, epoch: epoch &- 1))
        #expect(!directory.agree(to: topic))
        // The subscription ends before all have answered; the next one registers again.
        #expect(directory.unsubscribe(topic))
        #expect(directory[topic].interest == .none && !directory.awaitsAnswer(handle, epoch: epoch))
        directory.subscribe(topic)
        #expect(directory.register(topic))
        #expect(!directory.awaitsAnswer(handle, epoch: epoch))
        #expect(!directory.agree(to: topic) && directory.agree(to: topic))
        #expect(directory[topic].interest == .registered)
        #expect(!directory.awaitsAnswer(handle, epoch: epoch &+ 1))
        directory.subscribe(topic)
        #expect(!directory.unsubscribe(topic))
        #expect(directory.unsubscribe(topic))
        directory.remove(topic)
        #expect(!directory.awaitsAnswer(handle, epoch: epoch &+ 1))
    }

    @Test("A topic goes to the workers that subscribe to it or to a pattern that matches it")
    func peers() throws {
        let directory = try Directory(of: 128)
        let topic = directory.topic("/topic/a")
        let pattern = directory.pattern("/topic/*")
        #expect(directory.peers(of: topic) == [])
        for peer in [0, 63, 64] { directory.part.setRemote(true, of: peer, to: topic) }
        for peer in [63, 127] { directory.part.setRemote(true, of: peer, to: pattern) }
        #expect(directory.peers(of: topic) == [0, 63, 64, 127])
        directory.part.setRemote(false, of: 64, to: topic)
        directory.part.setRemote(false, of: 63, to: topic)
        #expect(directory.peers(of: topic) == [0, 63, 127])
        #expect(directory.peers(of: directory.topic("/topic/b")) == [63, 127])
    }

    // MARK: Temporary destinations

    @Test("A temporary destination is on its connection's list, and idle only when it has left that")
    func temporaries() throws {
        let directory = try Directory()
        let (one, other) = (directory.session(), directory.session())
        let topics = (0..<3).map { directory.topic("/reply-topic/\($0)") }
        for topic in topics { directory.part.makeTemporary(topic, of: one) }
        directory.part.makeTemporary(directory.topic("/reply-topic/x"), of: other)
        #expect(directory.idleCount == 0 && directory[topics[1]].isTemporary)
        func list(_ session: UnsafeMutablePointer<Session>) -> [Index<Destination>] {
            var indices: [Index<Destination>] = []
            var index = session.pointee.temporaries.first
            while !index.isNone {
                indices.append(index)
                index = directory.part.nextTemporary(after: index)
            }
            return indices
        }
        #expect(list(one) == topics.reversed() && list(other).count == 1)
        directory.part.endTemporary(topics[1], of: one)
        _ = directory.updateIdle(topics[1])
        #expect(list(one) == [topics[2], topics[0]])
        #expect(directory[topics[1]].isIdle && !directory[topics[1]].isTemporary)
        directory.part.endTemporary(topics[2], of: one)
        directory.part.endTemporary(topics[0], of: one)
        #expect(one.pointee.temporaries.isEmpty && list(other).count == 1)
    }
}
