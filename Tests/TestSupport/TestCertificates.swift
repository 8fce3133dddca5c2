import Glibc
public import Transports

/// Certificates that are made for this run of the tests, in a directory that is removed at its end. No key is in the
/// repository.
///
///     ca.pem            signs the certificates below
///     other-ca.pem      signs stranger.pem
///     NAME.pem, NAME.key
public final class TestCertificates: Sendable {
    /// Made once for all tests of the process.
    public static let shared = TestCertificates()

    public let directory: String
    private static let kept = Monitor<TemporaryDirectory?>(nil)

    private static func remove() { kept.withLock { $0 = nil } }

    private init() {
        let folder = try! TemporaryDirectory()
        directory = folder.path
        Self.kept.withLock { $0 = folder }
        atexit { TestCertificates.remove() }
        // Without a configuration of its own, the command would read the machine's.
        write("[req]\ndistinguished_name = dn\n[dn]\n", to: "openssl.cnf")
        makeAuthority("ca")
        makeAuthority("other-ca")
        make("server", subject: "/CN=server", names: "DNS:localhost,DNS:broker.example.org,IP:127.0.0.1")
        make("web", subject: "/CN=web", names: "DNS:web.example.org,DNS:*.web.example.org")
        make("wild", subject: "/CN=wild", names: "DNS:*.example.org")
        make("unnamed", subject: "/O=Example")
        make(
            "alice", subject: "/O=Example/CN=alice",
            names: "email:alice@example.org,URI:urn:user:alice,DNS:a.example.org")
        make("stranger", subject: "/CN=stranger", authority: "other-ca")
        openssl("pkey", "-in", file("server.key"), "-aes256", "-passout", "pass:secret", "-out", file("encrypted.key"))
        openssl("x509", "-in", file("server.pem"), "-outform", "der", "-out", file("server.der"))
    }

    public func file(_ name: String) -> String { "\(directory)/\(name)" }

    public func pair(_ name: String) -> TLSOptions.Certificate {
        TLSOptions.Certificate(chainFile: file("\(name).pem"), keyFile: file("\(name).key"))
    }

    public func write(_ text: String, to name: String) { write(Array(text.utf8), to: name) }

    public func write(_ bytes: [UInt8], to name: String) {
        // Another file with the same name, as whoever renews a certificate should do it.
        let path = file(name)
        unlink(path)
        let fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        precondition(fd >= 0 && Glibc.write(fd, bytes, bytes.count) == bytes.count, "\(path): errno \(errno)")
        close(fd)
    }

    public func text(of name: String) -> String { try! TemporaryFile.contents(of: file(name)) }

    private func makeAuthority(_ name: String) {
        openssl(
            "req", "-x509", "-config", file("openssl.cnf"), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=\(name)", "-addext", "basicConstraints=critical,CA:TRUE",
            "-keyout", file("\(name).key"), "-out", file("\(name).pem"))
    }

    public func make(
        _ name: String, subject: String, names: String? = nil, authority: String = "ca", days: Int = 30,
        key: [String] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    ) {
        var arguments = ["req", "-x509", "-config", file("openssl.cnf")] + key
        arguments += ["-nodes", "-days", "\(days)", "-subj", subject, "-addext", "basicConstraints=CA:FALSE"]
        if let names { arguments += ["-addext", "subjectAltName=\(names)"] }
        arguments += ["-CA", file("\(authority).pem"), "-CAkey", file("\(authority).key")]
        openssl(arguments + ["-keyout", file("\(name).key"), "-out", file("\(name).pem")])
    }

    private func openssl(_ arguments: String...) { openssl(arguments) }

    private func openssl(_ arguments: [String]) {
        let process = try! ChildProcess("openssl", arguments)
        let status = try! process.waitForExit()
        precondition(status == .exited(0), "openssl \(arguments): \(process.errorLines)")
    }
}
