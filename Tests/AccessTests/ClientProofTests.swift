import Foundation
import Glibc
import Permissions
import Testing

@testable import Access

/// Logins without a passcode: by certificate and by system user, and which of them a listener accepts.
@Suite("What connections prove")
struct ClientProofTests {
    private static let names = CertificateNames(
        commonName: "alice", subject: "CN=alice,O=Example", dnsNames: ["a.example.org", "b.example.org"],
        emails: ["alice@example.org"], uris: ["urn:user:alice"])

    private static var ownName: String { String(cString: getpwuid(getuid())!.pointee.pw_name) }

    private static let text = """
        users:
          alice: {hash: "\(UsersFileTests.hash)", roles: [reader]}
          carl: {roles: []}
        roles:
          reader: {subscribe: "/topic/#"}

        """

    private func authenticator(
        _ text: String = Self.text, _ change: (inout AccessSettings) -> Void
    ) throws -> Authenticator {
        let path = FileManager.default.temporaryDirectory.appending(path: "proof-\(UUID().uuidString)").path
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var settings = AccessSettings()
        settings.usersFile = path
        change(&settings)
        return try Authenticator.load(settings, UsersFileTests.limits)
    }

    private func problems(_ text: String = Self.text, _ change: (inout AccessSettings) -> Void = { _ in }) -> [String] {
        do {
            _ = try authenticator(text, change)
            return []
        } catch {
            return (error as? AccessError)?.problems.map(\.text) ?? ["\(error)"]
        }
    }

    /// "alice certificate", or the reason of a refusal.
    private func decide(
        _ authenticator: Authenticator, login: String = "", passcode: String = "", listener: Int = 0,
        certificate: CertificateNames? = nil, systemUser: UInt32? = nil
    ) -> String {
        var credentials = Credentials(login: Array(login.utf8), passcode: Array(passcode.utf8))
        credentials.listener = listener
        credentials.certificate = certificate
        credentials.systemUser = systemUser
        switch authenticator.decide(credentials, wallMilliseconds: 1_700_000_000_000, CryptScratch()) {
        case .allowed(let identity):
            return "\(String(decoding: identity.user, as: UTF8.self)) \(identity.source.rawValue)"
        case .refused(let refusal): return "\(refusal)"
        case .unknown: return "unknown"
        }
    }

    @Test(
        "A field of the certificate names the user",
        arguments: [
            (CertificateField.commonName, "alice"), (.subject, "CN=alice,O=Example"), (.dnsName, "a.example.org"),
            (.email, "alice@example.org"), (.uri, "urn:user:alice"),
        ])
    func fields(_ field: CertificateField, _ name: String) throws {
        let users = "users: {\"\(name)\": {}}\nroles: {}"
        let authenticator = try authenticator(users) { $0.certificateField = field }
        #expect(decide(authenticator, certificate: Self.names) == "\(name) certificate")
        #expect(decide(authenticator, certificate: CertificateNames()) == "unusableCertificate")
        #expect(field.user(of: CertificateNames()) == nil)
    }

    @Test(
        "Names that no user can have are no logins",
        arguments: ["", " alice", "a\nb", String(repeating: "a", count: 129)])
    func unusable(_ name: String) {
        #expect(CertificateField.commonName.user(of: CertificateNames(commonName: name)) == nil)
        #expect(CertificateField.none.user(of: Self.names) == nil)
    }

    @Test("Who is not in the users file gets the roles for certificates, or is refused")
    func unknown() throws {
        let bob = CertificateNames(commonName: "bob")
        let strict = try authenticator { $0.certificateField = .commonName }
        #expect(decide(strict, certificate: bob) == "unknownCertificate")
        #expect(decide(strict) == "noLogin")
        let open = try authenticator {
            $0.certificateField = .commonName
            $0.certificateRoles = "reader"
        }
        #expect(decide(open, certificate: bob) == "bob certificate")
        let anonymous = try authenticator {
            $0.certificateField = .commonName
            $0.anonymousRoles = "reader"
        }
        #expect(decide(anonymous, certificate: bob) == "unknownCertificate", "it has said who it is")
        #expect(decide(anonymous, certificate: CertificateNames()) == "unusableCertificate")
        #expect(decide(anonymous) == " anonymous")
        #expect(decide(anonymous, systemUser: 4_000_000_001) == " anonymous", "each client of a Unix socket is one")
        #expect(decide(anonymous, certificate: Self.names) == "alice certificate")
    }

    @Test("A login beside a certificate decides, where anything takes logins")
    func beside() throws {
        let both = try authenticator { $0.certificateField = .commonName }
        let carl = CertificateNames(commonName: "carl")
        #expect(decide(both, login: "alice", passcode: "secret", certificate: carl) == "alice user")
        #expect(decide(both, login: "alice", passcode: "wrong", certificate: Self.names) == "wrongPasscode")
        #expect(decide(both, login: "carl", certificate: carl) == "loginWithoutHash")
        #expect(decide(both, passcode: "secret", certificate: carl) == "carl certificate")
        let only = try authenticator {
            $0.certificateField = .commonName
            $0.listeners = [ListenerAccess(path: "listeners[0]", authenticators: [.certificate])]
        }
        #expect(decide(only, login: "carl", passcode: "x", certificate: carl) == "carl certificate")
        #expect(decide(only, login: "alice", passcode: "secret", certificate: carl) == "loginIsNotProven")
        #expect(decide(only, login: "alice", passcode: "secret") == "noCertificate")
        #expect(decide(only) == "noCertificate")
    }

    @Test("A system user is the user whose entry says so, or has the roles for system users")
    func systemUsers() throws {
        let users = """
            users:
              alice: {roles: [reader], system-users: [\(Self.ownName), 4000000001]}
            roles:
              reader: {subscribe: "/topic/#"}
            """
        let authenticator = try authenticator(users) { _ in }
        #expect(decide(authenticator, systemUser: getuid()) == "alice uid")
        #expect(decide(authenticator, systemUser: 4_000_000_001) == "alice uid")
        #expect(decide(authenticator, systemUser: 4_000_000_002) == "unknownSystemUser")
        #expect(decide(authenticator) == "noLogin")
        let open = try self.authenticator(users) { $0.systemUserRoles = "reader" }
        #expect(decide(open, systemUser: 4_000_000_002) == "4000000002 uid")
        let named = "users: {\(Self.ownName): {hash: \"\(UsersFileTests.hash)\"}}\nroles: {reader: {}}"
        let homonym = try self.authenticator(named) { $0.systemUserRoles = "reader" }
        #expect(decide(homonym, systemUser: getuid()) == "unknownSystemUser", "a user of the same name is another one")
        let other = try self.authenticator {
            $0.systemUserRoles = "reader"
            $0.certificateField = .commonName
        }
        #expect(decide(other, systemUser: getuid()) == "\(Self.ownName) uid")
    }

    @Test("A listener accepts what it names, and what there is")
    func listeners() throws {
        let authenticator = try authenticator {
            $0.certificateField = .commonName
            $0.anonymousRoles = "reader"
            $0.listeners = [
                ListenerAccess(path: "listeners[0]"), ListenerAccess(path: "listeners[1]", authenticators: [.users]),
                ListenerAccess(path: "listeners[2]", authenticators: [.anonymous]),
            ]
        }
        let alice = Self.names
        #expect(decide(authenticator, listener: 0, certificate: alice) == "alice certificate")
        #expect(decide(authenticator, listener: 1, certificate: alice) == "noLogin")
        #expect(decide(authenticator, login: "alice", passcode: "secret", listener: 1) == "alice user")
        #expect(decide(authenticator, listener: 2, certificate: alice) == " anonymous")
        #expect(decide(authenticator, login: "alice", passcode: "secret", listener: 2) == "loginIsNotProven")
        var credentials = Credentials(login: Array("alice".utf8), passcode: [])
        #expect(authenticator.usesHash(credentials))
        credentials.listener = 2
        #expect(!authenticator.usesHash(credentials), "what is remembered of another listener is no login here")
    }

    @Test("What is wrong is told with its place")
    func wrong() {
        #expect(problems().first?.contains("has no hash") == true)
        let nobody = "users: {a: {system-users: nobody-of-this-name}}"
        #expect(problems(nobody).first?.contains("this machine has no user \"nobody-of-this-name\"") == true)
        let twice = "users:\n  a: {system-users: 5}\n  b: {system-users: [\"5\"]}"
        #expect(problems(twice).first?.contains("is the user \"a\" already") == true)
        let unknown = problems {
            $0.certificateField = .commonName
            $0.certificateRoles = "writer"
        }
        #expect(unknown.first?.contains("unknown role \"writer\"") == true)
        for (kind, reason) in [
            (AuthenticatorKind.uid, "system-users"), (.token, "secret-file"), (.jwt, "no key"),
            (.http, "user-path"), (.anonymous, "anonymous-roles"),
        ] {
            let found = problems {
                $0.certificateField = .commonName
                $0.listeners = [ListenerAccess(path: "listeners[0]", authenticators: [kind])]
            }
            #expect(found.count == 1 && found[0].contains(reason), "\(found)")
        }
        let off = problems("users: {a: {hash: \"\(UsersFileTests.hash)\"}}") {
            $0.listeners = [ListenerAccess(path: "listeners[0]", authenticators: [.certificate])]
        }
        #expect(off.first?.contains("user-from is none") == true)
        let none = problems("roles: {r: {}}") {
            $0.anonymousRoles = "r"
            $0.listeners = [ListenerAccess(path: "listeners[0]", authenticators: [.users])]
        }
        #expect(none.first?.contains("no user of access.users has a hash") == true)
    }
}
