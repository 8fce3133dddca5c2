import Testing

@testable import Transports

@Suite("The handshake of WebSocket")
struct HTTPUpgradeTests {
    static let key = "dGhlIHNhbXBsZSBub25jZQ=="

    static func request(
        _ line: String = "GET /ws HTTP/1.1", removing name: String = "", adding lines: [String] = []
    ) -> [UInt8] {
        let headers = [
            "Host: 127.0.0.1:15674", "Upgrade: websocket", "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: \(key)",
        ].filter { name.isEmpty || !$0.hasPrefix(name + ":") }
        return Array(([line] + headers + lines + ["", ""]).joined(separator: "\r\n").utf8)
    }

    static var listener: ListenerTransport {
        var listener = ListenerTransport()
        listener.kind = .ws
        listener.origins = OriginRules(origins: [], ownHosts: ["127.0.0.1", "localhost"])
        return listener
    }

    static func judge(_ bytes: [UInt8]) -> Result<HTTPUpgrade, HTTPRefusal> {
        withBytes(bytes) { bytes in
            switch HTTPUpgrade.head(bytes, from: 0) {
            case .incomplete: return .failure(.malformed("incomplete"))
            case .refused(let refusal): return .failure(refusal)
            case .complete(let count):
                let head = UnsafeRawBufferPointer(rebasing: bytes[..<count])
                return Result { () throws(HTTPRefusal) in try HTTPUpgrade(head, for: listener) }
            }
        }
    }

    static func status(_ bytes: [UInt8]) -> Int {
        switch judge(bytes) {
        case .success: 101
        case .failure(let refusal): refusal.status
        }
    }

    @Test func `the example of the RFC is answered as the RFC has it`() throws {
        let upgrade = try Self.judge(Self.request()).get()
        let answer = String(decoding: upgrade.answer, as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
        #expect(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
        #expect(answer.contains("\r\nUpgrade: websocket\r\n"))
        #expect(answer.contains("\r\nConnection: Upgrade\r\n"))
        #expect(answer.hasSuffix("\r\n\r\n"))
        #expect(!answer.contains("Protocol:"))
        #expect(upgrade.subprotocol == .none)
    }

    @Test func `SHA-1 and base64 are those of their standards`() {
        let cases = [
            ("", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="), ("abc", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),
            ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "hJg+RBw70m66rkqh+VEp5eVGcPE="),
        ]
        for (text, digest) in cases {
            #expect(String(decoding: AcceptKey.base64(AcceptKey.sha1(Array(text.utf8))), as: UTF8.self) == digest)
        }
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            #expect(String(decoding: AcceptKey.base64(Array(text.utf8)), as: UTF8.self) == encoded)
        }
    }

    @Test func `the end of the head is found in whatever pieces it comes`() {
        let bytes = Self.request() + [0x81, 0x80, 1, 2, 3, 4]
        let headByteCount = bytes.count - 6
        for count in 0..<headByteCount {
            let head = withBytes(Array(bytes[..<count])) { HTTPUpgrade.head($0, from: 0) }
            guard case .incomplete(let searched) = head else {
                Issue.record("\(count) bytes: \(head)")
                continue
            }
            for next in [count + 1, headByteCount, bytes.count] {
                let head = withBytes(Array(bytes[..<next])) { HTTPUpgrade.head($0, from: searched) }
                let isComplete = head == .complete(byteCount: headByteCount)
                #expect(isComplete == (next >= headByteCount), "\(count), then \(next)")
            }
        }
    }

    @Test(arguments: [
        ("v12.stomp", HTTPUpgrade.Subprotocol.v12), ("v11.stomp", .v11), ("v10.stomp", .v10), ("mqtt", .none),
        ("v10.stomp, v11.stomp, v12.stomp", .v12), ("v10.stomp,v11.stomp", .v11), ("mqtt,  v10.stomp ,x", .v10),
        ("V12.STOMP", .none), (", ,", .none),
    ])
    func `the highest version that is offered is agreed on`(_ offer: String, _ agreed: HTTPUpgrade.Subprotocol) throws {
        let upgrade = try Self.judge(Self.request(adding: ["Sec-WebSocket-Protocol: \(offer)"])).get()
        #expect(upgrade.subprotocol == agreed)
        let line = "\r\nSec-WebSocket-Protocol: \(agreed.name)\r\n"
        #expect(String(decoding: upgrade.answer, as: UTF8.self).contains(line) == (agreed != .none))
    }

    @Test func `offers may be spread over headers`() throws {
        let lines = ["Sec-WebSocket-Protocol: v10.stomp", "sec-websocket-protocol: v11.stomp"]
        #expect(try Self.judge(Self.request(adding: lines)).get().subprotocol == .v11)
        #expect(HTTPUpgrade.Subprotocol.v11.versionBits == 0b010)
        #expect(HTTPUpgrade.Subprotocol.none.versionBits == 0b111)
    }

    static let accepted: [[UInt8]] = [
        request("GET /stomp HTTP/1.1"), request("GET / HTTP/1.1"), request("GET /ws?token=1&x=%20 HTTP/1.1"),
        request("GET http://127.0.0.1:15674/ws HTTP/1.1"),
        request(removing: "Upgrade", adding: ["UPGRADE: h2c, WebSocket"]),
        request(removing: "Connection", adding: ["connection: keep-alive", "connection: \t upgrade \t"]),
        request(adding: ["Origin: http://localhost:8080"]), request(adding: ["Origin: https://127.0.0.1"]),
        request(adding: ["X-Empty:", "X-Latin: \u{E9}"]), request(adding: ["Content-Length: 0"]),
        request(adding: (0..<59).map { "X-\($0): y" }),
    ]

    @Test(arguments: accepted.indices)
    func `a handshake in order is accepted`(_ index: Int) {
        #expect(Self.status(Self.accepted[index]) == 101)
    }

    static let refused: [(Int, [UInt8])] = [
        (400, request(removing: "Host")), (400, request(adding: ["Host: other"])),
        (400, request(removing: "Connection")), (400, request(removing: "Connection", adding: ["Connection: close"])),
        (400, request(removing: "Sec-WebSocket-Key")), (400, request(adding: ["Sec-WebSocket-Key: \(key)"])),
        (400, request(removing: "Sec-WebSocket-Key", adding: ["Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="])),
        (400, request(removing: "Sec-WebSocket-Key", adding: ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!"])),
        (400, request(removing: "Sec-WebSocket-Version")),
        (426, request(removing: "Sec-WebSocket-Version", adding: ["Sec-WebSocket-Version: 8"])),
        (426, request(removing: "Upgrade")), (426, request(removing: "Upgrade", adding: ["Upgrade: h2c"])),
        (426, request("HEAD /ws HTTP/1.1")), (405, request("POST /ws HTTP/1.1")), (404, request("GET /x HTTP/1.1")),
        (404, request("GET /ws/ HTTP/1.1")), (404, request("GET /WS HTTP/1.1")), (404, request("GET //ws HTTP/1.1")),
        (404, request("GET /%77s HTTP/1.1")), (404, request("POST /favicon.ico HTTP/1.1")),
        (400, request("GET /ws HTTP/1.0")), (400, request("GET /ws HTTP/2")), (400, request("GET /ws")),
        (400, request("GET  /ws HTTP/1.1")), (400, request("GET ws HTTP/1.1")), (400, request("GET http://a HTTP/1.1")),
        (400, request("GET /ws\t HTTP/1.1")), (400, request("GET /w\u{E9} HTTP/1.1")),
        (400, request("get/ws HTTP/1.1")),
        (400, request(adding: [" folded"])), (400, request(adding: ["X : y"])), (400, request(adding: [": y"])),
        (400, request(adding: ["X"])), (400, request(adding: ["X: a\u{1}b"])), (400, request(adding: ["X: a\rb"])),
        (400, request(adding: ["X: a\nY: b"])), (400, request(adding: ["Content-Length: 5"])),
        (400, request(adding: ["Transfer-Encoding: chunked"])),
        (403, request(adding: ["Origin: http://evil.example"])), (403, request(adding: ["Origin: null"])),
        (403, request(adding: ["Origin: http://localhost.evil.example"])), (403, request(adding: ["Origin:"])),
        (400, request(adding: ["Origin: http://localhost", "Origin: http://localhost"])),
        (431, request(adding: (0..<60).map { "X-\($0): y" })),
        (431, request(adding: ["X: " + String(repeating: "y", count: 8192)])),
        (400, Array("CONNECT\naccept-version:1.2\n\n\0".utf8)), (400, [0x16, 0x03, 0x01, 0x02, 0x00]),
        (400, Array("\r\n\r\nGET / HTTP/1.1\r\n\r\n".utf8)), (400, [UInt8](repeating: 0x41, count: 24)),
    ]

    @Test(arguments: refused.indices)
    func `one that is not is refused with its status`(_ index: Int) {
        let (status, bytes) = Self.refused[index]
        #expect(Self.status(bytes) == status, "\(String(decoding: bytes.prefix(400), as: UTF8.self))")
    }

    @Test func `each refusal is a whole answer that says what is wrong`() throws {
        let refusals: [HTTPRefusal] = [
            .malformed("there is no Host"), .originNotAllowed("null"), .unknownPath("/ws"), .methodNotAllowed,
            .upgradeRequired("/ws"), .headTooLarge,
        ]
        for refusal in refusals {
            let answer = String(decoding: refusal.answer, as: UTF8.self)
            let parts = answer.split(separator: "\r\n\r\n", maxSplits: 1)
            #expect(parts.count == 2)
            #expect(answer.hasPrefix("HTTP/1.1 \(refusal.status) "))
            #expect(answer.contains("\r\nContent-Length: \(parts[1].utf8.count)\r\n"))
            #expect(String(parts[1]) == refusal.explanation + "\n")
        }
        let page = String(decoding: HTTPRefusal.upgradeRequired("/ws").answer, as: UTF8.self)
        #expect(page.contains("\r\nUpgrade: websocket\r\n") && page.contains("STOMP over WebSocket"))
    }

    @Test func `what the request says of the client is told`() throws {
        let bytes = Self.request(
            "GET /ws?x=1 HTTP/1.1",
            adding: ["Origin: http://localhost", "Authorization: Bearer abc", "Sec-WebSocket-Protocol: v12.stomp"])
        let identity = try #require(withBytes(bytes) { WebSocketIdentity($0) })
        #expect(identity.origin == "http://localhost")
        #expect(identity.path == "/ws")
        #expect(identity.authorization == Array("Bearer abc".utf8))
        #expect(identity.subprotocol == .v12)
        #expect(try #require(withBytes(Self.request()) { WebSocketIdentity($0) }).origin == nil)
    }
}

@Suite("Origins")
struct OriginRulesTests {
    static func allows(_ rules: OriginRules, _ origin: String, host: String = "broker.example.org:15674") -> Bool {
        rules.allow(Array(origin.utf8), host: Array(host.utf8))
    }

    @Test func `a configured origin is compared as a whole, in any case of letters`() {
        let rules = OriginRules(origins: ["https://Shop.example.org", "http://[::1]:8080"], ownHosts: ["localhost"])
        #expect(Self.allows(rules, "https://shop.example.org"))
        #expect(Self.allows(rules, "HTTPS://SHOP.example.org"))
        #expect(Self.allows(rules, "http://[::1]:8080"))
        for origin in [
            "http://shop.example.org", "https://shop.example.org:8443", "https://shop.example.org.evil.example",
            "https://example.org", "https://xshop.example.org", "http://localhost", "null", "",
        ] { #expect(!Self.allows(rules, origin), "\(origin)") }
    }

    @Test func `an asterisk stands for one label or more`() {
        let rules = OriginRules(origins: ["https://*.example.org"])
        #expect(Self.allows(rules, "https://a.example.org"))
        #expect(Self.allows(rules, "https://a.b.example.org"))
        for origin in [
            "https://example.org", "https://.example.org", "http://a.example.org", "https://a.example.org:443",
            "https://evil.example/.example.org", "https://user@a.example.org", "https://aexample.org",
            "https://a..example.org", "https://evil.example#.example.org",
        ] { #expect(!Self.allows(rules, origin), "\(origin)") }
    }

    @Test func `without configured origins only pages of the listener's own host may connect`() {
        let rules = OriginRules(origins: [], ownHosts: ["127.0.0.1", "localhost", "[::1]"])
        for origin in ["http://127.0.0.1", "https://localhost:3000", "http://[::1]:5"] {
            #expect(Self.allows(rules, origin), "\(origin)")
        }
        // A name that the page's owner has made to mean 127.0.0.1: Host and Origin agree, and prove nothing.
        #expect(!Self.allows(rules, "http://evil.example", host: "evil.example"))
        for origin in [
            "http://127.0.0.2", "null", "localhost", "file://", "http://localhost.evil.example", "://localhost",
        ] {
            #expect(!Self.allows(rules, origin), "\(origin)")
        }
    }

    @Test func `a listener of all addresses trusts pages of the address that was asked for`() {
        let rules = OriginRules(origins: [], ownHosts: ["localhost"], isUnspecified: true)
        #expect(Self.allows(rules, "http://192.0.2.1:8080", host: "192.0.2.1:15674"))
        #expect(Self.allows(rules, "http://[2001:db8::1]", host: "[2001:db8::1]:15674"))
        #expect(!Self.allows(rules, "http://192.0.2.2", host: "192.0.2.1:15674"))
        #expect(!Self.allows(rules, "http://evil.example", host: "evil.example"))
    }

    @Test func `patterns are checked`() {
        for text in ["https://example.org", "http://*.example.org:8080", "https://localhost", "http://[::1]:80"] {
            #expect(OriginRules.isPattern(text), "\(text)")
        }
        for text in [
            "*", "example.org", "https://", "https://*", "https://a.*.org", "https://a.org/", "https://a.org:x", "",
        ] {
            #expect(!OriginRules.isPattern(text), "\(text)")
        }
    }
}
