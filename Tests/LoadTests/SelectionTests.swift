import CProcess
import Testing

@testable import Load
@testable import stampede_bench

/// Which runs of a comparison count, and in which order servers have their turns.
struct SelectionTests {
    private typealias Turn = RunSelection.Turn

    private static func outcome(_ before: Double, _ after: Double, cost: Double = 1) -> Outcome {
        var outcome = Outcome()
        outcome.calibrations = [before, after]
        outcome.serverMicrosecondsPerDelivery = cost
        return outcome
    }

    @Test func `a row goes round the servers, there and back again`() {
        let selection = RunSelection(serverCount: 3, rounds: 3)
        #expect(selection.turns.map(\.server) == [0, 1, 2, 2, 1, 0, 0, 1, 2])
        #expect(selection.turns.map(\.round) == [0, 0, 0, 1, 1, 1, 2, 2, 2])
    }

    @Test func `each turn is played once when every run counts`() {
        var selection = RunSelection(serverCount: 2, rounds: 2)
        var played: [Int] = []
        while let turn = selection.next(fastest: 10, runsMax: 5) {
            played.append(turn.server)
            selection.add(Self.outcome(10, 10.9), turn)
        }
        #expect(played == [0, 1, 1, 0])
        let outcomes = selection.outcomes(fastest: 10)
        #expect(outcomes.map(\.thrownAway) == [0, 0, 0, 0])
        #expect(outcomes.map(\.attempts) == [1, 1, 1, 1])
    }

    @Test(arguments: [[11.5, 10], [10, 11.5], [19, 19]])
    func `a run beside a busy sibling, before or after it, is repeated and counted`(_ calibrations: [Double]) {
        var selection = RunSelection(serverCount: 2, rounds: 1)
        let first = Turn(server: 0, round: 0)
        selection.add(Self.outcome(calibrations[0], calibrations[1], cost: 9), first)
        // At once, before the next server has its turn.
        #expect(selection.next(fastest: 10, runsMax: 3) == first)
        selection.add(Self.outcome(10, 10, cost: 2), first)
        #expect(selection.next(fastest: 10, runsMax: 3) == Turn(server: 1, round: 0))
        let outcome = selection.outcomes(fastest: 10)[0]
        #expect(outcome.serverMicrosecondsPerDelivery == 2)
        #expect(outcome.attempts == 2)
        #expect(outcome.thrownAway == 1)
        #expect(outcome.thrownAwayBesideBusyCore == 1)
    }

    @Test func `a run in which a side waited for a core is thrown away too, but for another reason`() {
        var selection = RunSelection(serverCount: 1, rounds: 1)
        let turn = Turn(server: 0, round: 0)
        var disturbed = Self.outcome(10, 10)
        disturbed.loadWaitShare = 0.2
        selection.add(disturbed, turn)
        #expect(selection.next(fastest: 10, runsMax: 3) == turn)
        selection.add(Self.outcome(10, 10), turn)
        #expect(selection.next(fastest: 10, runsMax: 3) == nil)
        let outcome = selection.outcomes(fastest: 10)[0]
        #expect(outcome.thrownAway == 1)
        #expect(outcome.thrownAwayBesideBusyCore == 0)
    }

    @Test func `a faster calibration has earlier runs of the row judged again`() {
        var selection = RunSelection(serverCount: 2, rounds: 1)
        let (first, second) = (Turn(server: 0, round: 0), Turn(server: 1, round: 0))
        selection.add(Self.outcome(12, 12), first)
        #expect(selection.next(fastest: 12, runsMax: 3) == second)
        selection.add(Self.outcome(10, 10), second)
        #expect(selection.next(fastest: 10, runsMax: 3) == first)
        selection.add(Self.outcome(10.5, 10), first)
        #expect(selection.next(fastest: 10, runsMax: 3) == nil)
        #expect(selection.outcomes(fastest: 10).map(\.thrownAway) == [1, 0])
    }

    @Test func `repeating ends, and the best run is kept and marked`() {
        var selection = RunSelection(serverCount: 1, rounds: 1)
        let turn = Turn(server: 0, round: 0)
        for (before, cost) in [(18.0, 1.0), (12, 2), (15, 3)] {
            #expect(selection.next(fastest: 10, runsMax: 3) == turn)
            selection.add(Self.outcome(before, 11, cost: cost), turn)
        }
        #expect(selection.next(fastest: 10, runsMax: 3) == nil)
        // When it is late, a turn that was played at all is not repeated.
        #expect(selection.next(fastest: 10, runsMax: 1) == nil)
        var outcome = selection.outcomes(fastest: 10)[0]
        #expect(outcome.serverMicrosecondsPerDelivery == 2)
        #expect(outcome.thrownAway == 2)
        outcome.scenario = "a"
        outcome.server = "uring"
        var comparison = Comparison(rows: ["a"], servers: ["uring"])
        comparison.fastestCalibration = 10
        comparison.add(outcome)
        #expect(comparison.sections[0].lines == [["a", "2.00 ±0% ?"]])
        #expect(
            comparison.thrownAwayText == """
                2 of 3 runs thrown away, 2 of them beside a busy sibling; 1 that should not count were kept for want of a \
                better one
                """)
    }

    @Test(arguments: [[true, false], [false, true]])
    func `what was lost is not repeated away`(_ isLossy: [Bool]) {
        var selection = RunSelection(serverCount: 1, rounds: 1)
        let turn = Turn(server: 0, round: 0)
        for isLossy in isLossy where selection.next(fastest: 10, runsMax: 3) != nil {
            var outcome = Self.outcome(19, 19, cost: isLossy ? 7 : 1)
            outcome.anomalies.lost = isLossy ? 1 : 0
            selection.add(outcome, turn)
        }
        #expect(selection.next(fastest: 10, runsMax: 3) == nil)
        #expect(selection.outcomes(fastest: 10).map(\.serverMicrosecondsPerDelivery) == [7])
    }

    @Test func `without calibrations only waiting is judged`() {
        #expect(RunSelection.counts(Outcome(), fastest: .infinity))
        #expect(Calibrator(cpu: nil).measure() == nil)
    }

    @Test func `the loop takes CPU time, and the fastest one is remembered`() {
        #expect(process_calibrate(-1) > 0)
        #expect(process_calibrate(100_000) < 0)
        let calibrator = Calibrator(cpu: 0)
        let time = calibrator.measure()
        #expect(time == calibrator.fastest)
    }

    @Test func `peers take part in the rows that their protocol knows`() {
        func names(_ dialect: Plan.Dialect) -> [String] { Row.all.filter { $0.isPossible(dialect) }.map(\.name) }
        #expect(names(.beanstalk) == ["queue 1x1", "queue 4x4"])
        #expect(names(.stomp).count == Row.all.count)
        #expect(names(.resp).allSatisfy { !$0.contains("queue") && !$0.contains("reply") })
        #expect(names(.resp).contains(Row.withoutStalled))
    }
}
