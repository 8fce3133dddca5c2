import STOMP
import Testing

@testable import Broker

/// Patterns and names level by level, and what it takes to compare them.
@Suite("Wildcards")
struct WildcardTests {
    private static let many = ["#", ">", "**"]

    /// As the rule is written, at any price.
    private static func matches(_ pattern: ArraySlice<String>, _ name: ArraySlice<String>) -> Bool {
        guard let first = pattern.first else { return name.isEmpty }
        let rest = pattern.dropFirst()
        if many.contains(first) {
            return matches(rest, name) || !name.isEmpty && matches(pattern, name.dropFirst())
        }
        guard let level = name.first, first == "*" || first == level else { return false }
        return matches(rest, name.dropFirst())
    }

    private static func compare(_ pattern: String, _ name: String) -> (isMatch: Bool, levelCount: Int) {
        var (pattern, name, levelCount) = (pattern, name, 0)
        let isMatch = pattern.withUTF8 { pattern in
            name.withUTF8 { name in
                var middle = Wildcard.Middle()
                return Wildcard.matches(
                    UnsafeRawBufferPointer(pattern), UnsafeRawBufferPointer(name), &middle, levelCount: &levelCount)
            }
        }
        return (isMatch, levelCount)
    }

    @Test("Patterns match what a search through all possibilities finds")
    func reference() {
        var random = SplitMix(state: 7)
        var matchCount = 0
        func levels(_ kinds: [String], _ countMax: Int) -> [String] {
            (0...random.next(countMax)).map { _ in kinds[random.next(kinds.count)] }
        }
        func joined(_ levels: [String]) -> String {
            levels.dropFirst().reduce(levels[0]) { $0 + (random.next(4) == 0 ? "/" : ".") + $1 }
        }
        for _ in 0..<100_000 {
            let pattern = levels(["", "a", "b", "a*", "*", "#", ">", "**", "#"], 8)
            let name = levels(["", "a", "b", "a*"], 9)
            let (patternText, nameText) = (joined(pattern), joined(name))
            let expected = Self.matches(pattern[...], name[...])
            let (isMatch, levelCount) = Self.compare(patternText, nameText)
            #expect(isMatch == expected, "'\(patternText)' and '\(nameText)'")
            #expect(levelCount <= max(pattern.count * name.count, pattern.count + name.count))
            if expected { matchCount += 1 }
        }
        #expect(matchCount > 10_000)
    }

    @Test("Patterns of many levels, and long ones, match what a table of all possibilities finds")
    func middles() {
        var random = SplitMix(state: 11)
        var middle = Wildcard.Middle()
        var matchCounts = [0, 0]
        let kinds = ["a", "b", "12345678", "123456789", "12345678x", "1234567", "87654321", "*", "#"]
        for round in 0..<20_000 {
            // Of more than 64 levels, now and then.
            let countMax = round % 10 == 0 ? 90 : 20
            let core = (0...random.next(countMax)).map { _ in kinds[random.next(round % 3 == 0 ? 9 : 3)] }
            let pattern = ["#"] + core + ["#"]
            middle.reset()
            for _ in 0..<3 {
                // Most of the pattern, with what its wildcards may stand for, and sometimes a level more, or another one.
                var name = core.flatMap { level in
                    level == "#"
                        ? (0..<random.next(3)).map { _ in kinds[random.next(7)] }
                        : [level == "*" ? kinds[random.next(7)] : level]
                }
                if random.next(2) == 0 { name.insert("b", at: random.next(name.count + 1)) }
                if random.next(3) == 0, !name.isEmpty { name[random.next(name.count)] = "a" }
                name = ["a"] + name
                var (patternText, nameText) = (pattern.joined(separator: "."), name.joined(separator: "."))
                var levelCount = 0
                let isMatch = patternText.withUTF8 { pattern in
                    nameText.withUTF8 { name in
                        Wildcard.matches(
                            UnsafeRawBufferPointer(pattern), UnsafeRawBufferPointer(name), &middle,
                            levelCount: &levelCount)
                    }
                }
                #expect(isMatch == Self.isFound(core, name), "'\(patternText)' and '\(nameText)'")
                matchCounts[isMatch ? 1 : 0] += 1
            }
        }
        #expect(matchCounts.min()! > 5_000)
    }

    /// By a table of all pairs of levels: whether the pattern's first i match some j of the name, wherever they begin.
    private static func isFound(_ pattern: [String], _ name: [String]) -> Bool {
        var reached = Array(repeating: true, count: name.count + 1)
        for level in pattern {
            var next = Array(repeating: false, count: name.count + 1)
            for position in 0...name.count {
                if many.contains(level) {
                    next[position] = reached[position] || position > 0 && next[position - 1]
                } else if position > 0, reached[position - 1] {
                    next[position] = level == "*" || level == name[position - 1]
                }
            }
            reached = next
        }
        return reached.contains(true)
    }

    @Test("To look for a pattern made to be looked for everywhere takes a step for each of its levels and the name's")
    func worst() {
        let name = "/topic/" + String(repeating: "a.", count: 30) + "x"
        let pattern = "/topic/#." + String(repeating: "a.", count: 14) + "b.#.c.#"
        let (isMatch, levelCount) = Self.compare(pattern, name)
        #expect(!isMatch)
        // The topic's "topic", the pattern's 16 between the first "#" and the last, and what is left of the name.
        #expect(levelCount == 2 + 16 + 31)
    }

    @Test("What does not match in the levels at the ends is not looked for in the middle")
    func ends() {
        let name = "/topic/" + String(repeating: ".", count: 242) + "x00000"
        #expect(Self.compare("/topic/#" + String(repeating: ".", count: 125) + "b", name).levelCount < 5)
        #expect(Self.compare("/topic/b.#." + String(repeating: "#.", count: 100) + "x00000", name).levelCount < 5)
    }

    @Test("Destinations and patterns may have so many levels")
    func levels() {
        let options = TestBroker.options { $0.limits.destinationLevelCountMax = 4 }
        withBroker(options) { broker in
            let prefixes = ["/topic/", "/queue/", "/temp-queue/", "/temp-topic/", "/exchange/amq.topic/", ""]
            for (prefix, separator) in prefixes.flatMap({ [($0, "."), ($0, "/")] }) {
                for command in [Command.send, .subscribe] {
                    let client = broker.connect()
                    let fitting = prefix + ["a", "b", "c", "d"].joined(separator: separator)
                    client.confirmed(command, [("destination", fitting), ("id", "1")])
                    client.send(
                        command, [("destination", fitting + separator), ("id", "2"), ("receipt", "r")])
                    let error = client.expectError("Invalid destination", receipt: "r")
                    #expect(error?.text.contains("limits.destination-levels-max") == true)
                    client.hangUp()
                    broker.run()
                }
            }
            let pattern = broker.connect()
            pattern.confirmed(.subscribe, [("destination", "/topic/#.*.a.#"), ("id", "1")])
            pattern.send(.subscribe, [("destination", "/topic/#.*.a.#.#"), ("id", "2")])
            pattern.expectError("Invalid destination")
            let service = broker.connect()
            service.confirmed(.subscribe, [("destination", "/queue/service"), ("id", "1")])
            let asker = broker.connect()
            asker.confirmed(.send, [("destination", "/queue/service"), ("reply-to", "/temp-queue/a.b.c.d")], "?")
            // The name that the broker gives out instead has a level more.
            service.confirmed(.send, [("destination", service.messages()[0]["reply-to"]!)], "!")
            #expect(asker.bodies() == ["!"])
            asker.send(.send, [("destination", "/queue/service"), ("reply-to", "/temp-queue/a.b.c.d.e")], "?")
            let error = asker.expectError("Invalid destination")
            #expect(error?.text.contains("limits.destination-levels-max") == true)
            for client in broker.clients where !client.socket.isClosed { client.hangUp() }
            broker.run()
        }
    }

    @Test("A client whose patterns are compared with many topics gets its turns, and others theirs between")
    func costlyPatterns() {
        withBroker { broker in
            let publisher = broker.connect()
            for index in 0..<5_000 { publisher.publish("/topic/a.\(index)", "x") }
            broker.run()
            let eager = broker.connect()
            eager.write((0..<50).map { "SUBSCRIBE\nid:\($0)\ndestination:/topic/#.b\($0)\n\n\0" }.joined())
            broker.turn(0)
            #expect((1..<5).contains(broker.audit().patterns))
            broker.run()
            #expect(broker.audit().patterns == 50)
        }
    }

    @Test("A client whose topics are compared with many patterns gets its turns, and others theirs between")
    func costlyTopics() {
        withBroker { broker in
            let subscriber = broker.connect()
            for index in 0..<1_000 { subscriber.subscribe("/topic/#.b\(index)", id: "\(index)") }
            broker.run()
            #expect(broker.audit().patterns == 1_000)
            let before = broker.shard(0).pointee.destinationCount
            let eager = broker.connect()
            eager.write((0..<200).map { "SEND\ndestination:/topic/a.\($0)\n\nx\0" }.joined())
            broker.turn(0)
            #expect((1..<20).contains(broker.shard(0).pointee.destinationCount - before))
            broker.run()
            #expect(broker.shard(0).pointee.destinationCount - before == 200)
        }
    }
}
