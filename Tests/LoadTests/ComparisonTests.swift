import Testing

@testable import Load
@testable import stampede_bench

struct ComparisonTests {
    private static func outcome(
        _ row: String, _ server: String, cost: Double = 0, published: Int = 0, failure: String? = nil
    ) -> Outcome {
        var outcome = Outcome()
        outcome.scenario = row
        outcome.server = server
        outcome.serverMicrosecondsPerDelivery = cost
        outcome.published = published
        outcome.deliveredPerSecond = Double(published)
        outcome.seconds = 1
        outcome.failure = failure
        return outcome
    }

    @Test func `the table tells medians, ratios, and what was not possible`() {
        var comparison = Comparison(
            rows: ["a", "b"], servers: ["uring", "epoll", "floor_epoll", "floor_uring", "nats"])
        for cost in [3.0, 1, 2] { comparison.add(Self.outcome("a", "uring", cost: cost)) }
        comparison.add(Self.outcome("a", "epoll", cost: 4))
        comparison.add(Self.outcome("a", "floor_epoll", cost: 1))
        comparison.add(Self.outcome("a", "floor_uring", cost: 1.6))
        var failed = Self.outcome("b", "uring", failure: "no")
        failed.loadWaitShare = 0.5
        comparison.add(failed)
        let costs = comparison.sections[0]
        #expect(costs.head.suffix(3) == ["uring/epoll", "uring/floor", "uring/nats"])
        #expect(
            costs.lines == [
                ["a", "2.00 ±50%", "4.00 ±0%", "1.00 ±0%", "1.60 ±0%", "-", "0.50", "2.00", "-"],
                ["b", "failed ~ !", "-", "-", "-", "-", "-", "-", "-"],
            ])
    }

    @Test(
        arguments: zip(
            [0.0123456, 0.123456, 1.23456, 12.3456, 123.456, 12345.6],
            ["0.0123", "0.123", "1.23", "12.3", "123", "12,346"]))
    func `figures have three digits that say something`(_ value: Double, _ text: String) {
        #expect(Comparison.short(value) == text)
    }

    @Test(
        arguments: zip(
            [0.00423, 0.0423, 0.4239, 1.0049, 42.391, 423.91], ["0.00423", "0.0423", "0.42", "1.00", "42.39", "424"]))
    func `ratios have two decimals, unless these would say nothing`(_ value: Double, _ text: String) {
        #expect(Comparison.ratio(value) == text)
    }

    @Test func `latency is compared at half of the lowest peak, without the peers`() {
        let rows = ["pairs N=1 B=64", "fan-in P=100 B=64"]
        var peaks = Comparison(rows: rows, servers: ["uring", "floor_epoll", "nats"])
        for (server, peak) in [("uring", 800), ("floor_epoll", 1000), ("nats", 100)] {
            for row in rows { peaks.add(Self.outcome(row, server, published: peak)) }
        }
        let latencies = LatencyComparison(peaks: peaks)
        #expect(latencies.rates == ["pairs N=1 B=64": 400])
        #expect(latencies.comparison.servers == ["uring", "floor_epoll"])
    }

    @Test func `a stalled subscriber is judged by the row without it`() throws {
        var comparison = Comparison(rows: [Row.withoutStalled, Row.withStalled], servers: ["uring"])
        comparison.add(Self.outcome(Row.withoutStalled, "uring", cost: 1, published: 1000))
        var stalled = Self.outcome(Row.withStalled, "uring", cost: 1.1, published: 950)
        stalled.cut = 1
        comparison.add(stalled)
        let section = try #require(comparison.sections.first { $0.title.contains("stops reading") })
        #expect(section.lines == [["uring", "1,000", "950", "0.95", "1.10", "yes"]])
    }

    @Test func `a table tells how many runs were thrown away`() throws {
        var comparison = Comparison(rows: ["a", "b"], servers: ["uring", "nats"])
        comparison.fastestCalibration = 10.04
        for (row, server, thrownAway) in [("a", "uring", 2), ("a", "uring", 1), ("a", "nats", 0), ("b", "uring", 0)] {
            var outcome = Self.outcome(row, server)
            outcome.thrownAway = thrownAway
            outcome.thrownAwayBesideBusyCore = thrownAway / 2
            outcome.attempts = thrownAway + 1
            comparison.add(outcome)
        }
        let section = try #require(comparison.sections.last)
        #expect(section.lines == [["a", "3 / 5", "0 / 1"], ["b", "0 / 1", "-"]])
        #expect(section.text.hasPrefix("3 of 7 runs thrown away, 1 of them beside a busy sibling. "))
        #expect(section.text.contains("10.04 ms"))
    }

    @Test func `a report holds its tables, and names its charts`() {
        let chart = Chart(title: "t", rows: ["r"], series: ["s"]) { _, _ in 5 }
        let report = Report(
            title: "T", preface: "P",
            sections: [Section(title: "S", head: ["", "x"], lines: [["r", "5"]], chart: ("cost", chart))])
        #expect(
            report.markdown(stem: "day") == """
                # T

                P

                ## S

                |  | x |
                | --- | ---: |
                | r | 5 |

                ![S](day-cost.svg)

                """)
        #expect(chart.text.contains("<rect x='250.0'"))
    }

    @Test func `a backlog is whole segments of all publishers`() throws {
        let plan = try ScenarioOptions(publishers: 3, subscribers: 1).backlog(1000, dialect: .stomp)
        #expect(plan.backlog.isMultiple(of: plan.segment))
        #expect(plan.backlog * 3 >= 1000)
        #expect((plan.backlog - plan.segment) * 3 < 1000)
    }
}
