import STOMP

/// A parser written for clarity alone, to compare the real one with: it has all bytes of a stream at hand, looks at them
/// one by one, copies everything, and knows nothing of resuming.
struct ReferenceParser {
    private let bytes: [UInt8]
    private let reading: Reading
    private var position = 0
    private var transcript = Transcript()
    private var fields: [Transcript.Field] = []
    private var valueOffsets: [Int] = []
    private var isPlain = true

    private static let nul = UInt8(0)
    private static let lineFeed = UInt8(ascii: "\n")
    private static let carriageReturn = UInt8(ascii: "\r")
    private static let colon = UInt8(ascii: ":")
    private static let backslash = UInt8(ascii: "\\")

    /// The stream ends before the frame does, or the frame is at fault.
    private enum Stop: Error {
        case partial
        case failed(FrameError.Code, Int)
    }

    static func transcript(_ bytes: [UInt8], _ reading: Reading) -> Transcript {
        var parser = ReferenceParser(bytes: bytes, reading: reading)
        parser.run()
        return parser.transcript
    }

    private init(bytes: [UInt8], reading: Reading) {
        self.bytes = bytes
        self.reading = reading
    }

    private mutating func run() {
        do {
            while try skipLineEnds() { try parseFrame() }
            transcript.end = .clean
        } catch Stop.partial {
            transcript.end = .partial
        } catch Stop.failed(let code, let offset) {
            let receipt = fields.first { $0.name == Array("receipt".utf8) }?.value
            transcript.end = .failed(code, offset: offset, receipt: receipt)
        } catch {
            fatalError("unexpected \(error)")
        }
    }

    /// The octet at a position; stops where the stream does.
    private func octet(_ position: Int) throws -> UInt8 {
        guard position < bytes.count else { throw Stop.partial }
        return bytes[position]
    }

    /// Returns whether anything follows.
    private mutating func skipLineEnds() throws -> Bool {
        while position < bytes.count {
            if bytes[position] == Self.lineFeed || bytes[position] == Self.nul {
                position += 1
            } else if bytes[position] == Self.carriageReturn, try octet(position + 1) == Self.lineFeed {
                position += 2
            } else {
                return true
            }
        }
        return false
    }

    private mutating func parseFrame() throws {
        fields = []
        valueOffsets = []
        isPlain = true
        let start = position
        let command = try parseCommand()
        if reading.expectsConnect && transcript.frames.isEmpty && command != .connect && command != .stomp {
            throw Stop.failed(.commandBeforeConnect, start)
        }
        if command.text.utf8CodeUnitCount > reading.limits.commandByteCountMax {
            throw Stop.failed(.commandTooLong, start)
        }
        let headersStart = position
        while try parseHeader(command, headersStart) {}
        let bodyStart = position
        let (body, hasContentLength) = try parseBody(command, bodyStart)
        transcript.frames.append(
            Transcript.ParsedFrame(
                command: command, fields: fields, body: body, hasContentLength: hasContentLength, isPlain: isPlain,
                endOffset: position))
    }

    private mutating func parseCommand() throws -> Command {
        let start = position
        var candidates = Command.allCases.filter { reading.acceptsServerFrames || !$0.isFromServer }
        var length = 0
        while true {
            let octet = try octet(start + length)
            let complete = candidates.first { Array(text($0)).count == length }
            if let complete, octet == Self.lineFeed {
                position = start + length + 1
                return complete
            }
            if let complete, octet == Self.carriageReturn {
                if !allowsCarriageReturnLineFeed(complete) { throw Stop.failed(.lineEndNotInVersion, start) }
                guard try self.octet(start + length + 1) == Self.lineFeed else {
                    throw Stop.failed(.unknownCommand, start)
                }
                position = start + length + 2
                return complete
            }
            candidates = candidates.filter { text($0).count > length && text($0)[length] == octet }
            if candidates.isEmpty { throw Stop.failed(.unknownCommand, start) }
            length += 1
        }
    }

    private func text(_ command: Command) -> [UInt8] { Array(String(describing: command.text).utf8) }

    private func allowsCarriageReturnLineFeed(_ command: Command) -> Bool {
        command.precedesVersion || reading.version != .v1_1
    }

    /// Returns whether there was a header, not the empty line.
    private mutating func parseHeader(_ command: Command, _ headersStart: Int) throws -> Bool {
        let lineStart = position
        let hasVersion = !command.precedesVersion
        let escapes = hasVersion && reading.version != .v1_0
        let allowsCarriageReturn = allowsCarriageReturnLineFeed(command)
        var colonAt: Int?
        var flags: HeaderFlags = []
        var isSecondOfEscape = false
        var endsWithCarriageReturn = false

        while true {
            let octet = try octet(position)
            var isLineEnd = octet == Self.lineFeed
            if octet == Self.carriageReturn && allowsCarriageReturn {
                isLineEnd = try self.octet(position + 1) == Self.lineFeed
                endsWithCarriageReturn = isLineEnd
            }
            if isLineEnd && position == lineStart {
                position += endsWithCarriageReturn ? 2 : 1
                return false
            }
            let lastOfLine = isLineEnd && endsWithCarriageReturn ? position + 1 : position
            if lastOfLine >= headersStart + reading.limits.headersByteCountMax
                && (isLineEnd
                    || headersStart + reading.limits.headersByteCountMax
                        <= lineStart + reading.limits.headerByteCountMax)
            {
                throw Stop.failed(.headersTooLong, lineStart)
            }
            if isLineEnd { break }
            if position >= lineStart + reading.limits.headerByteCountMax {
                throw Stop.failed(.headerTooLong, lineStart)
            }

            if isSecondOfEscape {
                isSecondOfEscape = false
                position += 1
                continue
            }
            switch octet {
            case Self.nul:
                throw Stop.failed(.nulInHeaders, position)
            case Self.colon:
                if colonAt != nil {
                    flags.insert(.valueHasColon)
                } else if position == lineStart {
                    throw Stop.failed(.headerWithoutName, position)
                } else {
                    colonAt = position
                }
            case Self.carriageReturn:
                if hasVersion && reading.version == .v1_2 { throw Stop.failed(.carriageReturnInHeader, position) }
                flags.insert(.hasCarriageReturn)
            case Self.backslash:
                guard escapes else {
                    flags.insert(.hasBackslash)
                    break
                }
                let defined = reading.version == .v1_2 ? "nc\\r" : "nc\\"
                guard defined.utf8.contains(try self.octet(position + 1)) else {
                    throw Stop.failed(.undefinedEscape, position)
                }
                flags.insert(colonAt == nil ? .nameIsEscaped : .valueIsEscaped)
                isSecondOfEscape = true
            default:
                break
            }
            position += 1
        }

        let line = bytes[lineStart..<position]
        position += endsWithCarriageReturn ? 2 : 1
        guard let colonAt else {
            let isCarriageReturnAlone = Array(line) == [Self.carriageReturn] && !allowsCarriageReturn
            throw Stop.failed(isCarriageReturnAlone ? .lineEndNotInVersion : .headerWithoutColon, lineStart)
        }
        if fields.count == reading.limits.headerCountMax { throw Stop.failed(.tooManyHeaders, lineStart) }
        var field = Transcript.Field(
            name: Array(line[..<colonAt]), value: Array(line[(colonAt + 1)...]), flags: flags.rawValue)
        valueOffsets.append(colonAt + 1)
        if hasVersion && reading.version == .v1_0 {
            valueOffsets[valueOffsets.count - 1] += field.value.prefix { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }.count
            trim(&field)
        }
        if field.name.isEmpty { throw Stop.failed(.headerWithoutName, lineStart) }
        if !flags.isEmpty || endsWithCarriageReturn { isPlain = false }
        fields.append(field)
        return true
    }

    private mutating func trim(_ field: inout Transcript.Field) {
        let before = field
        for part in [\Transcript.Field.name, \Transcript.Field.value] {
            let isBlank = { (octet: UInt8) in octet == 0x20 || octet == 0x09 || octet == Self.carriageReturn }
            let trimmed = field[keyPath: part].drop(while: isBlank).reversed().drop(while: isBlank).reversed()
            field[keyPath: part] = Array(trimmed)
        }
        if field != before { isPlain = false }
    }

    private func value(_ name: String) -> [UInt8]? { fields.first { $0.name == Array(name.utf8) }?.value }

    private mutating func parseBody(_ command: Command, _ start: Int) throws -> (body: [UInt8], counted: Bool) {
        let bodyMax = reading.limits.bodyByteCountMax
        if command.carriesBody, let digits = value("content-length") {
            let digitsAt = valueOffsets[fields.firstIndex { $0.name == Array("content-length".utf8) }!]
            guard !digits.isEmpty, digits.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
                let length = UInt64(String(decoding: digits, as: UTF8.self))
            else { throw Stop.failed(.contentLengthMalformed, digitsAt) }
            if length > bodyMax { throw Stop.failed(.bodyTooLong, digitsAt) }
            let end = start + Int(length)
            guard try octet(end) == Self.nul else { throw Stop.failed(.bodyNotTerminated, end) }
            position = end + 1
            return (Array(bytes[start..<end]), true)
        }

        var toleratesBody = reading.version == .v1_0
        if command.precedesVersion {
            toleratesBody = speaksOldestVersion(command)
            if toleratesBody { try trimConnect() }
        }
        while true {
            if position - start > bodyMax { throw Stop.failed(.bodyTooLong, start) }
            if position == bytes.count { throw Stop.partial }
            if bytes[position] == Self.nul { break }
            if !command.carriesBody && !toleratesBody { throw Stop.failed(.bodyNotAllowed, start) }
            position += 1
        }
        position += 1
        return (command.carriesBody ? Array(bytes[start..<position - 1]) : [], false)
    }

    private func speaksOldestVersion(_ command: Command) -> Bool {
        guard let list = value(command == .connected ? "version" : "accept-version") else { return true }
        let versions = list.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map { entry in
            String(decoding: entry.filter { $0 != 0x20 && $0 != 0x09 && $0 != Self.carriageReturn }, as: UTF8.self)
        }
        return versions.contains("1.0") && !versions.contains("1.1") && !versions.contains("1.2")
    }

    private mutating func trimConnect() throws {
        let raw = fields
        fields = []
        for (var field, valueOffset) in zip(raw, valueOffsets) {
            trim(&field)
            if field.name.isEmpty { throw Stop.failed(.headerWithoutName, valueOffset - 1) }
            fields.append(field)
        }
    }
}
