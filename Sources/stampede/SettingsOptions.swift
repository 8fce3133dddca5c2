import Access
import ArgumentParser
import Configuration
import Foundation

/// The configuration options of a command.
struct SettingsOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("Read the configuration from FILE (Config/stampede.yaml shows all keys).", valueName: "file")
    )
    var config: String?

    @Option(
        help: ArgumentHelp(
            "Accept clients on HOST:PORT, or on a URL such as unix:/run/stampede/stampede.sock; may be repeated.",
            valueName: "url"))
    var listen: [String] = []

    @Option(help: "Which driver to use: auto, uring or epoll.")
    var driver: String?

    /// Parsed unconditionally, because a negative number looks like an option. So the error says what the key allows.
    @Option(parsing: .unconditional, help: "How many worker threads to run; 0 for one per CPU.")
    var workers: String?

    @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel: String?

    @Option(name: .customLong("log-format"), help: "text or json.")
    var logFormat: String?

    @Option(help: ArgumentHelp("Set any key of the configuration; may be repeated.", valueName: "key=value"))
    var set: [String] = []

    /// The configuration from these options, the environment and the file.
    ///
    /// - Parameters:
    ///   - readsCertificates: the files of certificates and keys are checked too, and the owners of Unix sockets.
    ///   - warn: called for each warning, with one line.
    func load(
        readsCertificates: Bool = true, warn: (String) -> Void = { Console.error("warning: \($0)") }
    ) throws -> EffectiveSettings {
        if config == "" { throw Failure.usage(["--config: found \"\"; allowed: the name of a file"]) }
        do {
            let effective = try EffectiveSettings.load(
                file: config, environment: ProcessInfo.processInfo.environment, commandLine: try overrides())
            for warning in effective.warnings { warn(warning.description) }
            if readsCertificates {
                try effective.checkAccounts()
                try effective.checkCertificates(nowSeconds: Int64(time(nil)))
                for warning in effective.exposedKeys { warn(warning) }
            }
            return effective
        } catch let error as ConfigurationError {
            throw Failure.usage(error.problems.map(\.description))
        }
    }

    /// Who decides about clients: the users file and the keys of `access`, read and checked. nil: nobody is asked.
    func authenticator(
        _ effective: EffectiveSettings, warn: (String) -> Void = { Console.error("warning: \($0)") }
    ) throws -> Authenticator? {
        let settings = effective.settings
        guard settings.access.isOn else { return nil }
        do throws(AccessError) {
            let authenticator = try Authenticator.load(settings.access, settings.patternLimits)
            for warning in authenticator.warnings { warn(warning) }
            return authenticator
        } catch {
            throw Failure.usage(error.problems.map { effective.description(of: $0) })
        }
    }

    /// The special options come last, so that they override `--set` of the same key.
    private func overrides() throws -> [Override] {
        var overrides: [Override] = []
        for assignment in set {
            guard let override = Override(assignment: assignment) else {
                throw Failure.usage(["--set: found \"\(assignment)\"; allowed: KEY=VALUE, as in --set io.workers=2"])
            }
            overrides.append(override)
        }
        let options = [
            ("--listen", "listeners", listen.isEmpty ? nil : listen.joined(separator: ",")),
            ("--driver", "io.driver", driver),
            ("--workers", "io.workers", workers),
            ("--log-level", "log.level", logLevel),
            ("--log-format", "log.format", logFormat),
        ]
        for (option, path, text) in options {
            if let text {
                overrides.append(Override(path: path, text: text, origin: .commandLine(option: option)))
            }
        }
        return overrides
    }
}
