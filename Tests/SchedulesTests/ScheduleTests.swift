import Testing

@testable import Schedules

@Suite("Schedules")
struct ScheduleTests {
    private static let now: UInt64 = 1_800_000_000_000
    private static let day: UInt64 = 86_400_000

    private static func request(_ headers: [(ScheduleHeader, String)]) throws(ScheduleError) -> Schedule? {
        var result: Result<Schedule?, ScheduleError> = .success(nil)
        let texts = headers.map { Array($0.1.utf8) }
        do throws(ScheduleError) {
            var request = ScheduleRequest()
            for (index, header) in headers.enumerated() {
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: texts[index].count, alignment: 1)
                buffer.copyBytes(from: texts[index])
                try request.take(header.0, UnsafeRawBufferPointer(buffer))
            }
            result = .success(try request.schedule(now: now, delayMax: 30 * day))
        } catch { result = .failure(error) }
        return try result.get()
    }

    @Test(
        "When a message is due",
        arguments: [
            ([(.delay, "5000")], Schedule(dueAt: now + 5000, period: 0, repeats: 0)),
            ([(.pluginDelay, "5000")], Schedule(dueAt: now + 5000, period: 0, repeats: 0)),
            ([(.delay, "5000"), (.pluginDelay, "5000")], Schedule(dueAt: now + 5000, period: 0, repeats: 0)),
            ([(.time, "\(now + 7)")], Schedule(dueAt: now + 7, period: 0, repeats: 0)),
            // Of repeated headers the first counts.
            ([(.delay, "1"), (.delay, "2")], Schedule(dueAt: now + 1, period: 0, repeats: 0)),
            // At once.
            ([(.delay, "0")], nil), ([(.pluginDelay, "0")], nil), ([(.time, "0")], nil), ([(.time, "\(now - 1)")], nil),
            ([(.time, "\(now)")], nil),
            // As with ActiveMQ: without a delay the first is due after a period, and without a number of repetitions once.
            ([(.period, "300")], Schedule(dueAt: now + 300, period: 300, repeats: 0)),
            ([(.delay, "0"), (.period, "300")], Schedule(dueAt: now + 300, period: 300, repeats: 0)),
            ([(.delay, "20"), (.period, "300"), (.repeats, "9")], Schedule(dueAt: now + 20, period: 300, repeats: 9)),
            ([(.period, "300"), (.repeats, "-1")], Schedule(dueAt: now + 300, period: 300, repeats: -1)),
            (
                [(.time, "\(now - 5)"), (.period, "300"), (.repeats, "1")],
                Schedule(dueAt: now, period: 300, repeats: 1)
            ),
            ([(.delay, "\(30 * day)")], Schedule(dueAt: now + 30 * day, period: 0, repeats: 0)),
            // 2027-01-15 08:00 UTC.
            ([(.cron, "5 8 * * *")], Schedule(dueAt: now + 300_000, period: 0, repeats: -1)),
        ] as [([(ScheduleHeader, String)], Schedule?)])
    func due(_ headers: [(ScheduleHeader, String)], _ expected: Schedule?) throws {
        #expect(try Self.request(headers) == expected)
    }

    @Test(
        "What is wrong is told",
        arguments: [
            ([(.delay, "-1")], "AMQ_SCHEDULED_DELAY must be a whole number of milliseconds from 0 up"),
            ([(.delay, "1.5")], "AMQ_SCHEDULED_DELAY must be"), ([(.delay, "")], "AMQ_SCHEDULED_DELAY must be"),
            ([(.delay, "1234567890123456789")], "at most 18 digits"), ([(.pluginDelay, "5s")], "x-delay must be"),
            ([(.time, "tomorrow")], "AMQ_SCHEDULED_TIME must be"), ([(.period, "0")], "from 1 up"),
            ([(.repeats, "-2"), (.period, "1")], "or -1 for ever"), ([(.repeats, "3")], "needs AMQ_SCHEDULED_PERIOD"),
            ([(.delay, "5"), (.repeats, "3")], "needs AMQ_SCHEDULED_PERIOD"),
            ([(.delay, "5"), (.pluginDelay, "6")], "AMQ_SCHEDULED_DELAY says 5 and x-delay 6"),
            ([(.delay, "5"), (.time, "\(now + 5)")], "contradict each other"),
            ([(.cron, "* * * *")], "AMQ_SCHEDULED_CRON: a cron entry has five fields"),
            ([(.cron, "* * * * *"), (.delay, "5")], "not supported together"),
            ([(.cron, "* * * * *"), (.period, "5")], "not supported together"),
            ([(.cron, "* * * * *"), (.period, "5"), (.repeats, "1")], "not supported together"),
            ([(.cron, "* * * * *"), (.time, "5")], "not supported together"),
            ([(.cron, "0 0 30 2 *")], "no month that the entry names has such a day"),
            ([(.delay, "\(30 * day + 1)")], "at most (limits.delay-max-ms)"),
            ([(.time, "\(now + 31 * day)")], "at most (limits.delay-max-ms)"),
            ([(.delay, "1"), (.period, "\(31 * day)")], "at most (limits.delay-max-ms)"),
            ([(.time, "999999999999999999")], "at most (limits.delay-max-ms)"),
        ] as [([(ScheduleHeader, String)], String)])
    func wrong(_ headers: [(ScheduleHeader, String)], _ words: String) {
        let error = #expect(throws: ScheduleError.self) { try Self.request(headers) }
        #expect(error?.explanation.contains(words) == true, "\(error?.explanation ?? "")")
        // What "not VALUE" would not fit to.
        #expect(error?.isComplete == (words.contains("such a day") || words.contains("says 5")))
    }

    private static var none: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

    @Test("The next time is a multiple of the period from the first; what was missed is left out")
    func next() {
        var schedule = Schedule(dueAt: 1000, period: 100, repeats: 3)
        schedule = schedule.next(now: 1003, cron: Self.none)!
        #expect(schedule == Schedule(dueAt: 1100, period: 100, repeats: 2))
        schedule = schedule.next(now: 1550, cron: Self.none)!
        #expect(schedule == Schedule(dueAt: 1600, period: 100, repeats: 1))
        schedule = schedule.next(now: 1700, cron: Self.none)!
        #expect(schedule == Schedule(dueAt: 1800, period: 100, repeats: 0))
        #expect(schedule.next(now: 1800, cron: Self.none) == nil)
        schedule.repeats = -1
        #expect(schedule.next(now: 1800, cron: Self.none) == Schedule(dueAt: 1900, period: 100, repeats: -1))
        Array("*/5 * * * *".utf8).withUnsafeBytes {
            let hourly = Schedule(dueAt: 300_000, period: 0, repeats: -1)
            #expect(hourly.next(now: 300_001, cron: $0)?.dueAt == 600_000)
            #expect(hourly.next(now: 3_600_000, cron: $0)?.dueAt == 3_900_000)
        }
    }

    @Test("A line is read as it was written, and nothing else is one")
    func lines() {
        let cron = Array("0 9 * * mon-fri".utf8)
        let name = Array("/queue/a b\u{e9}".utf8)
        for (hasCron, repeats) in [(false, Int32(0)), (true, -1), (false, 12), (false, .max)] {
            cron.withUnsafeBytes { cron in
                name.withUnsafeBytes { name in
                    let line = ScheduleLine(
                        Schedule(dueAt: 1_800_000_000_123, period: .max, repeats: repeats), acceptedAt: 0,
                        timeToLive: 77, cron: hasCron ? cron : Self.none, destination: name)
                    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 1)
                    defer { room.deallocate() }
                    let count = line.write(to: room.baseAddress!)
                    #expect(count <= ScheduleLine.byteCountMax(destinationByteCount: name.count))
                    room[count] = UInt8(ascii: "x")
                    let read = ScheduleLine(room.baseAddress!, byteCount: count + 1)!
                    #expect(read.byteCount == count && read.schedule == line.schedule && read.timeToLive == 77)
                    #expect(read.cron.elementsEqual(hasCron ? cron : Self.none))
                    #expect(read.destination.elementsEqual(name))
                    // Cut at each byte it is none.
                    for shorter in 0..<count {
                        #expect(ScheduleLine(room.baseAddress!, byteCount: shorter) == nil)
                    }
                }
            }
        }
    }
}
