import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

extension DriverTests {
    /// Turns that end by themselves: whatever the driver does in them is done.
    private func settle(_ bench: DriverBench) -> [Event] {
        (0..<5).flatMap { _ in bench.turn([], deadline: DriverBench.now + 1_000_000) }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a reset is told while receiving is paused, with or without bytes unread`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.promotionCount = 2 }
        for round in 0..<8 {
            let (client, slot) = try bench.connect()
            // Some are promoted by now, where that is done.
            for _ in 0..<(round % 2) * 5 {
                try client.send(pattern(100))
                #expect(bench.turns { bench.received($0, by: slot).count == 100 } != nil)
            }
            bench.turn([Submission(.pauseReceive, connection: slot)], deadline: 0)
            #expect(settle(bench).isEmpty)
            if round % 4 > 1 { try client.send(pattern(3000)) }
            if round > 3 { #expect(settle(bench).isEmpty) }
            client.reset()
            let events = try #require(bench.turns { $0.contains { $0.kind == .receiveFailed } })
            #expect(events.map(\.kind) == [.receiveFailed])
            #expect(events[0].connection == slot && events[0].value == -ECONNRESET)
            #expect(settle(bench).isEmpty)
            let closing = try #require(bench.close(slot))
            #expect(closing.map(\.kind) == [.closed])
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `an orderly end while receiving is paused loses no byte and is told behind them`(
        _ variant: DriverVariant
    ) throws {
        let bench = try DriverBench(variant) { $0.promotionCount = 2 }
        for isPromoted in [false, true] {
            let (client, slot) = try bench.connect()
            for _ in 0..<(isPromoted ? 5 : 0) {
                try client.send(pattern(100))
                #expect(bench.turns { bench.received($0, by: slot).count == 100 } != nil)
            }
            bench.turn([Submission(.pauseReceive, connection: slot)], deadline: 0)
            #expect(settle(bench).isEmpty)
            try client.send(pattern(5000))
            #expect(settle(bench).isEmpty)
            client.endSending()
            #expect(settle(bench).isEmpty)
            let enters = bench.driver.counters.enters
            #expect(settle(bench).isEmpty)
            #expect(bench.driver.counters.enters - enters <= 20, "nothing wakes the driver again and again")
            let resumed = try #require(
                bench.turns([Submission(.resumeReceive, connection: slot)]) {
                    $0.contains { $0.kind == .receiveEnded }
                })
            #expect(bench.received(resumed, by: slot) == pattern(5000))
            #expect(resumed.last?.kind == .receiveEnded)
            #expect(bench.close(slot) != nil)
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a reset behind an orderly end is told while receiving is paused`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        for isEndRead in [false, true] {
            let (client, slot) = try bench.connect()
            if isEndRead {
                client.endSending()
                #expect(bench.turns { $0.contains { $0.kind == .receiveEnded } } != nil)
                bench.turn([Submission(.pauseReceive, connection: slot)], deadline: 0)
            } else {
                bench.turn([Submission(.pauseReceive, connection: slot)], deadline: 0)
                client.endSending()
            }
            #expect(settle(bench).isEmpty)
            client.reset()
            let events = try #require(bench.turns { $0.contains { $0.kind == .receiveFailed } })
            #expect(events.map(\.kind) == [.receiveFailed])
            #expect(bench.close(slot) != nil)
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a failure during quick pauses is told once`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.promotionCount = 2 }
        for round in 0..<64 {
            let (client, slot) = try bench.connect()
            var events: [Event] = []
            for step in 0..<8 {
                if round % 8 == step { client.reset() } else if round % 8 > step { try client.send(pattern(10)) }
                let isPause = (step + round / 8) % 2 == 0
                var requests = [Submission(isPause ? .pauseReceive : .resumeReceive, connection: slot)]
                if (step + round) % 3 == 0 {
                    requests.append(Submission(isPause ? .resumeReceive : .pauseReceive, connection: slot))
                    requests.append(Submission(isPause ? .pauseReceive : .resumeReceive, connection: slot))
                }
                events += bench.turn(requests, deadline: 0)
            }
            if !events.contains(where: { $0.kind == .receiveFailed }) {
                events += try #require(bench.turns { $0.contains { $0.kind == .receiveFailed } })
            }
            #expect(events.filter { $0.kind == .receiveFailed }.count == 1)
            #expect(events.last { $0.kind != .received }?.kind == .receiveFailed)
            let closing = try #require(bench.close(slot))
            #expect(closing.map(\.kind) == [.closed])
        }
    }
}
