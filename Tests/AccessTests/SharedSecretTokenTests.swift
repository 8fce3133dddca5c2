import Permissions
import Testing

@testable import Access

/// The logins of xtomp's clients.
@Suite("Tokens with a shared secret")
struct SharedSecretTokenTests {
    private static let login = "alice 1700000000 n1"
    private static let now: UInt64 = 1_700_000_000_000

    private func token(_ algorithm: SharedSecretToken.Algorithm = .sha1) -> SharedSecretToken {
        SharedSecretToken(secret: Array("0123456789abcdef".utf8), algorithm: algorithm, milliseconds: 60_000)
    }

    private func decide(
        _ token: SharedSecretToken, _ login: String, _ passcode: String, now: UInt64 = now
    ) -> Decision? {
        token.decide(
            Credentials(login: Array(login.utf8), passcode: Array(passcode.utf8)), wallMilliseconds: now)
    }

    @Test(
        "The passcode that other programs compute lets in",
        arguments: [
            (SharedSecretToken.Algorithm.sha1, "U7Vi4b9+5n6GK16//KtcNNQYb+s="),
            (.hmacSHA256, "7ZmKqECBfnfjndWDbXfwYtsUwoD9KEXcpijq9NCcW7w="),
        ])
    func vectors(_ algorithm: SharedSecretToken.Algorithm, _ passcode: String) {
        guard case .allowed(let identity)? = decide(token(algorithm), Self.login, passcode) else {
            Issue.record("refused")
            return
        }
        #expect(identity.user == Array("alice".utf8) && identity.source == .token && identity.expiresAt == 0)
        guard case .refused(.noPasscode)? = decide(token(algorithm), Self.login, "") else {
            Issue.record("nothing")
            return
        }
        for wrong in [String(passcode.dropLast()), passcode + "=", passcode.lowercased()] {
            guard case .refused(.wrongProof)? = decide(token(algorithm), Self.login, wrong) else {
                Issue.record("\(wrong)")
                continue
            }
        }
        guard case .refused(.wrongProof)? = decide(token(algorithm), "mallory 1700000000 n1", passcode) else {
            Issue.record("another user's")
            return
        }
    }

    @Test("A token is taken for its time, before and after")
    func time() {
        for (offset, isTaken) in [(0, true), (60_000, true), (60_001, false), (-60_000, true), (-60_001, false)] {
            let now = UInt64(Int(Self.now) + offset)
            let decision = decide(token(), Self.login, "U7Vi4b9+5n6GK16//KtcNNQYb+s=", now: now)
            switch decision {
            case .allowed?: #expect(isTaken)
            case .refused(.tokenExpired)?: #expect(!isTaken)
            default: Issue.record("\(offset)")
            }
        }
    }

    @Test(
        "A login of another form is none of its own",
        arguments: [
            "", "alice", "alice 1700000000", "alice 17000000x0 n", " 1700000000 n", "a b 1700000000 n", "alice  n",
            "alice 1700000000 ", "alice -1 n", "alice 1234567890123 n",
            String(repeating: "a", count: 129) + " 1700000000 n",
        ])
    func forms(_ login: String) { #expect(SharedSecretToken.parse(Array(login.utf8)) == nil) }
}
