import Testing

@testable import Permissions

/// Patterns of the users file, compared with names and with the patterns of subscriptions.
@Suite("Access patterns")
struct AccessPatternTests {
    private static func pattern(_ text: String, user: String = "alice", clientID: String? = nil) throws -> AccessPattern
    {
        let template = try PatternTemplate(text, .creation, nameByteCountMax: 256, levelCountMax: 32)
        return try #require(
            template.pattern(user: Array(user.utf8), clientID: clientID.map { Array($0.utf8) }, isDeny: false))
    }

    private static func bytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        var text = text
        return text.withUTF8 { body(UnsafeRawBufferPointer($0)) }
    }

    @Test(
        "A name belongs to a pattern as topics belong to a subscription",
        arguments: [
            ("/topic/a", "/topic/a", true), ("/topic/a", "/topic/b", false), ("/topic/a", "/topic/a.b", false),
            ("/topic/a", "/queue/a", false), ("/topic/*", "/topic/a", true), ("/topic/*", "/topic/a.b", false),
            ("/topic/#", "/topic/a.b/c", true), ("/topic/>", "/topic/a", true), ("/topic/**", "/topic/a", true),
            ("/topic/a.#", "/topic/a", true), ("/topic/a.#", "/topic/ab", false), ("/topic/a.#.z", "/topic/a.z", true),
            ("/topic/a.#.z", "/topic/a.b.z.z", true), ("/topic/a.#.z", "/topic/a.b.z.y", false),
            ("/topic/a.b", "/topic/a/b", true), ("#", "/queue/anything.at/all", true), ("#", "/topic/x", true),
            ("/topic/*.#", "/topic/a", true), ("/topic/#.*", "/topic/a", true), ("/topic/#.*.#.*", "/topic/a", false),
            ("/topic/#.*.#.*", "/topic/a.b", true), ("/queue/{user}.*", "/queue/alice.x", true),
            ("/queue/{user}.*", "/queue/bob.x", false), ("/queue/in-{user}", "/queue/in-alice", true),
        ])
    func names(_ pattern: String, _ name: String, _ isMember: Bool) throws {
        let compiled = try Self.pattern(pattern)
        #expect(Self.bytes(name) { compiled.contains($0) } == isMember)
    }

    @Test(
        "A subscription lies within a pattern, or it does not",
        arguments: [
            ("/topic/#", "/topic/a.*", true), ("/topic/a.*", "/topic/#", false), ("/topic/a.*", "/topic/a.*", true),
            ("/topic/a.#", "/topic/a.*.b", true), ("/topic/a.*.#", "/topic/a.#", false),
            ("/topic/a.*.#", "/topic/a.#.*", true), ("/topic/a.#.*", "/topic/a.*.#", true),
            ("/topic/#.b", "/topic/a.#.b", true), ("/topic/a.#.b", "/topic/#.b", false), ("#", "/topic/#", true),
            ("/topic/a.*.#", "/topic/a.#.a", true), ("/topic/*", "/topic/#", false), ("/topic/a", "/topic/*", false),
            ("/topic/#", "/queue/#", false), ("/topic/a.>", "/topic/a.**", true), ("/topic/*.*", "/topic/*", false),
        ])
    func subsets(_ pattern: String, _ subscription: String, _ isWithin: Bool) throws {
        let compiled = try Self.pattern(pattern)
        #expect(Self.bytes(subscription) { compiled.contains(pattern: $0) } == isWithin)
    }

    @Test(
        "A subscription that could match one denied name meets the denied pattern",
        arguments: [
            ("/topic/secret.#", "/topic/#", true), ("/topic/secret.#", "/topic/news.#", false),
            ("/topic/secret", "/topic/*", true), ("/topic/secret", "/topic/*.*", false),
            ("/topic/*.secret", "/topic/a.#", true), ("/topic/*.secret", "/topic/#.open", false),
            ("/topic/a.*.c", "/topic/#.b.#", true), ("/topic/a.b", "/topic/a.#.b.#.b", false),
        ])
    func intersections(_ denied: String, _ subscription: String, _ meets: Bool) throws {
        let compiled = try Self.pattern(denied)
        #expect(Self.bytes(subscription) { compiled.intersects(pattern: $0) } == meets)
    }

    @Test("What a client is called is literal, whatever it looks like")
    func substitutions() throws {
        let wild = try Self.pattern("/queue/{user}.in", user: "#")
        #expect(Self.bytes("/queue/alice.in") { !wild.contains($0) })
        #expect(Self.bytes("/queue/#.in") { !wild.contains(pattern: $0) })
        let dotted = try Self.pattern("/queue/{user}.in", user: "a.b@c.org")
        #expect(Self.bytes("/queue/a.b@c.org.in") { dotted.contains($0) })
        #expect(Self.bytes("/queue/a.x@c.org.in") { !dotted.contains($0) })
        let client = try Self.pattern("/queue/{client-id}/{user}", clientID: "7")
        #expect(Self.bytes("/queue/7/alice") { client.contains($0) })
        let template = try PatternTemplate("/queue/{client-id}", .destination, nameByteCountMax: 99, levelCountMax: 9)
        #expect(template.usesClientID && !template.usesUser)
        #expect(template.pattern(user: [1], clientID: nil, isDeny: false) == nil)
        let denied = try #require(template.pattern(user: [1], clientID: nil, isDeny: true))
        #expect(Self.bytes("/queue/any") { denied.contains($0) })
    }

    @Test(
        "A pattern that cannot match says why, and what would",
        arguments: [
            ("topic/a", "begins with"), ("/topics/a", "begins with"), ("/topic/", "a name is missing"),
            ("/topic/a*", "whole levels"), ("/topic/a.b#", "whole levels"), ("/queue/{usr}", "placeholder"),
            ("/queue/{user", "placeholder"), ("/queue/}", "placeholder"), ("/topic/a\u{7}", "control"),
            ("", "begins with"),
            ("/temp-queue/a", "unguessable"), ("/topic/" + String(repeating: "a.", count: 40) + "a", "levels"),
            ("/topic/" + String(repeating: "a", count: 300), "256 bytes"),
        ])
    func failures(_ text: String, _ reason: String) {
        #expect {
            try PatternTemplate(text, .destination, nameByteCountMax: 256, levelCountMax: 32)
        } throws: {
            ($0 as? PatternTemplate.Failure)?.reason.contains(reason) == true
        }
    }

    @Test("Temporary destinations can be created, and only that")
    func temporary() throws {
        let created = try PatternTemplate("/temp-queue/#", .creation, nameByteCountMax: 256, levelCountMax: 32)
        let pattern = try #require(created.pattern(user: [], clientID: nil, isDeny: false))
        #expect(Self.bytes("/temp-queue/a.b") { pattern.contains($0) })
    }

    // MARK: Against a slow one

    /// Whether a pattern matches a list of levels, by trying everything.
    private static func matches(_ pattern: ArraySlice<Substring>, _ name: ArraySlice<Substring>) -> Bool {
        guard let first = pattern.first else { return name.isEmpty }
        if first == "#" {
            return matches(pattern.dropFirst(), name) || !name.isEmpty && matches(pattern, name.dropFirst())
        }
        guard let level = name.first, first == "*" || first == level else { return false }
        return matches(pattern.dropFirst(), name.dropFirst())
    }

    private static func levels(_ text: String) -> ArraySlice<Substring> {
        text.split(separator: ".", omittingEmptySubsequences: false)[...]
    }

    /// All names of up to six levels of three letters; x is in no pattern.
    private static let names: [String] = {
        var all: [String] = []
        var last = ["a", "b", "x"]
        for _ in 0..<6 {
            all += last
            last = last.flatMap { name in ["a", "b", "x"].map { "\(name).\($0)" } }
        }
        return all
    }()

    @Test("Names, subsets and intersections are what trying all names says")
    func exhaustive() throws {
        var generator = SystemRandomNumberGenerator()
        var refusedCount = 0
        for _ in 0..<120 {
            func random() -> String {
                (0..<Int.random(in: 1...4, using: &generator)).map { _ in
                    ["a", "b", "*", "#"].randomElement(using: &generator)!
                }.joined(separator: ".")
            }
            let (allowed, asked) = (random(), random())
            let pattern = try Self.pattern("/topic/\(allowed)")
            let members = Self.names.filter { Self.matches(Self.levels(allowed), Self.levels($0)) }
            for name in Self.names {
                let isMember = Self.bytes("/topic/\(name)") { pattern.contains($0) }
                #expect(isMember == Self.matches(Self.levels(allowed), Self.levels(name)), "\(allowed) \(name)")
            }
            let wanted = Set(Self.names.filter { Self.matches(Self.levels(asked), Self.levels($0)) })
            let isWithin = Self.bytes("/topic/\(asked)") { pattern.contains(pattern: $0) }
            if isWithin { #expect(wanted.isSubset(of: members), "\(asked) in \(allowed)") }
            if !isWithin, wanted.isSubset(of: members) { refusedCount += 1 }
            let meets = Self.bytes("/topic/\(asked)") { pattern.intersects(pattern: $0) }
            if !meets { #expect(wanted.isDisjoint(with: members), "\(asked) and \(allowed)") }
            if meets { #expect(!wanted.isDisjoint(with: members), "\(asked) and \(allowed)") }
        }
        #expect(refusedCount < 8, "subsets that were not recognised")
    }

    @Test("A pattern of the most levels is compared to its end, and one more is refused")
    func longest() throws {
        let literals = Array(repeating: AccessPattern.Level.literal([0x61]), count: AccessPattern.levelCountMax)
        let pattern = try #require(AccessPattern(literals))
        let name = Array(repeating: "a", count: AccessPattern.levelCountMax).joined(separator: ".")
        #expect(Self.bytes(name) { pattern.contains($0) })
        #expect(Self.bytes(name + ".a") { !pattern.contains($0) })
        #expect(AccessPattern(literals + [.single]) == nil)
        let many = try #require(AccessPattern(Array(literals.dropLast()) + [.many]))
        #expect(Self.bytes(name + ".b.c") { many.contains($0) })
    }
}
