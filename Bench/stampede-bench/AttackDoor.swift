import Attacks
import Foundation

extension ServerKind {
    /// With the listener that an attack goes to, and what that needs.
    func opening(_ door: Attack.Door) -> ServerKind {
        var kind = self
        let settings = door.settings(folder: "FOLDER")
        kind.arguments += settings.sorted { $0.key < $1.key }.flatMap { ["--set", "\($0.key)=\($0.value)"] }
        if let listener = door.listener("127.0.0.1:OTHER_PORT") {
            // Flags beat the file, so the listener that is a flag has to go there too.
            guard let flag = kind.arguments.firstIndex(where: { $0.hasPrefix("listeners=") }) else { return self }
            let front = kind.arguments[flag].dropFirst("listeners=".count)
            kind.arguments.removeSubrange(flag - 1...flag)
            kind.arguments += ["--config", "FOLDER/configuration.yaml"]
            kind.configuration = "listeners:\n  - \"\(front)\"\n  - \(listener)\n"
        }
        guard !settings.isEmpty else { return kind }
        kind.prepare = { folder in
            for (name, text) in door.files {
                try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: "\(folder)/\(name)")
            }
            if door == .tls { try BenchCertificate.make(in: folder) }
        }
        return kind
    }
}
