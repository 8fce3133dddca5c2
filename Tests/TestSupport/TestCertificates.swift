import Foundation
import Transports

/// Certificates that are made for this run of the tests, in a directory that is removed at its end. No key is in the
/// repository.
///
///     ca.pem            signs the certificates below
///     other-ca.pem      signs stranger.pem
///     NAME.pem, NAME.key
final class TestCertificates: Sendable {
    /// Made once for all tests of the process.
    static let shared = TestCertificates()

    let directory: String

    private init() {
        directory = NSTemporaryDirectory() + "stampede-tls-\(UUID().uuidString)"
        try! FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
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

    func file(_ name: String) -> String { "\(directory)/\(name)" }

    func pair(_ name: String) -> TLSOptions.Certificate {
        TLSOptions.Certificate(chainFile: file("\(name).pem"), keyFile: file("\(name).key"))
    }

    func write(_ text: String, to name: String) {
        try! text.write(toFile: file(name), atomically: true, encoding: .utf8)
    }

    func text(of name: String) -> String { try! String(contentsOfFile: file(name), encoding: .utf8) }

    private func makeAuthority(_ name: String) {
        openssl(
            "req", "-x509", "-config", file("openssl.cnf"), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=\(name)", "-addext", "basicConstraints=critical,CA:TRUE",
            "-keyout", file("\(name).key"), "-out", file("\(name).pem"))
    }

    func make(
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
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        let errors = Pipe()
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        try! process.run()
        let text = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        precondition(
            process.terminationStatus == 0, "openssl \(arguments): \(String(decoding: text, as: UTF8.self))")
    }
}
