import Foundation
import Permissions
import Testing

@testable import Access

/// The files of access together: who decides, and what is wrong with them.
@Suite("Authenticators")
struct AuthenticatorTests {
    private let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "access-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func file(_ name: String, _ text: String, mode: Int = 0o600) throws -> String {
        let path = folder.appending(path: name).path
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        return path
    }

    private func load(_ settings: AccessSettings) -> Result<Authenticator, AccessError> {
        do throws(AccessError) {
            return .success(try Authenticator.load(settings, UsersFileTests.limits))
        } catch {
            return .failure(error)
        }
    }

    private func decide(_ authenticator: Authenticator, _ login: String, _ passcode: String) -> Decision {
        authenticator.decide(
            Credentials(login: Array(login.utf8), passcode: Array(passcode.utf8)), wallMilliseconds: 1_700_000_000_000,
            CryptScratch())
    }

    private func source(_ decision: Decision) -> AccessIdentity.Source? {
        if case .allowed(let identity) = decision { identity.source } else { nil }
    }

    private func refusal(_ decision: Decision) -> LoginRefusal? {
        if case .refused(let refusal) = decision { refusal } else { nil }
    }

    @Test("The first that knows the name decides")
    func chain() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        var settings = AccessSettings()
        settings.usersFile = try file("users.yaml", UsersFileTests.text)
        settings.tokenSecretFile = try file("secret", "0123456789abcdef\n")
        settings.jwtKeyFile = try file("key.pem", WebTokenFixtures.ed25519, mode: 0o644)
        settings.jwtAudience = "stampede"
        settings.anonymousRoles = "reader, publisher"
        let authenticator = try load(settings).get()
        #expect(authenticator.warnings.isEmpty, "\(authenticator.warnings)")
        #expect(source(decide(authenticator, "alice", "secret")) == .user)
        #expect(refusal(decide(authenticator, "alice", "Secret")) == .wrongPasscode)
        #expect(refusal(decide(authenticator, "nobody", "secret")) == .neitherUserNorToken)
        #expect(refusal(decide(authenticator, "alice", "")) == .noPasscode)
        let token = "alice 1700000000 n1"
        #expect(source(decide(authenticator, token, "U7Vi4b9+5n6GK16//KtcNNQYb+s=")) == .token)
        #expect(refusal(decide(authenticator, token, "secret")) == .wrongProof)
        #expect(refusal(decide(authenticator, token, "")) == .noPasscode)
        #expect(source(decide(authenticator, "", WebTokenFixtures.edDSA)) == .jwt)
        // The users file has a hash for alice, so her password decides.
        #expect(refusal(decide(authenticator, "alice", WebTokenFixtures.edDSA)) == .wrongPasscode)
        #expect(source(decide(authenticator, "", "")) == .anonymous)
        #expect(refusal(decide(authenticator, "", "secret")) == .noLoginNoToken)
        #expect(refusal(decide(authenticator, "c d", "")) == .loginWithoutHash, "without a hash no password lets in")
        // What is told of a login is the same whether the users file has a hash for it or not.
        for refusal in LoginRefusal.allCases {
            for login in ["alice", "nobody"] {
                let credentials = Credentials(login: Array(login.utf8), passcode: Array("eyJ.a.b".utf8))
                let told = authenticator.told(refusal, credentials)
                let isTold = !refusal.isClientsFault || refusal == .serviceNamesNoRole
                #expect(told == (isTold ? refusal : .wrongLogin))
            }
            let token = Credentials(login: nil, passcode: Array("eyJ".utf8))
            #expect(authenticator.told(refusal, token) == refusal.general)
            #expect(refusal.general == refusal.general.general)
        }
        // The log has a reason of its own for each.
        #expect(Set(LoginRefusal.allCases.map { "\($0.explanation)" }).count == LoginRefusal.allCases.count)
    }

    @Test("Without anonymous roles a client needs a login; a file that others may read is warned of")
    func users() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        var settings = AccessSettings()
        settings.usersFile = try file("users.yaml", "users: {a: {hash: \"\(UsersFileTests.hash)\"}}", mode: 0o644)
        let authenticator = try load(settings).get()
        #expect(authenticator.warnings.count == 1 && authenticator.warnings[0].contains("chmod 600"))
        #expect(refusal(decide(authenticator, "", "")) == .noLogin)
        #expect(source(decide(authenticator, "a", "secret")) == .user)
    }

    @Test(
        "A file of somebody else may be readable by its group, which is how a broker's user reads it",
        .enabled(if: geteuid() == 0))
    func group() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        var settings = AccessSettings()
        for (mode, isWarnedOf) in [(0o640, false), (0o600, false), (0o660, true), (0o644, true)] {
            settings.usersFile = try file("users.yaml", "users: {a: {hash: \"\(UsersFileTests.hash)\"}}", mode: mode)
            chown(settings.usersFile, 4_000_001, 4_000_001)
            let warnings = try load(settings).get().warnings
            #expect(warnings.contains { $0.contains("chmod 640") } == isWarnedOf, "\(warnings)")
            try FileManager.default.removeItem(atPath: settings.usersFile)
        }
    }

    @Test("What is wrong in a file, or between files, is told with its place")
    func wrong() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        func problems(_ change: (inout AccessSettings) throws -> Void) throws -> [String] {
            var settings = AccessSettings()
            try change(&settings)
            guard case .failure(let error) = load(settings) else { return [] }
            return error.problems.map(\.description)
        }
        let users = try file("users.yaml", UsersFileTests.text)
        #expect(try problems { $0.usersFile = "/nowhere/users.yaml" }.first?.contains("cannot be read") == true)
        #expect(try problems { $0.usersFile = folder.path }.first?.contains("cannot be read: it is no file") == true)
        #expect(try problems { $0.usersFile = try file("u", "users: [") }.first?.contains("u:") == true)
        // "c d" has no hash.
        #expect(try problems { $0.usersFile = users }.first?.contains("users.c d: has no hash") == true)
        #expect(
            try problems {
                $0.usersFile = users
                $0.anonymousRoles = "reader,nobody"
            }.first?.contains("access.anonymous-roles: unknown role \"nobody\"") == true)
        #expect(try problems { $0.tokenSecretFile = try file("s", "short\n") }.first?.contains("5 bytes") == true)
        #expect(
            try problems { $0.jwtSecretFile = try file("s", "0123456789abcdef") }.first?.contains("at least 32") == true
        )
        #expect(try problems { $0.jwtKeyFile = try file("k", "no key") }.first?.contains("no public key") == true)
        #expect(try problems { $0.jwtKeySetFile = try file("k", "{}") }.first?.contains("no key set") == true)
        #expect(
            try problems {
                $0.jwtKeyFile = try file("k.pem", WebTokenFixtures.rsa)
                $0.jwtRoles = "x"
            }.first?.contains("access.users names no file") == true)
    }

    @Test("The file is replaced at once, is its owner's alone, and a link to it stays one")
    func store() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try file("users.yaml", "users:\n", mode: 0o644)
        let link = folder.appending(path: "link.yaml").path
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
        try UsersFileStore.replace(link, "users:\n", with: "roles:\n")
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "roles:\n")
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == path)
        #expect(throws: UsersFileStore.Failure.self) { try UsersFileStore.replace(path, "users:\n", with: "x") }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["link.yaml", "users.yaml"])
        #expect(try UsersFileStore.read(folder.appending(path: "none").path) == nil)
    }
}
