import Testing

@testable import Slabs

private let tickShift: UInt64 = 22

private func tick(notBefore nanoseconds: UInt64) -> UInt64 {
    nanoseconds >> tickShift + (nanoseconds & (1 << tickShift - 1) == 0 ? 0 : 1)
}

@Suite struct TimerWheelTests {
    private static let owner = Slot(index: 7, generation: 3)

    @Test func `a timer fires at the first tick that is not before its deadline`() throws {
        var wheel = try TimerWheel(timerCountMax: 10, now: 0)
        let deadline: UInt64 = 10 << tickShift + 1
        let timer = wheel.schedule(at: deadline, kind: 5, owner: Self.owner)
        wheel.advance(to: deadline)
        let early = wheel.popExpired()
        #expect(early == nil)
        let next = wheel.nextDeadline
        #expect(next == 11 << tickShift)
        wheel.advance(to: 11 << tickShift)
        let due = wheel.nextDeadline
        #expect(due == 11 << tickShift, "a timer is due now")
        let expired = wheel.popExpired()
        #expect(expired?.kind == 5 && expired?.owner == Self.owner && expired?.timer == timer)
        let rest = (wheel.popExpired(), wheel.nextDeadline, wheel.count)
        #expect(rest.0 == nil && rest.1 == nil && rest.2 == 0)
    }

    @Test func `a timer for the past fires at the next tick`() throws {
        var wheel = try TimerWheel(timerCountMax: 10, now: 100 << tickShift)
        _ = wheel.schedule(at: 0, kind: 1, owner: .none)
        let now = wheel.popExpired()
        #expect(now == nil)
        let next = wheel.nextDeadline
        #expect(next == 101 << tickShift)
        wheel.advance(to: 101 << tickShift)
        let later = wheel.popExpired()
        #expect(later != nil)
    }

    @Test func `timers of one tick fire in the order they were set`() throws {
        var wheel = try TimerWheel(timerCountMax: 1000, now: 0)
        for index in 1...1000 as ClosedRange<UInt32> {
            _ = wheel.schedule(at: 300_000 << tickShift, kind: 0, owner: Slot(index: index, generation: 1))
        }
        // Step by step, so that the list is spread over every level.
        var steps = 0
        while let next = wheel.nextDeadline, next < 300_000 << tickShift, steps < 100 {
            wheel.advance(to: next)
            steps += 1
        }
        wheel.advance(to: 300_000 << tickShift)
        var order: [UInt32] = []
        while let expired = wheel.popExpired() { order.append(expired.owner.index) }
        #expect(order == Array(1...1000))
    }

    @Test func `a full wheel refuses and a cancelled timer makes room`() throws {
        var wheel = try TimerWheel(timerCountMax: 2, now: 0)
        let first = wheel.schedule(at: 1, kind: 0, owner: .none)
        _ = wheel.schedule(at: 1, kind: 0, owner: .none)
        let refused = wheel.schedule(at: 1, kind: 0, owner: .none)
        #expect(first != 0 && refused == 0)
        wheel.cancel(0)
        wheel.cancel(first)
        let again = wheel.schedule(at: 1, kind: 0, owner: .none)
        #expect(again != 0)
    }

    @Test func `a timer cancelled while it is due is not reported`() throws {
        var wheel = try TimerWheel(timerCountMax: 10, now: 0)
        let timers = (0..<3).map { wheel.schedule(at: 1, kind: UInt8($0), owner: .none) }
        wheel.advance(to: 1 << 40)
        wheel.cancel(timers[1])
        var kinds: [UInt8] = []
        while let expired = wheel.popExpired() { kinds.append(expired.kind) }
        #expect(kinds == [0, 2])
        let count = wheel.count
        #expect(count == 0)
    }

    @Test func `time does not go back`() throws {
        var wheel = try TimerWheel(timerCountMax: 10, now: 1 << 40)
        _ = wheel.schedule(at: 1 << 40 + 1 << 30, kind: 0, owner: .none)
        wheel.advance(to: 0)
        wheel.advance(to: 1 << 40)
        let early = wheel.popExpired()
        #expect(early == nil)
        wheel.advance(to: 1 << 41)
        let due = wheel.popExpired()
        #expect(due != nil)
    }

    @Test func `the last deadline there is never comes and the last tick does`() throws {
        var wheel = try TimerWheel(timerCountMax: 10, now: 0)
        _ = wheel.schedule(at: .max, kind: 1, owner: .none)
        _ = wheel.schedule(at: (UInt64.max >> tickShift) << tickShift, kind: 2, owner: .none)
        wheel.advance(to: .max)
        let expired = [wheel.popExpired()?.kind, wheel.popExpired()?.kind]
        #expect(expired == [2, nil])
        let next = wheel.nextDeadline
        #expect(next == .max)
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `random timers agree with a sorted model over all levels and jumps`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var now = generator.next() >> UInt64(1 + generator.below(40))
        var wheel = try TimerWheel(timerCountMax: 3_000, now: now)
        /// The tick that each timer fires at.
        var model: [UInt32: UInt64] = [:]
        var timers: [UInt32] = []
        for _ in 0..<6_000 {
            switch generator.below(10) {
            case 0..<6:
                let distance = generator.next() >> UInt64(2 + generator.below(62))
                let (deadline, overflows) = now.addingReportingOverflow(distance)
                if overflows { continue }
                let timer = wheel.schedule(at: deadline, kind: 9, owner: Slot(index: 1, generation: 2))
                try #require((timer == 0) == (model.count == 3_000))
                if timer == 0 { continue }
                try #require(model[timer] == nil)
                model[timer] = max(tick(notBefore: deadline), now >> tickShift + 1)
                timers.append(timer)
            case 6..<8:
                if timers.isEmpty { continue }
                timers.swapAt(generator.below(timers.count), timers.count - 1)
                let timer = timers.removeLast()
                if model.removeValue(forKey: timer) != nil { wheel.cancel(timer) }
            default:
                let distance = generator.next() >> UInt64(12 + generator.below(40))
                let (later, overflows) = now.addingReportingOverflow(distance)
                if overflows { continue }
                now = later
                wheel.advance(to: now)
                var lastTick: UInt64 = 0
                while let expired = wheel.popExpired() {
                    let tick = model.removeValue(forKey: expired.timer)
                    let fireTick = try #require(tick)
                    try #require(fireTick <= now >> tickShift, "never before its deadline")
                    lastTick = max(lastTick, fireTick)
                }
                try #require(model.values.allSatisfy { $0 > now >> tickShift }, "nothing due is left behind")
                timers.removeAll { model[$0] == nil }
            }
            let next = wheel.nextDeadline
            if let first = model.values.min() {
                let bound = try #require(next)
                try #require(bound >> tickShift > now >> tickShift, "who waits for the deadline gets on")
                try #require(bound == .max || bound >> tickShift <= first)
            } else {
                try #require(next == nil)
            }
            try #require(wheel.count == model.count)
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `who follows nextDeadline meets each timer at its tick`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let start = generator.next() >> 20
        var wheel = try TimerWheel(timerCountMax: 500, now: start)
        var model: [UInt32: UInt64] = [:]
        for _ in 0..<500 {
            let deadline = start + generator.next() >> UInt64(3 + generator.below(40))
            let timer = wheel.schedule(at: deadline, kind: 0, owner: .none)
            model[timer] = max(tick(notBefore: deadline), start >> tickShift + 1)
        }
        var steps = 0
        while let next = wheel.nextDeadline {
            steps += 1
            try #require(steps <= 8 * 500)
            wheel.advance(to: next)
            while let expired = wheel.popExpired() {
                let tick = model.removeValue(forKey: expired.timer)
                let fireTick = try #require(tick)
                try #require(fireTick << tickShift == next)
            }
        }
        #expect(model.isEmpty)
    }
}
