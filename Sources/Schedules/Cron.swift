/// A cron entry of five fields: `minute hour day-of-month month day-of-week`, in UTC.
///
///     *  all values          5        one value
///     1-5  a range           1-10/3   every third value of a range: 1, 4, 7, 10
///     */15  every fifteenth  0,30     several of these
///
/// Minutes are 0 to 59, hours 0 to 23, days 1 to 31, months 1 to 12 or `jan` to `dec`, days of the week 0 to 7 or `sun` to
/// `sat`; 0 and 7 are Sunday. Fields are separated by spaces or tabs. Where both kinds of day are restricted, that is,
/// neither field begins with `*`, a day matches if either does (crontab(5)).
///
/// UTC, because a broker's machines may be anywhere, and no time is skipped or repeated in it.
public struct Cron: BitwiseCopyable, Equatable, Sendable {
    /// One bit for each value that matches.
    private var minutes: UInt64 = 0
    private var hours: UInt64 = 0
    private var days: UInt64 = 0
    private var months: UInt64 = 0
    private var weekdays: UInt64 = 0
    private var restrictsDays = false
    private var restrictsWeekdays = false

    /// Bytes of an entry.
    public static var byteCountMax: Int { 256 }

    /// Reads an entry. Time is linear in its length.
    public init(_ text: UnsafeRawBufferPointer) throws(CronError) {
        guard text.count <= Self.byteCountMax else { throw CronError(field: nil, fault: .tooLong) }
        var reader = CronReader(text)
        var values = (UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0))
        values.0 = try reader.field(.minute)
        values.1 = try reader.field(.hour)
        values.2 = try reader.field(.day)
        restrictsDays = !reader.beganWithStar
        values.3 = try reader.field(.month)
        values.4 = try reader.field(.weekday)
        restrictsWeekdays = !reader.beganWithStar
        guard reader.isAtEnd else { throw CronError(field: nil, fault: .fieldCount) }
        (minutes, hours, days, months, weekdays) = values
        // Sunday has two numbers.
        weekdays = (weekdays | weekdays >> 7) & 0x7F
        guard hasDay else { throw CronError(field: .day, fault: .never) }
    }

    /// Some month has such a day.
    private var hasDay: Bool {
        if restrictsWeekdays, restrictsDays { return true }
        for month in 1...12 where months >> UInt64(month) & 1 == 1 {
            let longest = UInt64(month == 2 ? 29 : CivilDate.dayCount(ofMonth: month, year: 2001))
            if days & (1 << (longest + 1) - 1) != 0 { return true }
        }
        return false
    }

    private func matches(_ date: CivilDate) -> Bool {
        guard months >> UInt64(date.month) & 1 == 1 else { return false }
        let isDay = days >> UInt64(date.day) & 1 == 1
        let isWeekday = weekdays >> UInt64(date.weekday) & 1 == 1
        return restrictsDays && restrictsWeekdays ? isDay || isWeekday : isDay && isWeekday
    }

    /// A day that matches is at most so far away: that a year divisible by four has no 29 February happens once, and that day
    /// may have to be of one day of the week (`*/2` in the last field), which takes up to 40 years.
    private static var daysMax: Int { 366 * 80 }
    private static var minutesPerDay: UInt64 { 24 * 60 }

    /// The first minute behind the time (milliseconds since 1970) that matches, in the same unit. nil: none does.
    ///
    /// Time is linear in the days between.
    public func next(after milliseconds: UInt64) -> UInt64? {
        let first = milliseconds / 60_000 + 1
        var minute = first % Self.minutesPerDay
        let firstDay = first / Self.minutesPerDay
        guard firstDay < 1 << 32 else { return nil }
        for day in Int(firstDay)...Int(firstDay) + Self.daysMax {
            if matches(CivilDate(daysSince1970: day)), let found = time(from: minute) {
                return (UInt64(day) * Self.minutesPerDay + found) * 60_000
            }
            minute = 0
        }
        return nil
    }

    /// The first minute of a day from this one on that matches.
    private func time(from minute: UInt64) -> UInt64? {
        var hour = minute / 60
        var rest = minute % 60
        while hour < 24 {
            if hours >> hour & 1 == 1 {
                let later = (minutes >> rest) << rest
                if later != 0 { return hour * 60 + UInt64(later.trailingZeroBitCount) }
            }
            hour += 1
            rest = 0
        }
        return nil
    }
}

/// What is wrong with a cron entry, in the words that a client is told.
public struct CronError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Fault: Equatable, Sendable { case tooLong, fieldCount, value, range, step, never }

    public var field: CronField?
    public var fault: Fault

    public var description: String {
        let name = field?.name ?? "entry"
        return switch fault {
        case .tooLong: "a cron entry has at most \(Cron.byteCountMax) bytes"
        case .fieldCount: "a cron entry has five fields: minute hour day-of-month month day-of-week"
        case .value: "\(name): \(field!.allowed), with * , - and / between them"
        case .range: "\(name): a range begins with its lower end; \(field!.allowed)"
        case .step: "\(name): a step follows * or a range, and is from 1 to \(field!.range.upperBound)"
        case .never: "no month that the entry names has such a day"
        }
    }
}

/// One of the five fields of a cron entry.
public enum CronField: Sendable {
    case minute, hour, day, month, weekday

    var name: String {
        switch self {
        case .minute: "minute"
        case .hour: "hour"
        case .day: "day-of-month"
        case .month: "month"
        case .weekday: "day-of-week"
        }
    }

    var range: ClosedRange<Int> {
        switch self {
        case .minute: 0...59
        case .hour: 0...23
        case .day: 1...31
        case .month: 1...12
        case .weekday: 0...7
        }
    }

    var allowed: String {
        switch self {
        case .month: "1 to 12 or jan to dec"
        case .weekday: "0 to 7 or sun to sat"
        default: "\(range.lowerBound) to \(range.upperBound)"
        }
    }

    /// Three letters for each value.
    var names: StaticString {
        switch self {
        case .month: "janfebmaraprmayjunjulaugsepoctnovdec"
        case .weekday: "sunmontuewedthufrisat"
        default: ""
        }
    }
}

/// Reads the fields of a cron entry.
private struct CronReader {
    private let text: UnsafeRawBufferPointer
    private var place = 0
    /// The field that was read last did.
    private(set) var beganWithStar = false

    init(_ text: UnsafeRawBufferPointer) {
        self.text = text
        skipBlanks()
    }

    var isAtEnd: Bool { place == text.count }

    private var byte: UInt8? { place < text.count ? text[place] : nil }

    private mutating func skipBlanks() {
        while byte == 0x20 || byte == 0x09 { place += 1 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard byte == UInt8(ascii: character) else { return false }
        place += 1
        return true
    }

    /// The values of the next field, one bit each.
    mutating func field(_ field: CronField) throws(CronError) -> UInt64 {
        guard !isAtEnd else { throw CronError(field: nil, fault: .fieldCount) }
        beganWithStar = byte == UInt8(ascii: "*")
        var values: UInt64 = 0
        repeat { values |= try item(field) } while take(",")
        guard isAtEnd || byte == 0x20 || byte == 0x09 else { throw CronError(field: field, fault: .value) }
        skipBlanks()
        return values
    }

    private mutating func item(_ field: CronField) throws(CronError) -> UInt64 {
        var range = field.range
        var isRange = true
        if !take("*") {
            let first = try value(field)
            var last = first
            isRange = take("-")
            if isRange { last = try value(field) }
            guard first <= last else { throw CronError(field: field, fault: .range) }
            range = first...last
        }
        var step = 1
        if take("/") {
            guard isRange, let number = number(), 1...field.range.upperBound ~= number else {
                throw CronError(field: field, fault: .step)
            }
            step = number
        }
        var values: UInt64 = 0
        for value in stride(from: range.lowerBound, through: range.upperBound, by: step) {
            values |= 1 << UInt64(value)
        }
        return values
    }

    private mutating func value(_ field: CronField) throws(CronError) -> Int {
        if let value = number() ?? named(field), field.range ~= value { return value }
        throw CronError(field: field, fault: .value)
    }

    /// Digits, at most four. nil: there is none.
    private mutating func number() -> Int? {
        let start = place
        var number = 0
        while let byte, 0x30...0x39 ~= byte, place - start < 4 {
            number = number * 10 + Int(byte - 0x30)
            place += 1
        }
        return place > start ? number : nil
    }

    private mutating func named(_ field: CronField) -> Int? {
        guard text.count - place >= 3 else { return nil }
        let names = field.names
        for index in 0..<names.utf8CodeUnitCount / 3 {
            let name = names.utf8Start + 3 * index
            // Letters of ASCII differ in one bit from their capitals.
            if (0..<3).allSatisfy({ text[place + $0] | 0x20 == name[$0] }) {
                place += 3
                return index + field.range.lowerBound
            }
        }
        return nil
    }
}

/// A day of the Gregorian calendar.
struct CivilDate: Equatable {
    var year: Int
    var month: Int
    var day: Int
    /// 0: Sunday.
    var weekday: Int

    /// Counts in eras of 400 years, which begin on 1 March, so that the leap day is the last of its year (Hinnant,
    /// "chrono-Compatible Low-Level Date Algorithms", civil_from_days). From 1970 on.
    init(daysSince1970 days: Int) {
        weekday = (days + 4) % 7
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    static func dayCount(ofMonth month: Int, year: Int) -> Int {
        switch month {
        case 4, 6, 9, 11: 30
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        default: 31
        }
    }
}
