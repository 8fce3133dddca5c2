import ArgumentParser
import Load

/// `stampede-bench run`: one scenario against one server.
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure one scenario against a server.",
        discussion: "Scenarios:\n"
            + Scenario.allCases.map { "  \($0.rawValue): \($0.summary)" }.joined(separator: "\n"))

    @Argument(help: "The scenario.")
    var scenario: Scenario

    @OptionGroup(title: "Size") var size: ScenarioOptions
    @OptionGroup(title: "Server") var target: TargetOptions
    @OptionGroup(title: "Time") var time: ScheduleOptions

    @Option(help: "How often to measure.")
    var rounds = 1

    @Option(help: "Write the results to this file as JSON.")
    var json: String?

    func run() throws {
        Load.raiseDescriptorLimit()
        let plan = try size.plan(scenario, dialect: target.dialect)
        let reached = try target.reach()
        let progress = ProgressLine()
        var outcomes: [Outcome] = []
        for round in 1...max(rounds, 1) {
            let measurement = Measurement(
                plan, target: reached.load, server: reached.process, schedule: time.schedule)
            var outcome = try measurement.run { progress.show("\(plan.name), round \(round)/\(rounds): \($0)") }
            outcome.server = reached.name
            progress.clear()
            if round == 1 { print(OutcomeTable.head) }
            print(OutcomeTable.row(outcome))
            for line in OutcomeTable.complaints(outcome) { print(line) }
            outcomes.append(outcome)
        }
        if let json { try writeJSON(outcomes, to: json) }
        if outcomes.contains(where: { !$0.isClean }) { throw ExitCode(1) }
    }
}
