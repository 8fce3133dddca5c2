import ArgumentParser

@main
struct StampedeBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stampede-bench",
        abstract: "Put load on a STOMP broker, and measure what it costs.",
        subcommands: [
            Run.self, Compare.self, Connections.self, Check.self, Backlog.self, AttackCommand.self, Soak.self,
            MicroCommand.self,
        ])
}
