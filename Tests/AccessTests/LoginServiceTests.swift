import Foundation
import Permissions
import Testing

@testable import Access

/// The protocol of the service that decides about logins: questions, answers, and what they mean.
@Suite("The login service")
struct LoginServiceTests {
    private static let user = ServiceURL("http://127.0.0.1:8080/auth/user")!
    private static let service = LoginService(user: user, virtualHost: nil, method: .post)

    // MARK: URLs

    @Test(
        "A URL has a scheme, a host, a port and a path",
        arguments: [
            ("http://127.0.0.1:8080/auth/user", "127.0.0.1", 8080, "/auth/user", true),
            ("http://localhost", "localhost", 80, "/", true),
            ("https://auth.example.org", "auth.example.org", 443, "/", false),
            ("https://auth.example.org:1/a?b=c", "auth.example.org", 1, "/a?b=c", false),
            ("http://[::1]:81/x", "::1", 81, "/x", true), ("https://[2001:db8::1]", "2001:db8::1", 443, "/", false),
            ("http://127.0.0.1?a=b", "127.0.0.1", 80, "/?a=b", true),
        ])
    func urls(_ text: String, _ host: String, _ port: Int, _ target: String, _ isLoopback: Bool) throws {
        let url = try #require(ServiceURL(text))
        #expect(url.host == host && Int(url.port) == port && url.target == target && url.isLoopback == isLoopback)
        #expect(ServiceURL(url.description) == url)
    }

    @Test(
        "What is no URL of a service is refused",
        arguments: [
            "", "auth.example.org", "ftp://a/", "http://", "http:///a", "http://a:0/", "http://a:99999/", "http://a:/",
            "http://user@a/", "http://a b/", "http://a/\u{7}", "http://[::1/", "http://ä/", "http://a/#b",
            "http://[a.b]x/",
        ])
    func badURLs(_ text: String) { #expect(ServiceURL(text) == nil) }

    @Test("A name that begins with 127. is not this machine")
    func loopback() {
        #expect(ServiceURL("http://127.0.0.1.example.org/")?.isLoopback == false)
        #expect(ServiceURL("http://localhost.example.org/")?.isLoopback == false)
    }

    // MARK: Questions

    @Test("Credentials are sent as a form, byte by byte")
    func requests() {
        let credentials = Credentials(login: Array("a b&c=ä".utf8), passcode: [0x25, 0xFF, 0x2B])
        let text = String(decoding: Self.service.userRequest(credentials), as: UTF8.self)
        let form = "username=a%20b%26c%3D%C3%A4&password=%25%FF%2B"
        #expect(text.hasPrefix("POST /auth/user HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"))
        #expect(text.contains("\r\nContent-Length: \(form.utf8.count)\r\n"))
        #expect(text.hasSuffix("\r\n\r\n\(form)"))
        let get = LoginService(user: ServiceURL("http://127.0.0.1/a?x=y")!, virtualHost: nil, method: .get)
        let asked = String(decoding: get.userRequest(Credentials(login: [0x61], passcode: [])), as: UTF8.self)
        #expect(asked.hasPrefix("GET /a?x=y&username=a&password= HTTP/1.1\r\n") && asked.hasSuffix("\r\n\r\n"))
        #expect(!asked.contains("Content-Length"))
        let host = Self.service.virtualHostRequest(Self.user, login: [0x61], address: "::1", tags: ["x", "y"])
        #expect(String(decoding: host, as: UTF8.self).hasSuffix("username=a&vhost=%2F&ip=%3A%3A1&tags=x%20y"))
        let unknown = Self.service.virtualHostRequest(Self.user, login: [0x61], address: nil, tags: [])
        #expect(String(decoding: unknown, as: UTF8.self).hasSuffix("ip=unknown&tags="))
    }

    // MARK: Answers

    private static let answers: [(text: String, isEnd: Bool, response: HTTPResponse)] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nallow", false, response("allow")),
        ("HTTP/1.1 200\r\ncontent-length:5\r\n\r\nallow", false, response("allow")),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nallow", false, response("allow")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nallow", false, response("allow")),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 X\r\nContent-Length: 4\r\n\r\ndeny", false, response("deny", 201)),
        (
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 4\r\n\r\ndeny", false,
            response("deny", keeps: false)
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ndeny", false, response("deny", keeps: false)),
        ("HTTP/1.1 200 OK\r\n\r\nallow a b", true, response("allow a b", keeps: false)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", false, response("", 204)),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nall\r\n2 \r\now\r\n0\r\nA: b\r\n\r\n", false,
            response("allow")
        ),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", false, response("", 500)),
    ]

    private static func response(_ body: String, _ status: Int = 200, keeps: Bool = true) -> HTTPResponse {
        HTTPResponse(status: status, body: Array(body.utf8), keepsConnection: keeps)
    }

    @Test("An answer is read when its last byte is there, and not before", arguments: 0..<answers.count)
    func splits(_ index: Int) throws {
        let (text, isEnd, expected) = Self.answers[index]
        let bytes = Array(text.utf8)
        for count in 0..<bytes.count {
            #expect(try HTTPResponse.parse(Array(bytes[..<count]), isEnd: false) == nil, "\(count)")
        }
        #expect(try HTTPResponse.parse(bytes, isEnd: isEnd) == expected)
        if !isEnd {
            let more = try HTTPResponse.parse(bytes + [0x58], isEnd: false)
            #expect(more?.body == expected.body && more?.keepsConnection == false, "bytes that nobody asked for")
            for count in 0..<bytes.count {
                #expect(throws: HTTPResponse.Failure.self, "\(count)") {
                    try HTTPResponse.parse(Array(bytes[..<count]), isEnd: true)
                }
            }
        }
    }

    @Test(
        "What is no answer is refused with the reason",
        arguments: [
            ("SSH-2.0-x\r\n", "begins with \"SSH-2.0-x\""), ("HTTP/2 200\r\n", "not HTTP/1.1"),
            ("HTTP/1.1 abc\r\n", "not HTTP/1.1"), ("HTTP/1.1 099 x\r\n", "not HTTP/1.1"), ("\r\n", "not HTTP/1.1"),
            ("HTTP/1.1 101 x\r\n\r\n", "changes the protocol"), ("HTTP/1.1 200\r\nno header\r\n", "is no header"),
            ("HTTP/1.1 200\r\n folded: x\r\n", "is no header"), ("HTTP/1.1 200\r\na b: x\r\n", "is no header"),
            ("HTTP/1.1 200\r\nContent-Length: -1\r\n", "is no number"),
            ("HTTP/1.1 200\r\nContent-Length: 1, 2\r\n", "several"),
            ("HTTP/1.1 200\r\nContent-Length: \r\nContent-Length: 1x\r\n", "is no number"),
            ("HTTP/1.1 200\r\nContent-Length: 99999999\r\n\r\n", "more than 64 KiB"),
            ("HTTP/1.1 200\r\nTransfer-Encoding: gzip\r\n", "nobody asked for"),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "no length"),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n", "no length"),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", "more than 64 KiB"),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "longer than it says"),
            ("HTTP/1.1 200\r\n" + String(repeating: "a: b\r\n", count: 4000), "too long"),
            ("HTTP/1.1 200\r\na: " + String(repeating: "a", count: 20_000), "no end"),
            ("HTTP/1.1 200\r\n\r\n" + String(repeating: "a", count: 70_000), "more than 64 KiB"),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + String(repeating: "1;" + String(repeating: "x", count: 9_000) + "\r\na\r\n", count: 40),
                "more than 64 KiB"
            ),
        ])
    func badAnswers(_ text: String, _ reason: String) {
        do throws(HTTPResponse.Failure) {
            _ = try HTTPResponse.parse(Array(text.utf8), isEnd: false)
            Issue.record("no failure")
        } catch {
            #expect(error.reason.contains(reason), "\(error.reason)")
        }
    }

    @Test("A body says allow, with tags, or deny, with a reason")
    func verdicts() throws {
        func verdict(_ body: String, _ status: Int = 200) throws -> LoginService.Verdict {
            try LoginService.verdict(Self.response(body, status))
        }
        #expect(try verdict("allow") == .allowed(tags: []))
        #expect(try verdict("Allow administrator  reader\r\n", 201) == .allowed(tags: ["administrator", "reader"]))
        #expect(try verdict(" DENY\n") == .denied(reason: ""))
        #expect(try verdict("deny the account is locked") == .denied(reason: "the account is locked"))
        for body in ["", "allowed", "yes", "<html>", "denied", "all ow"] {
            #expect(throws: HTTPResponse.Failure.self, "\(body)") { try verdict(body) }
        }
        #expect(throws: HTTPResponse.Failure.self) { try verdict("allow", 500) }
        #expect(throws: HTTPResponse.Failure.self) { try verdict("allow", 204) }
        #expect(throws: HTTPResponse.Failure.self) {
            try LoginService.verdict(HTTPResponse(status: 200, body: [0xFF], keepsConnection: true))
        }
    }

    // MARK: Deciding

    private func authenticator(_ change: (inout AccessSettings) -> Void = { _ in }) throws -> Authenticator {
        let path = FileManager.default.temporaryDirectory.appending(path: "service-\(UUID().uuidString)").path
        try UsersFileTests.text.write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var settings = AccessSettings()
        settings.usersFile = path
        settings.serviceUserURL = "http://127.0.0.1:8080/user"
        change(&settings)
        return try Authenticator.load(settings, UsersFileTests.limits)
    }

    @Test("The service is asked about those whom nobody else knows")
    func chain() throws {
        let authenticator = try authenticator {
            $0.listeners = [
                ListenerAccess(path: "listeners[0]"), ListenerAccess(path: "listeners[1]", authenticators: [.users]),
            ]
        }
        func decide(_ login: String, _ passcode: String, listener: Int = 0) -> String {
            var credentials = Credentials(login: Array(login.utf8), passcode: Array(passcode.utf8))
            credentials.listener = listener
            #expect(authenticator.asksService(credentials) == (listener == 0 && !login.isEmpty && login != "alice"))
            switch authenticator.decide(credentials, wallMilliseconds: 0, CryptScratch()) {
            case .allowed(let identity): return identity.source.rawValue
            case .refused(let refusal): return "\(refusal)"
            case .unknown: return "unknown"
            }
        }
        #expect(authenticator.service?.user.port == 8080 && authenticator.service?.virtualHost == nil)
        #expect(decide("alice", "secret") == "user")
        #expect(decide("alice", "wrong") == "wrongPasscode", "the users file knows her")
        #expect(decide("erin", "secret") == "unknown")
        #expect(decide("c d", "secret") == "unknown", "no hash")
        #expect(decide("erin", "secret", listener: 1) == "unknownLogin")
        #expect(decide("", "secret") == "noLogin")
        let name = Credentials(login: [0x61, 0x0A], passcode: [])
        guard case .refused(.unknownLogin) = authenticator.decide(name, wallMilliseconds: 0, CryptScratch()) else {
            Issue.record("no user can have this name")
            return
        }
    }

    @Test("Tags that are names of roles are the roles; others have those of the configuration, or none")
    func tags() throws {
        func roles(_ authenticator: Authenticator, _ login: String, _ tags: [String]) -> [String]? {
            let decision = authenticator.decide(Credentials(login: Array(login.utf8), passcode: nil), tags: tags)
            guard case .allowed(let identity) = decision else { return nil }
            return identity.roles
        }
        let strict = try authenticator()
        #expect(roles(strict, "erin", ["administrator", "reader"]) == ["reader"])
        #expect(roles(strict, "erin", ["administrator"]) == nil)
        #expect(roles(strict, "bob", []) == [], "the users file has bob's roles")
        let open = try authenticator { $0.serviceRoles = "publisher" }
        #expect(roles(open, "erin", ["administrator"]) == [])
        let identity = AccessIdentity(user: Array("erin".utf8), source: .service)
        #expect(open.table.permissions(of: identity, clientID: nil) != nil)
        #expect(strict.table.permissions(of: identity, clientID: nil) == nil)
    }
}
