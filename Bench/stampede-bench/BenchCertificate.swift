import Foundation

/// A certificate that signs itself, for servers that are measured.
enum BenchCertificate {
    /// What the key is. The handshake's cost depends on it: RSA is dear for servers, and cheap for clients.
    enum Key: String, CaseIterable {
        case ecdsa = "ecdsa-p256"
        case rsa = "rsa-2048"

        fileprivate var arguments: [String] {
            switch self {
            case .ecdsa: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            case .rsa: ["-newkey", "rsa:2048"]
            }
        }
    }

    /// Names of the files in the folder that `make` gets.
    static let chainName = "server.pem"
    static let keyName = "server.key"

    /// Makes both files.
    static func make(_ key: Key = .ecdsa, in folder: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            ["openssl", "req", "-x509"] + key.arguments + [
                "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "\(folder)/\(keyName)",
                "-out", "\(folder)/\(chainName)",
            ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw RunningServer.StartError(description: "openssl made no certificate; Config/setup installs it")
        }
    }

    /// Copies both files: servers that are compared have the same.
    static func copy(from folder: String, to other: String) throws {
        for name in [chainName, keyName] {
            try FileManager.default.copyItem(atPath: "\(folder)/\(name)", toPath: "\(other)/\(name)")
        }
    }

    /// The settings of a broker whose folder has the certificate.
    static let settings = ["tls.certificate=FOLDER/\(chainName)", "tls.key=FOLDER/\(keyName)"]
}
