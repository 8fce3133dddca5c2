public import Configuration
import Glibc
public import Logging

/// The log of the broker: lines of text or JSON on one file descriptor.
public enum ServerLog {
    /// Sets the format and level of every `Logger` of the process. Must be called once, before the first `Logger` is
    /// made.
    public static func bootstrap(format: LogFormat, level: LogLevel) {
        let level = Logger.Level(level)
        switch format {
        case .text: LoggingSystem.bootstrap { _ in TextLogHandler(level: level) }
        case .json: LoggingSystem.bootstrap { JSONLogHandler(label: $0, level: level) }
        }
    }
}

extension Logger.Level {
    /// The level of the same name.
    public init(_ level: LogLevel) {
        self =
            switch level {
            case .trace: .trace
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            case .critical: .critical
            }
    }
}

/// Writes `2026-01-31T12:00:00.000Z warning  message key=value key="a value"`.
public struct TextLogHandler: LogHandler {
    public var logLevel: Logger.Level
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    private let descriptor: Int32

    /// - Parameter descriptor: the output, owned by the caller. Standard error by default.
    public init(level: Logger.Level, descriptor: Int32 = 2) {
        logLevel = level
        self.descriptor = descriptor
    }

    public subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        let fields = LogText.fields(handler: metadata, provider: metadataProvider, event: event)
        LogOutput.write(line(event.level, event.message.description, fields), to: descriptor) {
            line(.warning, LogOutput.lossMessage, [("lines", .stringConvertible($0))])
        }
    }

    private func line(
        _ level: Logger.Level, _ message: String, _ fields: [(key: String, value: Logger.MetadataValue)]
    ) -> String {
        let level = level.rawValue
        var line = LogText.timestamp() + " " + level + String(repeating: " ", count: 9 - level.count)
        // It is not in quotes.
        line += LogText.escaped(message, isQuoted: false)
        for (key, value) in fields {
            line += " \(LogText.escaped(key))=\(text(of: value))"
        }
        return line
    }

    private func text(of value: Logger.MetadataValue) -> String {
        let text = LogText.cut(value.description)
        let isPlain = !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x5C }
        return isPlain ? text : "\"\(LogText.escaped(text))\""
    }
}

/// Writes `{"time":"...","level":"warning","logger":"...","message":"...","metadata":{"key":"value","number":1}}`.
public struct JSONLogHandler: LogHandler {
    public var logLevel: Logger.Level
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let descriptor: Int32

    /// - Parameter descriptor: the output, owned by the caller. Standard error by default.
    public init(label: String, level: Logger.Level, descriptor: Int32 = 2) {
        logLevel = level
        self.label = label
        self.descriptor = descriptor
    }

    public subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        let fields = LogText.fields(handler: metadata, provider: metadataProvider, event: event)
        LogOutput.write(line(event.level, event.message.description, fields), to: descriptor) {
            line(.warning, LogOutput.lossMessage, [("lines", .stringConvertible($0))])
        }
    }

    private func line(
        _ level: Logger.Level, _ message: String, _ fields: [(key: String, value: Logger.MetadataValue)]
    ) -> String {
        var line = "{\"time\":\"\(LogText.timestamp())\",\"level\":\"\(level.rawValue)\""
        line += ",\"logger\":\"\(LogText.escaped(label))\""
        line += ",\"message\":\"\(LogText.escaped(message))\""
        if !fields.isEmpty {
            line += ",\"metadata\":" + object(fields)
        }
        return line + "}"
    }

    private func object(_ fields: [(key: String, value: Logger.MetadataValue)]) -> String {
        "{" + fields.map { "\"\(LogText.escaped($0.key))\":\(json(of: $0.value))" }.joined(separator: ",") + "}"
    }

    private func json(of value: Logger.MetadataValue) -> String {
        switch value {
        case .array(let values): "[" + values.map(json).joined(separator: ",") + "]"
        case .dictionary(let values): object(values.sorted { $0.key < $1.key })
        case .stringConvertible(let number) where number is any BinaryInteger: number.description
        default: "\"\(LogText.escaped(LogText.cut(value.description)))\""
        }
    }
}

/// Text functions of both handlers.
enum LogText {
    /// Longer values are cut. They may contain text from a client, and their rest does not help an operator.
    static let valueByteCountMax = 256

    /// The other fields of a JSON line. A metadata key of the same name gets a trailing underscore, because log
    /// collectors that flatten a line would confuse the two.
    private static let reservedKeys: Set<String> = ["time", "level", "logger", "message", "metadata"]

    /// The fields of a line, ordered by name. Fields of the event override those of the provider, which override those
    /// of the handler.
    static func fields(
        handler: Logger.Metadata, provider: Logger.MetadataProvider?, event: LogEvent
    ) -> [(key: String, value: Logger.MetadataValue)] {
        var all = handler
        if let provided = provider?.get() { all.merge(provided) { $1 } }
        if let error = event.error { all["error"] = "\(error)" }
        if let own = event.metadata { all.merge(own) { $1 } }
        return all.map { (reservedKeys.contains($0.key) ? $0.key + "_" : $0.key, $0.value) }.sorted { $0.0 < $1.0 }
    }

    /// Returns `text`. Longer text is cut to whole characters that fit `valueByteCountMax` bytes, followed by "...".
    static func cut(_ text: String) -> String {
        guard text.utf8.count > valueByteCountMax else { return text }
        var result = String.UnicodeScalarView()
        var byteCount = 0
        for scalar in text.unicodeScalars {
            byteCount += UTF8.width(scalar)
            if byteCount > valueByteCountMax { break }
            result.append(scalar)
        }
        return String(result) + "..."
    }

    /// Escapes `text` for use inside double quotes, also in JSON. The result has no characters that end a line or a
    /// string, move the cursor of a terminal, or change the direction of text.
    ///
    /// - Parameter isQuoted: false: `text` stands by itself, so quotes in it stay as they are.
    static func escaped(_ text: String, isQuoted: Bool = true) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x22 where !isQuoted: result.append(scalar)
            case 0x22, 0x5C: result.append(contentsOf: ["\\", scalar])
            case 0x0A: result.append(contentsOf: ["\\", "n"])
            case 0x0D: result.append(contentsOf: ["\\", "r"])
            case 0x09: result.append(contentsOf: ["\\", "t"])
            case 0..<0x20, 0x7F...0x9F, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF:
                let digits = String(scalar.value, radix: 16)
                result.append(
                    contentsOf: "\\u\(String(repeating: "0", count: 4 - digits.count))\(digits)".unicodeScalars)
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// The current time in UTC, in the format of RFC 3339 with milliseconds.
    static func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        func padded(_ number: Int, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(width - digits.count, 0)) + digits
        }
        let date = "\(parts.tm_year + 1900)-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2))"
        let time = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { padded(Int($0), 2) }.joined(separator: ":")
        return "\(date)T\(time).\(padded(now.tv_nsec / 1_000_000, 3))Z"
    }
}
