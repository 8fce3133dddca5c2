import STOMP
import Slabs
import Testing

@testable import Broker

/// How a topic's messages are encoded once for many subscribers, without a worker.
@Suite("Topic router")
struct TopicRouterTests {
    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Router {
        var part: TopicRouter
        var destinations: DestinationDirectory
        var memory: MemoryBudget
        private var buffers: [UnsafeMutableRawBufferPointer] = []

        init(byteCountMax: Int = 8 << 20) throws {
            var limits = Limits()
            limits.messageMemoryByteCountMax = byteCountMax
            limits.subscriptionCountMax = 1_000
            part = try TopicRouter(limits, seed: 1)
            destinations = try DestinationDirectory(limits, worker: 0, of: 1, seed: 1)
            memory = try MemoryBudget(limits)
        }

        deinit { for buffer in buffers { buffer.deallocate() } }

        subscript(_ index: Index<Group>) -> Group { part[index].pointee }
        var liveCount: Int { part.liveCount }
        var keyCount: Int { part.keyCount }
        var blockByteCount: Int { memory.blocks.byteCountInUse }
        var flushed: Index<Group> { part.flushed }
        var dirtyGroups: [Index<Group>] { (0..<part.dirtyCount).map { part.dirtyGroup(at: $0) } }

        private func bytes(_ text: String) -> UnsafeRawBufferPointer {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count + 1, alignment: 1)
            buffers.append(buffer)
            buffer.copyBytes(from: text.utf8)
            return UnsafeRawBufferPointer(rebasing: buffer.prefix(text.utf8.count))
        }

        func topic(_ name: String) -> Index<Destination> {
            destinations.makeTopic(bytes(name), isPattern: name.contains("*"), memory: &memory).index
        }
        func group(
            _ destination: Index<Destination>, id: String = "0", isNamed: Bool = true, _ version: Version = .v1_2,
            consumes: Bool = false
        ) -> Index<Group> {
            part.findOrMake(
                destination, id: bytes(id), isNamed: isNamed, version: version, consumes: consumes,
                destinations: &destinations, memory: &memory)
        }
        func id(of index: Index<Group>) -> String { String(decoding: part.id(of: index, in: memory), as: UTF8.self) }
        func removeIfEmpty(_ index: Index<Group>) {
            part.removeIfEmpty(index, destinations: &destinations, memory: &memory)
        }
        /// The groups of a destination, the one that was made last first.
        func groups(of destination: Index<Destination>) -> [Index<Group>] {
            var groups: [Index<Group>] = []
            var index = destinations[destination].pointee.groups.first
            while !index.isNone {
                groups.append(index)
                index = part.next(after: index)
            }
            return groups
        }

        func join(_ group: Index<Group>, _ number: UInt32) -> UInt32 {
            part.addNonMember(to: group)
            return part.join(group, Member(session: Index(number), subscription: Index(number)))
        }
        func leave(_ group: Index<Group>, at place: UInt32) -> UInt32? {
            part.leave(group, at: place)?.subscription.rawValue
        }

        func encode(
            _ group: Index<Group>, _ body: String, headers: String = "", name: String? = nil, identity: UInt64 = 0x1F,
            isPlain: Bool = true, carriesDestination: Bool = false
        ) -> EncodingOutcome {
            let (headers, body) = (bytes(headers), bytes(body))
            let message = Message(
                headers: headers.baseAddress!, headersByteCount: headers.count, body: body.baseAddress!,
                bodyByteCount: body.count, isPlain: isPlain, carriesDestination: carriesDestination,
                identity: identity, expiresAt: 0)
            return part.encode(group, message, name: name.map { bytes($0) }, memory: &memory)
        }
        /// What the members are given; nil: nothing.
        func flush(_ group: Index<Group>) -> String? {
            guard let run = part.beginFlush(group, in: memory) else { return nil }
            #expect(part.flushed == group && !part[group].pointee.isDirty)
            defer { part.endFlush(run, memory: &memory) }
            return String(
                decoding: UnsafeRawBufferPointer(start: memory.blocks.base(run.block), count: run.byteCount),
                as: UTF8.self)
        }
        func takeAll(byteCount: Int) -> [BlockIndex] {
            var blocks: [BlockIndex] = []
            while memory.hasBulk(byteCount) { blocks.append(memory.blocks.allocate(byteCount: byteCount)) }
            return blocks
        }
        func release(_ blocks: [BlockIndex]) { for block in blocks { memory.blocks.release(block) } }
    }

    private static func message(
        _ body: String, id: String? = "0", destination: String? = "/topic/a", headers: String = ""
    ) -> String {
        "MESSAGE\n" + (id.map { "subscription:\($0)\n" } ?? "") + "message-id:000000000000001f"
            + (destination.map { "\ndestination:\($0)" } ?? "") + "\ncontent-length:\(body.utf8.count)\n"
            + "\(headers)\n\(body)\0\n"
    }

    // MARK: Groups

    @Test("Subscribers share a group where their MESSAGEs are the same, and only there")
    func keys() throws {
        let router = try Router()
        let (topic, other) = (router.topic("/topic/a"), router.topic("/topic/b"))
        let group = router.group(topic)
        let others = [
            router.group(other), router.group(topic, id: "1"), router.group(topic, isNamed: false),
            router.group(topic, .v1_1), router.group(topic, consumes: true), router.group(topic, id: ""),
        ]
        #expect(Set(others + [group]).count == 7 && router.liveCount == 7 && router.keyCount == 7)
        #expect(router.group(topic) == group && router.group(topic, id: "1") == others[1])
        #expect(router.liveCount == 7)
        #expect(router.groups(of: topic) == [others[5], others[4], others[3], others[2], others[1], group])
        #expect(router.groups(of: other) == [others[0]])
        #expect(router.id(of: others[1]) == "1" && router.id(of: others[5]) == "")
    }

    @Test("A group lives as long as it has members or others that use it, and its memory goes with it")
    func lives() throws {
        let router = try Router()
        let topic = router.topic("/topic/a")
        let before = router.blockByteCount
        let group = router.group(topic)
        router.part.addNonMember(to: group)
        router.removeIfEmpty(group)
        #expect(router.groups(of: topic) == [group])
        let place = router.join(group, 7)
        router.part.removeNonMember(from: group)
        router.removeIfEmpty(group)
        #expect(router.groups(of: topic) == [group])
        #expect(router.leave(group, at: place) == nil)
        router.removeIfEmpty(group)
        #expect(router.groups(of: topic) == [] && router.liveCount == 0 && router.keyCount == 0)
        #expect(router.blockByteCount == before)
    }

    @Test("The member that takes the place of one that leaves is named")
    func members() throws {
        let router = try Router()
        let group = router.group(router.topic("/topic/a"))
        for number in 1...4 as ClosedRange<UInt32> { #expect(router.join(group, number) == number - 1) }
        #expect(router[group].nonMemberCount == 0)
        #expect(router.leave(group, at: 1) == 4)
        #expect(router.leave(group, at: 2) == nil)
        #expect(router.leave(group, at: 0) == 4)
        #expect(router[group].members.count == 1 && router[group].members[0].subscription == Index(4))
    }

    @Test("Without memory for its prefix there is no group")
    func noMemoryForGroup() throws {
        let router = try Router(byteCountMax: 1 << 20)
        let topic = router.topic("/topic/a")
        let id = String(repeating: "i", count: 4_000)
        var count = 0
        while !router.group(topic, id: id + "\(count)").isNone { count += 1 }
        #expect(count > 50 && router.liveCount == count && router.groups(of: topic).count == count)
    }

    // MARK: Messages

    @Test("A MESSAGE has the subscription that SUBSCRIBE named, and the topic's name, escaped as the version has it")
    func encoding() throws {
        let router = try Router()
        let (topic, pattern) = (router.topic("/topic/a"), router.topic("/topic/*"))
        let named = router.group(topic)
        #expect(router.encode(named, "hi", headers: "x:1\n") == .written)
        #expect(router.flush(named) == Self.message("hi", headers: "x:1\n"))

        let unnamed = router.group(topic, id: "/topic/a", isNamed: false, .v1_0)
        #expect(router.encode(unnamed, "") == .written)
        #expect(router.flush(unnamed) == Self.message("", id: nil))

        // The group of a pattern does not know which topic's message it is.
        let ofPattern = router.group(pattern)
        #expect(router.encode(ofPattern, "hi", name: "/topic/b:c") == .written)
        #expect(router.flush(ofPattern) == Self.message("hi", destination: "/topic/b\\cc"))

        #expect(router.encode(named, "hi", headers: "destination:/exchange/a\n", carriesDestination: true) == .written)
        #expect(
            router.flush(named)
                == Self.message("hi", destination: nil, headers: "destination:/exchange/a\n"))

        for (version, escaped) in [(Version.v1_0, "a:b"), (.v1_1, "a\\cb"), (.v1_2, "a\\cb")] {
            let group = router.group(topic, id: "a:b", version)
            #expect(router.encode(group, "hi", headers: "x:y\\cz\n", isPlain: false) == .written)
            let header = version == .v1_0 ? "x:y:z\n" : "x:y\\cz\n"
            #expect(router.flush(group) == Self.message("hi", id: escaped, headers: header), "\(version)")
        }
    }

    @Test("The messages of a turn follow each other in one run, and an idle group holds no memory")
    func run() throws {
        let router = try Router()
        let group = router.group(router.topic("/topic/a"))
        let before = router.blockByteCount
        #expect(router.flush(group) == nil && router.dirtyGroups == [])
        var expected = ""
        for number in 0..<100 {
            // The first run is small: it is given out as often as it is full.
            if router.encode(group, "\(number)") == .runIsFull {
                #expect(router.flush(group) == expected)
                #expect(router.encode(group, "\(number)") == .written)
                expected = ""
            }
            expected += Self.message("\(number)")
        }
        #expect(router.flush(group) == expected)
        #expect(router.flushed.isNone && router.blockByteCount == before)
        // The next run has room for as much as was needed lately.
        for number in 0..<20 { #expect(router.encode(group, "\(number)") == .written) }
        #expect(router.flush(group)?.utf8.count == Self.message("0").utf8.count * 20 + 10)
    }

    @Test("Every group that gained messages is on the list; one that is gone is not")
    func dirty() throws {
        let router = try Router()
        let topic = router.topic("/topic/a")
        let groups = (0..<3).map { router.group(topic, id: "\($0)") }
        for group in groups.reversed() {
            #expect(router.encode(group, "a") == .written)
        }
        #expect(router.dirtyGroups == groups.reversed())
        _ = router.flush(groups[1])
        router.removeIfEmpty(groups[1])
        #expect(router.dirtyGroups == [groups[2], .none, groups[0]])
        // Another group in the same place is not taken for it.
        #expect(router.group(topic, id: "x") == groups[1])
        #expect(router.dirtyGroups == [groups[2], .none, groups[0]])
        _ = router.flush(groups[0])
        _ = router.flush(groups[2])
        router.part.forgetDirty()
        #expect(router.dirtyGroups == [])
    }

    @Test("Without memory for a run a message is not encoded, and the group is none the worse")
    func noMemoryForRun() throws {
        let router = try Router(byteCountMax: 1 << 20)
        let group = router.group(router.topic("/topic/a"))
        let blocks = router.takeAll(byteCount: 1_000)
        let body = String(repeating: "x", count: 10_000)
        #expect(router.encode(group, body) == .noMemory)
        #expect(!router[group].isDirty && router.dirtyGroups == [])
        router.release(blocks)
        #expect(router.encode(group, body) == .written)
        #expect(router.flush(group) == Self.message(body))
    }
}
