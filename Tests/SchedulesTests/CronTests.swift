import Foundation
import Testing

@testable import Schedules

@Suite("Cron entries")
struct CronTests {
    private static func cron(_ text: String) throws(CronError) -> Cron {
        var result: Result<Cron, CronError>!
        Array(text.utf8).withUnsafeBytes { bytes in
            do throws(CronError) { result = .success(try Cron(bytes)) } catch { result = .failure(error) }
        }
        return try result.get()
    }

    /// "2026-11-29 20:15" in UTC as milliseconds.
    private static func time(_ text: String) -> UInt64 {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "UTC")
        formatter.dateFormat = "yyyy-MM-dd HH:mm"
        return UInt64(formatter.date(from: text)!.timeIntervalSince1970) * 1000
    }

    private static func text(_ milliseconds: UInt64) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "UTC")
        formatter.dateFormat = "yyyy-MM-dd HH:mm"
        return formatter.string(from: Date(timeIntervalSince1970: Double(milliseconds) / 1000))
    }

    @Test(
        "The next time is the first minute behind that matches",
        arguments: [
            // 2026-11-29 is a Sunday.
            ("* * * * *", "2026-11-29 20:15", "2026-11-29 20:16"),
            ("*/15 * * * *", "2026-11-29 20:15", "2026-11-29 20:30"),
            ("0 * * * *", "2026-11-29 20:15", "2026-11-29 21:00"),
            ("0,30 * * * *", "2026-11-29 20:15", "2026-11-29 20:30"),
            ("59 23 31 12 *", "2026-11-29 20:15", "2026-12-31 23:59"),
            ("0 0 1 1 *", "2026-11-29 20:15", "2027-01-01 00:00"),
            ("15 20 * * *", "2026-11-29 20:15", "2026-11-30 20:15"),
            ("10-20/5 * * * *", "2026-11-29 20:15", "2026-11-29 20:20"),
            ("10-20/5 * * * *", "2026-11-29 20:20", "2026-11-29 21:10"),
            ("0 9-17 * * 1-5", "2026-11-29 20:15", "2026-11-30 09:00"),
            ("0 9 * * mon-FRI", "2026-12-04 09:00", "2026-12-07 09:00"),
            ("0 0 * * 0", "2026-11-29 20:15", "2026-12-06 00:00"),
            ("0 0 * * 7", "2026-11-29 20:15", "2026-12-06 00:00"),
            ("0 0 * * 5-7", "2026-11-29 20:15", "2026-12-04 00:00"),
            ("0 0 * * Sat", "2026-11-29 20:15", "2026-12-05 00:00"),
            ("0 12 * feb,apr *", "2026-11-29 20:15", "2027-02-01 12:00"),
            // Months without such a day are left out.
            ("0 0 31 * *", "2026-11-29 20:15", "2026-12-31 00:00"),
            ("0 0 31 * *", "2027-01-31 00:00", "2027-03-31 00:00"),
            ("0 0 30 * *", "2027-01-30 00:00", "2027-03-30 00:00"),
            // 29 February.
            ("0 0 29 2 *", "2026-11-29 20:15", "2028-02-29 00:00"),
            ("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"),
            // Of both kinds of day either does.
            ("0 0 13 * 5", "2026-11-29 20:15", "2026-12-04 00:00"),
            ("0 0 13 * 5", "2026-12-11 20:15", "2026-12-13 00:00"),
            // A field that begins with a star restricts alone.
            ("0 0 */10 * 1", "2026-11-29 20:15", "2026-12-21 00:00"),
            ("0 0 13 * */5", "2026-11-29 20:15", "2026-12-13 00:00"),
            // 29 February, and a Monday, Tuesday or so: rare, and found.
            ("0 0 29 2 */6", "2026-11-29 20:15", "2032-02-29 00:00"),
            // Blanks of any kind.
            ("  0\t0   1 1\t\t* ", "2026-11-29 20:15", "2027-01-01 00:00"),
        ])
    func next(_ entry: String, after: String, expected: String) throws {
        let cron = try Self.cron(entry)
        let found = cron.next(after: Self.time(after))
        #expect(found.map(Self.text) == expected)
        // The seconds of the time do not matter.
        #expect(cron.next(after: Self.time(after) + 59_999) == found)
    }

    @Test(
        "Within a year the times are those that a calendar says",
        arguments: [
            "7 */6 * * *", "0 3 1-7 * 1", "30 4 1,15 * 5", "0 0 * 2-4 *", "5 5 31 */2 *", "0 22 * * 1-5",
            "23 0-20/2 * * *",
        ])
    func year(_ entry: String) throws {
        let cron = try Self.cron(entry)
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(identifier: "UTC")!
        let fields = entry.split(separator: " ").map(String.init)
        let bits = try Self.bits(fields)
        var time = Self.time("2027-12-31 23:59")
        var next = cron.next(after: time)
        // 2028 has a 29 February.
        for _ in 0..<366 * 24 * 60 {
            time += 60_000
            let parts = calendar.dateComponents(
                [.minute, .hour, .day, .month, .weekday], from: Date(timeIntervalSince1970: Double(time / 1000)))
            let isDay = bits[2].contains(parts.day!)
            let isWeekday = bits[4].contains(parts.weekday! - 1) || bits[4].contains(7) && parts.weekday == 1
            let isEither = fields[2].first != "*" && fields[4].first != "*"
            let matches =
                bits[0].contains(parts.minute!) && bits[1].contains(parts.hour!) && bits[3].contains(parts.month!)
                && (isEither ? isDay || isWeekday : isDay && isWeekday)
            if matches {
                #expect(next == time)
                next = cron.next(after: time)
            } else {
                #expect(next! > time)
            }
            if next! < time { return }
        }
    }

    /// A second reading of the fields, of plain items alone.
    private static func bits(_ fields: [String]) throws -> [Set<Int>] {
        let ranges = [0...59, 0...23, 1...31, 1...12, 0...7]
        return zip(fields, ranges).map { field, range in
            var values: Set<Int> = []
            for item in field.split(separator: ",") {
                let parts = item.split(separator: "/")
                let step = parts.count == 2 ? Int(parts[1])! : 1
                let ends = parts[0].split(separator: "-").map { Int($0) }
                let first = parts[0] == "*" ? range.lowerBound : ends[0]!
                let last = parts[0] == "*" ? range.upperBound : ends.last!!
                values.formUnion(stride(from: first, through: last, by: step))
            }
            return values
        }
    }

    @Test(
        "What is no entry is refused, and the field is named",
        arguments: [
            ("", nil, .fieldCount), ("* * * *", nil, .fieldCount), ("* * * * * *", nil, .fieldCount),
            ("60 * * * *", .minute, .value), ("-1 * * * *", .minute, .value), ("* 24 * * *", .hour, .value),
            ("* * 0 * *", .day, .value), ("* * 32 * *", .day, .value), ("* * * 0 *", .month, .value),
            ("* * * 13 *", .month, .value), ("* * * * 8", .weekday, .value), ("a * * * *", .minute, .value),
            ("* * * foo *", .month, .value), ("* * * * january", .weekday, .value), ("1, * * * *", .minute, .value),
            (",1 * * * *", .minute, .value), ("1- * * * *", .minute, .value), ("1-2-3 * * * *", .minute, .value),
            ("99999 * * * *", .minute, .value), ("** * * * *", .minute, .value), ("*5 * * * *", .minute, .value),
            ("@daily", .minute, .value), ("1\u{e9} * * * *", .minute, .value),
            ("5-1 * * * *", .minute, .range), ("* * * * 6-1", .weekday, .range), ("* * * dec-jan *", .month, .range),
            ("5/2 * * * *", .minute, .step), ("*/0 * * * *", .minute, .step), ("*/60 * * * *", .minute, .step),
            ("*/ * * * *", .minute, .step), ("1-5/x * * * *", .minute, .step),
            ("0 0 30 2 *", .day, .never), ("0 0 31 2,4,6,9,11 *", .day, .never), ("* * 31 apr *", .day, .never),
        ] as [(String, CronField?, CronError.Fault)])
    func refused(_ entry: String, _ field: CronField?, _ fault: CronError.Fault) {
        let error = #expect(throws: CronError.self) { try Self.cron(entry) }
        #expect(error == CronError(field: field, fault: fault))
        #expect(error?.description.isEmpty == false)
    }

    @Test("A day that no month has does, where a day of the week does as well")
    func either() throws {
        #expect(
            try Self.cron("0 0 31 2 1").next(after: Self.time("2026-11-29 20:15")).map(Self.text) == "2027-02-01 00:00")
    }

    @Test("An entry that is too long is refused")
    func long() {
        let entry = Array(repeating: "1", count: 200).joined(separator: ",") + " * * * *"
        #expect(throws: CronError(field: nil, fault: .tooLong)) { try Self.cron(entry) }
    }

    @Test("Any bytes are read without a fault")
    func anything() {
        var random = SystemRandomNumberGenerator()
        let letters = Array("0123456789*/,-  \tjanmonx@".utf8)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...24, using: &random)
            let text = (0..<count).map { _ in letters.randomElement(using: &random)! }
            text.withUnsafeBytes { if let cron = try? Cron($0) { _ = cron.next(after: 1_800_000_000_000) } }
        }
    }

    @Test("Dates are those of the calendar")
    func dates() {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(identifier: "UTC")!
        for day in stride(from: 0, through: 366 * 500, by: 13) {
            let parts = calendar.dateComponents(
                [.year, .month, .day, .weekday], from: Date(timeIntervalSince1970: Double(day) * 86_400))
            let date = CivilDate(daysSince1970: day)
            #expect(date.year == parts.year && date.month == parts.month && date.day == parts.day)
            #expect(date.weekday == parts.weekday! - 1)
        }
    }
}
