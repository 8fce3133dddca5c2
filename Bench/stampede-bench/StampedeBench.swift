import ArgumentParser
import Foundation

@main
struct StampedeBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stampede-bench",
        abstract: "Put load on a STOMP broker, and measure what it costs.",
        subcommands: [
            Run.self, Compare.self, Durable.self, TransportsCommand.self, Handshakes.self, Logins.self,
            Connections.self, Check.self, Backlog.self, AttackCommand.self, Soak.self, MicroCommand.self,
        ])

    /// Runs the command. Exit codes as for `stampede`: 0 for success, 1 if it could not run or found something wrong, 2
    /// if the command line is wrong.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            if exitCode(for: error) == .validationFailure {
                FileHandle.standardError.write(Data((fullMessage(for: error) + "\n").utf8))
                Foundation.exit(2)
            }
            exit(withError: error)
        }
    }
}
