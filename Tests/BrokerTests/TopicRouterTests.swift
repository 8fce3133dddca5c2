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

        subscript(_ index: Index<SharedEncoding>) -> SharedEncoding { part[index].pointee }
        var liveCount: Int { part.liveCount }
        var keyCount: Int { part.keyCount }
        var blockByteCount: Int { memory.blocks.byteCountInUse }
        var flushed: Index<SharedEncoding> { part.flushed }
        var dirtyEncodings: [Index<SharedEncoding>] { (0..<part.dirtyCount).map { part.dirtyEncoding(at: $0) } }

        private func bytes(_ text: String) -> UnsafeRawBufferPointer {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count + 1, alignment: 1)
            buffers.append(buffer)
            buffer.copyBytes(from: text.utf8)
            return UnsafeRawBufferPointer(rebasing: buffer.prefix(text.utf8.count))
        }

        func topic(_ name: String) -> Index<Destination> {
            destinations.makeTopic(bytes(name), isPattern: name.contains("*"), memory: &memory).index
        }
        func encoding(
            _ destination: Index<Destination>, id: String = "0", isNamed: Bool = true, _ version: Version = .v1_2,
            consumes: Bool = false
        ) -> Index<SharedEncoding> {
            part.findOrMake(
                destination, id: bytes(id), isNamed: isNamed, version: version, consumes: consumes,
                destinations: &destinations, memory: &memory)
        }
        func id(of index: Index<SharedEncoding>) -> String {
            String(decoding: part.id(of: index, in: memory), as: UTF8.self)
        }
        func removeIfEmpty(_ index: Index<SharedEncoding>) {
            part.removeIfEmpty(index, destinations: &destinations, memory: &memory)
        }
        /// The encodings of a destination, the one that was made last first.
        func encodings(of destination: Index<Destination>) -> [Index<SharedEncoding>] {
            var encodings: [Index<SharedEncoding>] = []
            var index = destinations[destination].pointee.encodings.first
            while !index.isNone {
                encodings.append(index)
                index = part.next(after: index)
            }
            return encodings
        }

        func join(_ encoding: Index<SharedEncoding>, _ number: UInt32) -> UInt32 {
            part.addNonMember(to: encoding)
            return part.join(encoding, Member(session: Index(number), subscription: Index(number)))
        }
        func leave(_ encoding: Index<SharedEncoding>, at place: UInt32) -> UInt32? {
            part.leave(encoding, at: place)?.subscription.rawValue
        }

        func encode(
            _ encoding: Index<SharedEncoding>, _ body: String, headers: String = "", name: String? = nil,
            identity: UInt64 = 0x1F,
            isPlain: Bool = true, carriesDestination: Bool = false
        ) -> EncodingOutcome {
            let (headers, body) = (bytes(headers), bytes(body))
            let message = Message(
                headers: headers.baseAddress!, headersByteCount: headers.count, body: body.baseAddress!,
                bodyByteCount: body.count, isPlain: isPlain, carriesDestination: carriesDestination,
                identity: identity, expiresAt: 0)
            return part.encode(encoding, message, name: name.map { bytes($0) }, memory: &memory)
        }
        /// What the members are given; nil: nothing.
        func flush(_ encoding: Index<SharedEncoding>) -> String? {
            guard let encoded = part.beginFlush(encoding, in: memory) else { return nil }
            #expect(part.flushed == encoding && !part[encoding].pointee.isDirty)
            defer { part.endFlush(encoded, memory: &memory) }
            return String(
                decoding: UnsafeRawBufferPointer(start: memory.blocks.base(encoded.block), count: encoded.byteCount),
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

    // MARK: Encodings

    @Test("Subscribers share an encoding where their MESSAGEs are the same, and only there")
    func keys() throws {
        let router = try Router()
        let (topic, other) = (router.topic("/topic/a"), router.topic("/topic/b"))
        let encoding = router.encoding(topic)
        let others = [
            router.encoding(other), router.encoding(topic, id: "1"), router.encoding(topic, isNamed: false),
            router.encoding(topic, .v1_1), router.encoding(topic, consumes: true), router.encoding(topic, id: ""),
        ]
        #expect(Set(others + [encoding]).count == 7 && router.liveCount == 7 && router.keyCount == 7)
        #expect(router.encoding(topic) == encoding && router.encoding(topic, id: "1") == others[1])
        #expect(router.liveCount == 7)
        #expect(router.encodings(of: topic) == [others[5], others[4], others[3], others[2], others[1], encoding])
        #expect(router.encodings(of: other) == [others[0]])
        #expect(router.id(of: others[1]) == "1" && router.id(of: others[5]) == "")
    }

    @Test("An encoding lives as long as it has members or others that use it, and its memory goes with it")
    func lives() throws {
        let router = try Router()
        let topic = router.topic("/topic/a")
        let before = router.blockByteCount
        let encoding = router.encoding(topic)
        router.part.addNonMember(to: encoding)
        router.removeIfEmpty(encoding)
        #expect(router.encodings(of: topic) == [encoding])
        let place = router.join(encoding, 7)
        router.part.removeNonMember(from: encoding)
        router.removeIfEmpty(encoding)
        #expect(router.encodings(of: topic) == [encoding])
        #expect(router.leave(encoding, at: place) == nil)
        router.removeIfEmpty(encoding)
        #expect(router.encodings(of: topic) == [] && router.liveCount == 0 && router.keyCount == 0)
        #expect(router.blockByteCount == before)
    }

    @Test("The member that takes the place of one that leaves is named")
    func members() throws {
        let router = try Router()
        let encoding = router.encoding(router.topic("/topic/a"))
        for number in 1...4 as ClosedRange<UInt32> { #expect(router.join(encoding, number) == number - 1) }
        #expect(router[encoding].nonMemberCount == 0)
        #expect(router.leave(encoding, at: 1) == 4)
        #expect(router.leave(encoding, at: 2) == nil)
        #expect(router.leave(encoding, at: 0) == 4)
        #expect(router[encoding].members.count == 1 && router[encoding].members[0].subscription == Index(4))
    }

    @Test("Without memory for its prefix there is no encoding")
    func noMemoryForEncoding() throws {
        let router = try Router(byteCountMax: 1 << 20)
        let topic = router.topic("/topic/a")
        let id = String(repeating: "i", count: 4_000)
        var count = 0
        while !router.encoding(topic, id: id + "\(count)").isNone { count += 1 }
        #expect(count > 50 && router.liveCount == count && router.encodings(of: topic).count == count)
    }

    // MARK: Messages

    @Test("A MESSAGE has the subscription that SUBSCRIBE named, and the topic's name, escaped as the version has it")
    func encoding() throws {
        let router = try Router()
        let (topic, pattern) = (router.topic("/topic/a"), router.topic("/topic/*"))
        let named = router.encoding(topic)
        #expect(router.encode(named, "hi", headers: "x:1\n") == .written)
        #expect(router.flush(named) == Self.message("hi", headers: "x:1\n"))

        let unnamed = router.encoding(topic, id: "/topic/a", isNamed: false, .v1_0)
        #expect(router.encode(unnamed, "") == .written)
        #expect(router.flush(unnamed) == Self.message("", id: nil))

        // The encoding of a pattern does not know which topic's message it is.
        let ofPattern = router.encoding(pattern)
        #expect(router.encode(ofPattern, "hi", name: "/topic/b:c") == .written)
        #expect(router.flush(ofPattern) == Self.message("hi", destination: "/topic/b\\cc"))

        #expect(router.encode(named, "hi", headers: "destination:/exchange/a\n", carriesDestination: true) == .written)
        #expect(
            router.flush(named)
                == Self.message("hi", destination: nil, headers: "destination:/exchange/a\n"))

        for (version, escaped) in [(Version.v1_0, "a:b"), (.v1_1, "a\\cb"), (.v1_2, "a\\cb")] {
            let encoding = router.encoding(topic, id: "a:b", version)
            #expect(router.encode(encoding, "hi", headers: "x:y\\cz\n", isPlain: false) == .written)
            let header = version == .v1_0 ? "x:y:z\n" : "x:y\\cz\n"
            #expect(router.flush(encoding) == Self.message("hi", id: escaped, headers: header), "\(version)")
        }
    }

    @Test("The messages of a turn follow each other in one block, and an idle encoding holds no memory")
    func oneBlock() throws {
        let router = try Router()
        let encoding = router.encoding(router.topic("/topic/a"))
        let before = router.blockByteCount
        #expect(router.flush(encoding) == nil && router.dirtyEncodings == [])
        var expected = ""
        for number in 0..<100 {
            // The first block is small: it is given out as often as it is full.
            if router.encode(encoding, "\(number)") == .isFull {
                #expect(router.flush(encoding) == expected)
                #expect(router.encode(encoding, "\(number)") == .written)
                expected = ""
            }
            expected += Self.message("\(number)")
        }
        #expect(router.flush(encoding) == expected)
        #expect(router.flushed.isNone && router.blockByteCount == before)
        // The next block has room for as much as was needed lately.
        for number in 0..<20 { #expect(router.encode(encoding, "\(number)") == .written) }
        #expect(router.flush(encoding)?.utf8.count == Self.message("0").utf8.count * 20 + 10)
    }

    @Test("Every encoding that gained messages is on the list; one that is gone is not")
    func dirty() throws {
        let router = try Router()
        let topic = router.topic("/topic/a")
        let encodings = (0..<3).map { router.encoding(topic, id: "\($0)") }
        for encoding in encodings.reversed() {
            #expect(router.encode(encoding, "a") == .written)
        }
        #expect(router.dirtyEncodings == encodings.reversed())
        _ = router.flush(encodings[1])
        router.removeIfEmpty(encodings[1])
        #expect(router.dirtyEncodings == [encodings[2], .none, encodings[0]])
        // Another encoding in the same place is not taken for it.
        #expect(router.encoding(topic, id: "x") == encodings[1])
        #expect(router.dirtyEncodings == [encodings[2], .none, encodings[0]])
        _ = router.flush(encodings[0])
        _ = router.flush(encodings[2])
        router.part.forgetDirty()
        #expect(router.dirtyEncodings == [])
    }

    @Test("Without memory for its block a message is not encoded, and the encoding is none the worse")
    func noMemoryForBlock() throws {
        let router = try Router(byteCountMax: 1 << 20)
        let encoding = router.encoding(router.topic("/topic/a"))
        let blocks = router.takeAll(byteCount: 1_000)
        let body = String(repeating: "x", count: 10_000)
        #expect(router.encode(encoding, body) == .noMemory)
        #expect(!router[encoding].isDirty && router.dirtyEncodings == [])
        router.release(blocks)
        #expect(router.encode(encoding, body) == .written)
        #expect(router.flush(encoding) == Self.message(body))
    }
}
