/// Headers of a SEND that say when its message is due.
public enum ScheduleHeader: UInt8, CaseIterable, Sendable {
    case delay, time, pluginDelay, period, repeats, cron

    public var text: StaticString {
        switch self {
        // Milliseconds from now: ActiveMQ, Artemis.
        case .delay: "AMQ_SCHEDULED_DELAY"
        // Milliseconds since 1970: Artemis.
        case .time: "AMQ_SCHEDULED_TIME"
        // Milliseconds from now: RabbitMQ's plugin for delayed messages.
        case .pluginDelay: "x-delay"
        // ActiveMQ.
        case .period: "AMQ_SCHEDULED_PERIOD"
        case .repeats: "AMQ_SCHEDULED_REPEAT"
        case .cron: "AMQ_SCHEDULED_CRON"
        }
    }
}

/// Why a SEND's schedule is none, in the words that its client is told.
public struct ScheduleError: Error, Equatable, Sendable {
    public var explanation: String
    /// `explanation` does not end with what would be right, so "not VALUE" cannot follow it.
    public var isComplete: Bool

    init(_ explanation: String, isComplete: Bool = false) {
        self.explanation = explanation
        self.isComplete = isComplete
    }
}

/// What the headers of a SEND say of the time when its message is due.
///
/// - One of `AMQ_SCHEDULED_DELAY`, `x-delay` and `AMQ_SCHEDULED_TIME` says when it is due first. Without one, and with a
///   period, it is due after that, as with ActiveMQ.
/// - `AMQ_SCHEDULED_PERIOD` with `AMQ_SCHEDULED_REPEAT`: how often it is due again. So `AMQ_SCHEDULED_REPEAT:9` makes ten
///   messages; -1: for ever. Without `AMQ_SCHEDULED_REPEAT` it is due once.
/// - `AMQ_SCHEDULED_CRON` alone: at each of its times, for ever, or as long as `expires` allows.
public struct ScheduleRequest {
    private var delay: UInt64?
    private var delayHeader = ScheduleHeader.delay
    private var time: UInt64?
    private var period: UInt64?
    private var repeats: Int32?
    private var cron: Cron?
    private var seen: UInt8 = 0
    /// The entry, as it was sent. Empty: there is none.
    public private(set) var cronText = UnsafeRawBufferPointer(start: nil, count: 0)

    public init() {}

    public var isEmpty: Bool { seen == 0 }

    /// Takes a header's value. Of headers that are repeated the first counts.
    public mutating func take(_ header: ScheduleHeader, _ value: UnsafeRawBufferPointer) throws(ScheduleError) {
        let bit: UInt8 = 1 << header.rawValue
        guard seen & bit == 0 else { return }
        seen |= bit
        switch header {
        case .delay, .pluginDelay:
            let milliseconds = try Self.number(header, value)
            if let delay, delay != milliseconds {
                throw ScheduleError(
                    "\(delayHeader.text) says \(delay) and \(header.text) \(milliseconds): one of them is enough",
                    isComplete: true)
            }
            delay = milliseconds
            delayHeader = header
        case .time: time = try Self.number(header, value)
        case .period: period = try Self.number(header, value, atLeast: 1)
        case .repeats:
            if value.elementsEqual("-1".utf8) {
                repeats = -1
            } else {
                repeats = Int32(clamping: try Self.number(header, value))
            }
        case .cron:
            do throws(CronError) { cron = try Cron(value) } catch {
                throw ScheduleError("\(header.text): \(error)", isComplete: error.fault == .never)
            }
            cronText = value
        }
    }

    /// When the message is due first, and again. nil: at once, and never again.
    ///
    /// - Parameters:
    ///   - now: milliseconds since 1970.
    ///   - delayMax: neither the first time nor a period is further away, in milliseconds.
    public func schedule(now: UInt64, delayMax: UInt64) throws(ScheduleError) -> Schedule? {
        if let cron {
            guard delay == nil, time == nil, period == nil, repeats == nil else {
                throw ScheduleError(
                    "AMQ_SCHEDULED_CRON is not supported together with another time, a period or AMQ_SCHEDULED_REPEAT")
            }
            guard let due = cron.next(after: now) else {
                throw ScheduleError("AMQ_SCHEDULED_CRON: \(CronError(field: .day, fault: .never))")
            }
            return Schedule(dueAt: due, period: 0, repeats: -1)
        }
        if repeats != nil, period == nil {
            throw ScheduleError(
                "AMQ_SCHEDULED_REPEAT needs AMQ_SCHEDULED_PERIOD, the milliseconds between two messages")
        }
        if delay != nil, time != nil {
            throw ScheduleError(
                "\(delayHeader.text) and AMQ_SCHEDULED_TIME contradict each other: one of them is enough")
        }
        var schedule = Schedule(dueAt: now, period: period ?? 0, repeats: repeats ?? 0)
        if let time, time > now {
            schedule.dueAt = time
        } else if let delay, delay > 0 {
            schedule.dueAt = now &+ delay
        } else if let period, time == nil {
            schedule.dueAt = now &+ period
        }
        guard schedule.dueAt - now <= delayMax, schedule.period <= delayMax else {
            throw ScheduleError("a message may be delayed by \(delayMax) ms at most (limits.delay-max-ms)")
        }
        return schedule.dueAt == now && schedule.repeats == 0 ? nil : schedule
    }

    /// Digits alone, at most 18.
    private static func number(
        _ header: ScheduleHeader, _ value: UnsafeRawBufferPointer, atLeast least: UInt64 = 0
    ) throws(ScheduleError) -> UInt64 {
        if let number = Decimal.number(value), number >= least { return number }
        let unit = header == .repeats ? "" : " of milliseconds"
        let orForEver = header == .repeats ? ", or -1 for ever" : ""
        throw ScheduleError(
            "\(header.text) must be a whole number\(unit) from \(least) up, of at most 18 digits\(orForEver)")
    }
}

enum Decimal {
    /// Digits alone, at most 18. nil: something else.
    static func number(_ text: UnsafeRawBufferPointer) -> UInt64? {
        guard text.count > 0, text.count <= 18 else { return nil }
        var number: UInt64 = 0
        for byte in text {
            guard 0x30...0x39 ~= byte else { return nil }
            number = number * 10 + UInt64(byte - 0x30)
        }
        return number
    }
}
