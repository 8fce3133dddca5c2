import ArgumentParser
import Glibc
import Transports

/// The connection options of `tap` and `sink`.
struct ClientOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The broker to connect to: \(BrokerURL.forms).", discussion: "Default: stomp://127.0.0.1:61613.",
            valueName: "url"))
    var url: String?

    @Option(help: ArgumentHelp("The same for STOMP over TCP, without a scheme.", valueName: "host:port"))
    var host: String?

    @Option(
        help: ArgumentHelp(
            "The virtual host to name in CONNECT.", discussion: "Default: the broker's address.", valueName: "name"))
    var virtualHost: String?

    @Option(help: "The login to present. A URL may name it instead: stomp://LOGIN@HOST.")
    var login: String?

    @Option(help: "The passcode. Other users can see it here: prefer --passcode-file or the variable STOMP_PASSCODE.")
    var passcode: String?

    @Option(help: ArgumentHelp("Read the passcode from the first line of FILE.", valueName: "file"))
    var passcodeFile: String?

    @Option(
        help: ArgumentHelp(
            "With TLS: trust the issuers in FILE (PEM).", discussion: "Default: those that the system trusts.",
            valueName: "file"))
    var ca: String?

    @Option(help: ArgumentHelp("With TLS: show the certificate in FILE (PEM).", valueName: "file"))
    var certificate: String?

    @Option(
        help: ArgumentHelp(
            "The private key of --certificate.", discussion: "Default: it is in the same file.", valueName: "file"))
    var key: String?

    @Flag(help: "With TLS: accept any certificate of the broker, so that whoever is in between can read everything.")
    var insecure = false

    @Flag(name: .shortAndLong, help: "Report on standard error what the broker has confirmed.")
    var verbose = false

    func validate() throws {
        if let virtualHost, virtualHost.unicodeScalars.contains(where: { $0.value < 0x20 }) {
            throw ValidationError("--virtual-host: allowed: text without control characters")
        }
        if url != nil && host != nil { throw ValidationError("--url and --host: allowed: one of both") }
        if passcode != nil && passcodeFile != nil {
            throw ValidationError("--passcode and --passcode-file: allowed: one of both")
        }
        if let host, BrokerURL.Host(host, defaultPort: 61613) == nil {
            throw ValidationError("--host: found \"\(host)\"; allowed: HOST:PORT, [IPV6]:PORT or HOST (port 61613)")
        }
        do {
            let broker = try broker
            let tlsOptions = [
                ("--ca", ca), ("--certificate", certificate), ("--key", key), ("--insecure", insecure ? "" : nil),
            ]
            if !broker.transport.usesTLS, let unused = tlsOptions.first(where: { $0.1 != nil }) {
                throw ValidationError("\(unused.0): it has no effect without TLS; allowed: with stomps:// or wss://")
            }
            if key != nil && certificate == nil {
                throw ValidationError("--key: it has no effect without --certificate")
            }
            if insecure && ca != nil { throw ValidationError("--insecure and --ca: allowed: one of both") }
            if login != nil && broker.user != nil {
                throw ValidationError("--login and the login in --url: allowed: one of both")
            }
        } catch let fault as BrokerURL.Fault {
            throw ValidationError("--url: found \"\(url ?? "")\"; \(fault.reason)")
        }
    }

    /// The broker that the options name.
    var broker: BrokerURL {
        get throws { try BrokerURL(url ?? "stomp://\(host ?? "127.0.0.1:61613")") }
    }

    /// Whom to trust, and who the client is. nil: the URL asks for no TLS.
    func tlsContext(for broker: BrokerURL) throws -> TLSContext? {
        guard broker.transport.usesTLS else { return nil }
        do throws(TLSProblem) {
            return try TLSContext(
                client: broker.transport.usesWebSocket ? .http : .stomp, authoritiesFile: ca, trustsAnyone: insecure,
                certificate: certificate.map { TLSOptions.Certificate(chainFile: $0, keyFile: key ?? $0) },
                nowSeconds: Int64(time(nil)))
        } catch {
            if case .key = error.role, key == nil, let certificate, error.isExchange {
                throw Failure.usage([
                    "--certificate: \(certificate): holds no private key; set --key, or put the key into this file"
                ])
            }
            let option =
                switch error.role {
                case .certificate: "--certificate: "
                case .key: key == nil ? "--certificate: " : "--key: "
                case .authorities: "--ca: "
                case .library: ""
                }
            throw Failure.usage(["\(option)\(error.description)"])
        }
    }

    /// The login and passcode headers of CONNECT.
    func credentials(for broker: BrokerURL) throws -> [(String, String)] {
        var passcode = passcode
        if passcode != nil {
            Console.error(
                "warning: --passcode: other users can see it in the list of processes; use --passcode-file or the "
                    + "variable STOMP_PASSCODE")
        } else if let passcodeFile {
            passcode = try PasscodeFile.read(passcodeFile)
        } else {
            passcode = getenv("STOMP_PASSCODE").map { String(cString: $0) }
        }
        return [("login", login ?? broker.user), ("passcode", passcode)]
            .compactMap { name, value in value.map { (name, $0) } }
    }

    /// Warns about a destination without a leading slash, which is seldom what was meant.
    func hint(about destination: String) {
        guard !destination.hasPrefix("/") else { return }
        Console.error(
            "\(destination) has no leading slash, so the broker takes it for a topic (its key bare-names says otherwise): "
                + "write /topic/\(destination) or /queue/\(destination)")
    }

    func report(_ line: String) {
        if verbose { Console.error(line) }
    }

    /// Parses the arguments of `--header NAME:VALUE`. The first colon is the separator.
    static func headers(_ texts: [String]) throws -> [(String, String)] {
        try texts.map { text in
            guard let colon = text.firstIndex(of: ":"), colon != text.startIndex else {
                throw ValidationError("--header: found \"\(text)\"; allowed: NAME:VALUE")
            }
            return (String(text[..<colon]), String(text[text.index(after: colon)...]))
        }
    }
}

/// A file with a passcode in its first line.
private enum PasscodeFile {
    /// A passcode is a header of CONNECT, which has few kilobytes.
    private static let byteCountMax = 4096

    static func read(_ path: String) throws -> String {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw failure(path, String(cString: strerror(errno))) }
        defer { close(fd) }
        var status = stat()
        if fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 != 0 {
            Console.error("warning: other users can read \(path); protect it: chmod 600 \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: byteCountMax)
        let count = Glibc.read(fd, &bytes, bytes.count)
        guard count >= 0 else { throw failure(path, String(cString: strerror(errno))) }
        guard count < byteCountMax else { throw failure(path, "it has \(byteCountMax) bytes or more") }
        let line = bytes[..<count].prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
        guard !line.isEmpty, let text = String(validating: line, as: UTF8.self) else {
            throw failure(path, "its first line is empty or not UTF-8")
        }
        return text
    }

    private static func failure(_ path: String, _ reason: String) -> Failure {
        .usage(["--passcode-file: \(path): \(reason)"])
    }
}
