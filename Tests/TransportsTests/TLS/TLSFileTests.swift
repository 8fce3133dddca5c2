import TestSupport
import Testing

@testable import Transports

@Suite("TLS: files that cannot be used")
struct TLSFileTests {
    private static var files: TestCertificates { .shared }

    /// The problem of a context with this certificate.
    private static func problem(
        _ chain: String, _ key: String, authorities: String? = nil, now: Int64 = TestContexts.now
    ) -> TLSProblem? {
        var options = TLSOptions()
        options.certificates = [TLSOptions.Certificate(chainFile: files.file(chain), keyFile: files.file(key))]
        if let authorities {
            options.clientCertificates = .required
            options.clientAuthoritiesFile = files.file(authorities)
        }
        do throws(TLSProblem) {
            _ = try TLSContext(server: options, protocol: .stomp, tickets: TestContexts.tickets, nowSeconds: now)
            return nil
        } catch {
            return error
        }
    }

    private static func expect(
        _ problem: TLSProblem?, _ role: TLSProblem.Role, _ file: String, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(problem?.role == role, sourceLocation: sourceLocation)
        #expect(problem?.file == files.file(file), sourceLocation: sourceLocation)
        for text in texts {
            #expect(problem?.text.contains(text) == true, "\(problem?.text ?? "")", sourceLocation: sourceLocation)
        }
    }

    @Test("Files that are missing, directories, empty or too long")
    func unreadable() {
        Self.expect(
            Self.problem("none.pem", "server.key"), .certificate(index: 0), "none.pem", "No such file or directory")
        Self.expect(Self.problem("server.pem", "none.key"), .key(index: 0), "none.key", "No such file or directory")
        Self.expect(Self.problem(".", "server.key"), .certificate(index: 0), ".", "is not a file")
        Self.files.write("", to: "empty.pem")
        Self.expect(Self.problem("empty.pem", "server.key"), .certificate(index: 0), "empty.pem", "it is empty")
        Self.files.write(String(repeating: "x", count: TLSFiles.byteCountMax + 1), to: "long.pem")
        Self.expect(Self.problem("long.pem", "server.key"), .certificate(index: 0), "long.pem", "at most")
        Self.expect(
            Self.problem("server.pem", "server.key", authorities: "none.pem"), .authorities, "none.pem", "No such file")
    }

    @Test("Certificate and key exchanged, of different pairs, or not PEM")
    func exchanged() {
        Self.expect(
            Self.problem("server.key", "server.pem"), .certificate(index: 0), "server.key",
            "are certificate and key exchanged?")
        Self.expect(
            Self.problem("server.pem", "server.pem"), .key(index: 0), "server.pem", "are certificate and key exchanged?"
        )
        Self.expect(
            Self.problem("server.pem", "web.key"), .key(index: 0), "web.key", "does not belong",
            Self.files.file("server.pem"))
        Self.expect(
            Self.problem("server.der", "server.key"), .certificate(index: 0), "server.der", "DER", "-inform der")
        Self.files.write("some text\n", to: "text.pem")
        Self.expect(Self.problem("text.pem", "server.key"), .certificate(index: 0), "text.pem", "BEGIN CERTIFICATE")
        Self.expect(
            Self.problem("server.pem", "server.key", authorities: "text.pem"), .authorities, "text.pem",
            "BEGIN CERTIFICATE")
        Self.expect(
            Self.problem("server.pem", "server.key", authorities: "ca.key"), .authorities, "ca.key", "private key")
    }

    @Test("An encrypted key is refused, and nobody is asked for its passphrase")
    func encrypted() {
        Self.expect(
            Self.problem("server.pem", "encrypted.key"), .key(index: 0), "encrypted.key", "encrypted", "openssl pkey")
    }

    @Test("A certificate that is not valid now is refused")
    func validity() {
        let day: Int64 = 86_400
        Self.expect(
            Self.problem("server.pem", "server.key", now: TestContexts.now + 31 * day), .certificate(index: 0),
            "server.pem", "expired on 20", "UTC")
        Self.expect(
            Self.problem("server.pem", "server.key", now: TestContexts.now - day), .certificate(index: 0),
            "server.pem", "not valid before 20")
    }

    @Test("Damaged certificates and keys are refused")
    func damaged() {
        let certificate = Self.files.text(of: "server.pem")
        let key = Self.files.text(of: "server.key")
        func damage(_ text: String) -> String {
            var lines = text.split(separator: "\n").map(String.init)
            lines[1] = "A" + lines[1].dropFirst(2) + "B"
            return lines.joined(separator: "\n") + "\n"
        }
        Self.files.write(damage(certificate), to: "damaged.pem")
        Self.expect(
            Self.problem("damaged.pem", "server.key"), .certificate(index: 0), "damaged.pem", "is refused")
        // The second certificate of a chain counts too.
        Self.files.write(certificate + damage(certificate), to: "damaged-chain.pem")
        Self.expect(
            Self.problem("damaged-chain.pem", "server.key"), .certificate(index: 0), "damaged-chain.pem", "is refused")
        Self.files.write(damage(key), to: "damaged.key")
        Self.expect(Self.problem("server.pem", "damaged.key"), .key(index: 0), "damaged.key", "is refused")
    }

    @Test("A key that is too short is refused, with what to make instead")
    func weak() {
        Self.files.make("weak", subject: "/CN=weak", key: ["-newkey", "rsa:1024"])
        Self.expect(Self.problem("weak.pem", "weak.key"), .certificate(index: 0), "weak.pem", "too small", "2048 bits")
    }

    @Test("Certificate and key may be in one file, and the chain may hold its issuers")
    func combined() {
        let texts = ["server.pem", "ca.pem", "server.key"].map { Self.files.text(of: $0) }
        Self.files.write(texts.joined(), to: "combined.pem")
        #expect(Self.problem("combined.pem", "combined.pem") == nil)
    }

    @Test("A certificate that could never be chosen is a problem")
    func useless() {
        func problem(_ names: String...) -> TLSProblem? {
            var options = TLSOptions()
            options.certificates = names.map { Self.files.pair($0) }
            do throws(TLSProblem) {
                _ = try TestContexts.server(options)
                return nil
            } catch {
                return error
            }
        }
        #expect(problem("unnamed", "server") == nil)
        Self.expect(problem("server", "server"), .certificate(index: 1), "server.pem", "would never be used")
        Self.expect(problem("server", "unnamed"), .certificate(index: 1), "unnamed.pem", "names no host")
    }

    @Test("Bytes of any kind are refused without a crash")
    func noise() {
        var seed: UInt64 = 42
        func next() -> UInt8 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: seed >> 33)
        }
        let certificate = Array(Self.files.text(of: "server.pem").utf8)
        for _ in 0..<300 {
            var bytes = certificate
            for _ in 0..<4 { bytes[Int(next()) * bytes.count / 256] = next() }
            Self.files.write(bytes, to: "noise.pem")
            _ = Self.problem("noise.pem", "server.key")
            _ = Self.problem("server.pem", "noise.pem")
        }
    }
}
