import ArgumentParser
import Configuration
import Logging
import Server

/// `stampede serve`: runs the broker.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the broker.",
        discussion: """
            A line on standard error says when the broker accepts clients. SIGTERM, SIGINT and SIGQUIT drain it and \
            end it; a second SIGTERM or SIGINT ends it at once. SIGUSR1 logs the counters. SIGHUP reads certificates, the \
            users file and the keys of `access` again; the rest of the configuration is read at the start only.
            """)

    @OptionGroup var options: SettingsOptions

    func run() throws {
        // The log starts when its format is known. Warnings until then are collected.
        var warnings: [String] = []
        let effective = try options.load { warnings.append($0) }
        let settings = effective.settings
        let authenticator = try options.authenticator(effective) { warnings.append($0) }
        ServerLog.bootstrap(format: settings.logFormat, level: settings.logLevel)
        let logger = Logger(label: "stampede")
        for warning in warnings { logger.warning("\(warning)") }
        throw ExitCode(
            StampedeServer.run(settings, authenticator: authenticator, file: effective.file, logger: logger))
    }
}
