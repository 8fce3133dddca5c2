/// When a message is due, and how often again.
public struct Schedule: BitwiseCopyable, Equatable, Sendable {
    /// Milliseconds since 1970.
    public var dueAt: UInt64
    /// Milliseconds from one time to the next. 0: it is due once, or at the times of a cron entry.
    public var period: UInt64
    /// How often it is due after `dueAt`. -1: for ever.
    public var repeats: Int32

    public init(dueAt: UInt64, period: UInt64, repeats: Int32) {
        self.dueAt = dueAt
        self.period = period
        self.repeats = repeats
    }

    public var isRepeating: Bool { repeats != 0 }

    /// What is left when the message was due and is given out `now`. nil: nothing.
    ///
    /// Times that have passed meanwhile, because the broker was down or the queue full, are left out: they do not count as
    /// repetitions. So the times stay multiples of the period from the first one.
    public func next(now: UInt64, cron: UnsafeRawBufferPointer) -> Schedule? {
        guard repeats != 0 else { return nil }
        var next = self
        if cron.count > 0 {
            guard let due = try? Cron(cron).next(after: max(now, dueAt)) else { return nil }
            next.dueAt = due
            return next
        }
        guard period > 0 else { return nil }
        next.dueAt = dueAt &+ period
        if next.dueAt <= now { next.dueAt &+= ((now - next.dueAt) / period + 1) &* period }
        if repeats > 0 { next.repeats -= 1 }
        return next
    }
}

/// A schedule with what else is to be known when the message is due, as the line that goes in front of its header lines
/// while it waits, in memory, on the way to another worker and in the log:
///
///     schedule:ACCEPTED DUE PERIOD REPEATS TTL N CRON DESTINATION\n
///
/// Numbers are decimal; N is the number of bytes of CRON, which may hold spaces. A client never sees the line.
public struct ScheduleLine: BitwiseCopyable {
    public var schedule: Schedule
    /// When the broker took the message (milliseconds since 1970).
    public var acceptedAt: UInt64
    /// Milliseconds from the time when it is due to the end of its life. 0: it has no such time.
    public var timeToLive: UInt64
    /// Empty: there is none.
    public var cron: UnsafeRawBufferPointer
    /// The canonical name.
    public var destination: UnsafeRawBufferPointer
    /// Of the line, with its end. 0: it is not written yet.
    public private(set) var byteCount = 0

    public init(
        _ schedule: Schedule, acceptedAt: UInt64, timeToLive: UInt64, cron: UnsafeRawBufferPointer,
        destination: UnsafeRawBufferPointer
    ) {
        self.schedule = schedule
        self.acceptedAt = acceptedAt
        self.timeToLive = timeToLive
        self.cron = cron
        self.destination = destination
    }

    private static var prefix: StaticString { "schedule:" }
    /// The prefix, six numbers with blanks, and the line's end.
    private static var overheadByteCountMax: Int { 9 + 6 * 21 + 2 }

    /// Bytes of any line with a name of at most so many.
    public static func byteCountMax(destinationByteCount: Int) -> Int {
        overheadByteCountMax + Cron.byteCountMax + destinationByteCount
    }

    /// Reads the line that header lines begin with. nil: they do not. It points into these.
    public init?(_ headers: UnsafeRawPointer, byteCount: Int) {
        var reader = LineReader(headers, byteCount)
        guard reader.takes(Self.prefix), let accepted = reader.number(), let due = reader.number(),
            let period = reader.number(), let repeats = reader.signed(), let timeToLive = reader.number(),
            let cronByteCount = reader.number(), let cron = reader.bytes(Int(cronByteCount)),
            let destination = reader.rest()
        else { return nil }
        schedule = Schedule(dueAt: due, period: period, repeats: repeats)
        acceptedAt = accepted
        self.timeToLive = timeToLive
        self.cron = cron
        self.destination = destination
        self.byteCount = reader.place
    }

    /// Writes the line, at most `byteCountMax` bytes. Returns how many.
    public func write(to place: UnsafeMutableRawPointer) -> Int {
        var writer = LineWriter(place)
        writer.write(UnsafeRawBufferPointer(start: Self.prefix.utf8Start, count: Self.prefix.utf8CodeUnitCount))
        writer.write(acceptedAt)
        writer.write(schedule.dueAt)
        writer.write(schedule.period)
        if schedule.repeats < 0 { writer.write(UInt8(ascii: "-")) }
        writer.write(UInt64(schedule.repeats.magnitude))
        writer.write(timeToLive)
        writer.write(UInt64(cron.count))
        writer.write(cron)
        writer.write(UInt8(ascii: " "))
        writer.write(destination)
        writer.write(UInt8(ascii: "\n"))
        return writer.cursor - place
    }
}

private struct LineWriter {
    var cursor: UnsafeMutableRawPointer

    init(_ place: UnsafeMutableRawPointer) { cursor = place }

    mutating func write(_ byte: UInt8) {
        cursor.storeBytes(of: byte, as: UInt8.self)
        cursor += 1
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        cursor.copyMemory(from: source, byteCount: bytes.count)
        cursor += bytes.count
    }

    /// With a blank behind it.
    mutating func write(_ number: UInt64) {
        var divisor: UInt64 = 1
        while number / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            write(UInt8(ascii: "0") + UInt8(number / divisor % 10))
            divisor /= 10
        }
        write(UInt8(ascii: " "))
    }
}

private struct LineReader {
    private let base: UnsafeRawPointer
    private let byteCount: Int
    private(set) var place = 0

    init(_ base: UnsafeRawPointer, _ byteCount: Int) {
        self.base = base
        self.byteCount = byteCount
    }

    private func byte(_ place: Int) -> UInt8 { base.load(fromByteOffset: place, as: UInt8.self) }

    mutating func takes(_ text: StaticString) -> Bool {
        guard byteCount - place >= text.utf8CodeUnitCount else { return false }
        for index in 0..<text.utf8CodeUnitCount where byte(place + index) != text.utf8Start[index] { return false }
        place += text.utf8CodeUnitCount
        return true
    }

    mutating func number() -> UInt64? {
        let start = place
        var number: UInt64 = 0
        while place < byteCount, 0x30...0x39 ~= byte(place), place - start < 20 {
            number = number &* 10 &+ UInt64(byte(place) - 0x30)
            place += 1
        }
        guard place > start, place < byteCount, byte(place) == 0x20 else { return nil }
        place += 1
        return number
    }

    mutating func signed() -> Int32? {
        let isNegative = place < byteCount && byte(place) == UInt8(ascii: "-")
        if isNegative { place += 1 }
        guard let magnitude = number(), let number = Int32(exactly: magnitude) else { return nil }
        return isNegative ? -number : number
    }

    /// So many bytes, and the blank behind them.
    mutating func bytes(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, count < byteCount - place, byte(place + count) == 0x20 else { return nil }
        defer { place += count + 1 }
        return UnsafeRawBufferPointer(start: base + place, count: count)
    }

    /// Up to the line's end, which is taken too.
    mutating func rest() -> UnsafeRawBufferPointer? {
        let start = place
        while place < byteCount, byte(place) != 0x0A { place += 1 }
        guard place < byteCount, place > start else { return nil }
        defer { place += 1 }
        return UnsafeRawBufferPointer(start: base + start, count: place - start)
    }
}
