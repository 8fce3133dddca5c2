import ArgumentParser
import Configuration
import Logging
import Server

/// `stampede serve`: runs the broker.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the broker.",
        discussion: """
            One line on standard error says when all listeners accept. SIGTERM, SIGINT and SIGHUP drain and end it; a \
            second SIGTERM or SIGINT ends it at once.
            """)

    @OptionGroup var options: SettingsOptions

    func run() throws {
        let settings = try options.load().settings
        ServerLog.bootstrap(format: settings.logFormat, level: settings.logLevel)
        throw ExitCode(StampedeServer.run(settings, logger: Logger(label: "stampede")))
    }
}
