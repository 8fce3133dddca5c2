import STOMP

/// A parser to compare the real one with, written for clarity.
///
/// It has the whole stream at hand and goes line by line: it finds the line's end, then the first octet at fault, then
/// what the line says. It knows nothing of words of eight octets and nothing of resuming.
struct FrameReference: ~Copyable {
    private let fields: UnsafeMutablePointer<HeaderField>
    private let names = ReferenceNames()
    private var fieldCount = 0
    private var isPlain = true
    private var position = 0
    private var bytes = UnsafeRawBufferPointer(start: nil, count: 0)
    private var reading = FrameReading()

    /// The stream ends before the frame does, or the frame is at fault.
    private enum Stop: Error {
        case partial
        case failed(FrameError.Code, Int)
    }

    init() { fields = .allocate(capacity: FrameReading.headerCountMax) }
    deinit { fields.deallocate() }

    mutating func read(_ bytes: UnsafeRawBufferPointer, _ reading: FrameReading, into journal: inout FrameJournal) {
        self.bytes = bytes
        self.reading = reading
        position = 0
        do throws(Stop) {
            var isFirst = true
            while try skipLineEnds() {
                try readFrame(isFirst: isFirst, into: &journal)
                isFirst = false
            }
            journal.addEnd(isPartial: false)
        } catch {
            switch error {
            case .partial: journal.addEnd(isPartial: true)
            case .failed(let code, let offset): journal.addFailure(code, offset: offset, receipt: value(.receipt))
            }
        }
    }

    private func octet(_ position: Int) throws(Stop) -> UInt8 {
        guard position < bytes.count else { throw .partial }
        return bytes[position]
    }

    /// Returns whether anything follows.
    private mutating func skipLineEnds() throws(Stop) -> Bool {
        while position < bytes.count {
            switch bytes[position] {
            case Ascii.nul, Ascii.lineFeed: position += 1
            case Ascii.carriageReturn where try octet(position + 1) == Ascii.lineFeed: position += 2
            default: return true
            }
        }
        return false
    }

    private mutating func readFrame(isFirst: Bool, into journal: inout FrameJournal) throws(Stop) {
        fieldCount = 0
        isPlain = true
        let start = position
        let command = try readCommand()
        if reading.expectsConnect && isFirst && command != .connect && command != .stomp {
            throw .failed(.commandBeforeConnect, start)
        }
        if command.text.utf8CodeUnitCount > reading.limits.commandByteCountMax { throw .failed(.commandTooLong, start) }
        let headersOffset = position
        var headersEnd = position
        while try readHeader(command, headersOffset: headersOffset) { headersEnd = position }
        let bodyOffset = position
        let (bodyByteCount, hasContentLength) = try readBody(command)
        journal.addFrame(
            command, headersOffset: headersOffset, headersByteCount: headersEnd - headersOffset, bodyOffset: bodyOffset,
            bodyByteCount: bodyByteCount, end: position, hasContentLength: hasContentLength, isPlain: isPlain,
            fieldCount: fieldCount)
        for index in 0..<fieldCount { journal.add(fields[index]) }
    }

    // MARK: Lines

    private mutating func readCommand() throws(Stop) -> Command {
        let start = position
        var number: UInt8 = 0
        while let command = Command(rawValue: number) {
            number += 1
            if command.isFromServer && !reading.acceptsServerFrames { continue }
            let count = command.text.utf8CodeUnitCount
            let text = UnsafeRawBufferPointer(start: command.text.utf8Start, count: min(count, bytes.count - start))
            guard text.elementsEqual(bytes[start..<(start + text.count)]) else { continue }
            let end = try octet(start + count)
            if end == Ascii.lineFeed {
                position = start + count + 1
                return command
            }
            guard end == Ascii.carriageReturn else { continue }
            if !allowsCarriageReturnLineFeed(command) { throw .failed(.lineEndNotInVersion, start) }
            if try octet(start + count + 1) == Ascii.lineFeed {
                position = start + count + 2
                return command
            }
        }
        throw .failed(.unknownCommand, start)
    }

    private func allowsCarriageReturnLineFeed(_ command: Command) -> Bool {
        command.precedesVersion || reading.version != .v1_1
    }

    /// Returns whether there was a header, not the empty line.
    private mutating func readHeader(_ command: Command, headersOffset: Int) throws(Stop) -> Bool {
        let start = position
        let endsWithBoth = allowsCarriageReturnLineFeed(command)

        // The line: content, CR or not, LF. Without LF the content is what is there, but for a CR that may belong to
        // the line's end.
        let lineFeed = bytes[start...].firstIndex(of: Ascii.lineFeed)
        var end = lineFeed ?? bytes.count
        let hasCarriageReturn = endsWithBoth && end > start && bytes[end - 1] == Ascii.carriageReturn
        if hasCarriageReturn { end -= 1 }
        if lineFeed != nil && end == start {
            position = lineFeed! + 1
            return false
        }

        // The first octet beyond a limit, and the first that must not be there: who comes first tells the fault.
        let lineEndMax = start + reading.limits.headerByteCountMax
        let headersEndMax = headersOffset + reading.limits.headersByteCountMax
        let tooLong: FrameError.Code = headersEndMax <= lineEndMax ? .headersTooLong : .headerTooLong
        let beyond = min(lineEndMax, headersEndMax)
        let line = judge(start, end, command)
        if let stop = line.stop, line.stopOffset < beyond { throw stop }
        if beyond < (line.stop == nil ? end : line.stopOffset + 1) { throw .failed(tooLong, start) }
        guard let lineFeed else {
            // Whatever the CR turns out to be, it takes a place among the headers.
            if hasCarriageReturn && end > start && end >= headersEndMax { throw .failed(.headersTooLong, start) }
            throw .partial
        }
        if lineFeed >= headersEndMax { throw .failed(.headersTooLong, start) }

        position = lineFeed + 1
        guard let colon = line.colon else {
            let isCarriageReturnAlone = end == start + 1 && bytes[start] == Ascii.carriageReturn && !endsWithBoth
            throw .failed(isCarriageReturnAlone ? .lineEndNotInVersion : .headerWithoutColon, start)
        }
        if fieldCount == reading.limits.headerCountMax { throw .failed(.tooManyHeaders, start) }
        var name = start..<colon
        var value = (colon + 1)..<end
        if reading.version == .v1_0 && !command.precedesVersion {
            if trim(&name) { isPlain = false }
            if trim(&value) { isPlain = false }
            if name.isEmpty { throw .failed(.headerWithoutName, start) }
        }
        if !line.flags.isEmpty || hasCarriageReturn { isPlain = false }
        fields[fieldCount] = field(name, value, line.flags)
        fieldCount += 1
        return true
    }

    private struct Line {
        var colon: Int?
        var flags: HeaderFlags = []
        /// The first octet that must not be there, or behind which one is needed that has not arrived.
        var stop: Stop?
        var stopOffset = 0

        mutating func stop(_ stop: Stop, at offset: Int) -> Line {
            self.stop = stop
            stopOffset = offset
            return self
        }
    }

    /// What a line's content says.
    private func judge(_ start: Int, _ end: Int, _ command: Command) -> Line {
        let version: Version? = command.precedesVersion ? nil : reading.version
        var line = Line()
        var place = start
        while place < end {
            switch bytes[place] {
            case Ascii.nul:
                return line.stop(.failed(.nulInHeaders, place), at: place)
            case Ascii.colon:
                if line.colon != nil {
                    line.flags.insert(.valueHasColon)
                } else if place == start {
                    return line.stop(.failed(.headerWithoutName, place), at: place)
                } else {
                    line.colon = place
                }
            case Ascii.carriageReturn:
                if version == .v1_2 { return line.stop(.failed(.carriageReturnInHeader, place), at: place) }
                line.flags.insert(.hasCarriageReturn)
            case Ascii.backslash where version == nil || version == .v1_0:
                line.flags.insert(.hasBackslash)
            case Ascii.backslash:
                if place + 1 == bytes.count { return line.stop(.partial, at: place) }
                if ReferenceEscapes.meaning(bytes[place + 1], version!) == nil {
                    return line.stop(.failed(.undefinedEscape, place), at: place)
                }
                line.flags.insert(line.colon == nil ? .nameIsEscaped : .valueIsEscaped)
                place += 1
            default: break
            }
            place += 1
        }
        return line
    }

    private func trim(_ range: inout Range<Int>) -> Bool {
        let before = range
        while let first = range.first, Ascii.isBlank(bytes[first]) { range = (first + 1)..<range.upperBound }
        while let last = range.last, Ascii.isBlank(bytes[last]) { range = range.lowerBound..<last }
        return range != before
    }

    private func field(_ name: Range<Int>, _ value: Range<Int>, _ flags: HeaderFlags) -> HeaderField {
        HeaderField(
            nameOffset: UInt32(name.lowerBound), valueOffset: UInt32(value.lowerBound), nameCount: UInt16(name.count),
            valueCount: UInt16(value.count), known: names.name(UnsafeRawBufferPointer(rebasing: bytes[name])),
            flags: flags)
    }

    // MARK: Values and body

    private func value(_ name: HeaderName) -> Range<Int>? {
        for index in 0..<fieldCount where fields[index].known == name {
            let start = Int(fields[index].valueOffset)
            return start..<(start + Int(fields[index].valueCount))
        }
        return nil
    }

    private mutating func readBody(_ command: Command) throws(Stop) -> (byteCount: Int, hasContentLength: Bool) {
        let start = position
        let byteCountMax = reading.limits.bodyByteCountMax
        if command.carriesBody, let digits = value(.contentLength) {
            guard let length = ReferenceValues.integer(UnsafeRawBufferPointer(rebasing: bytes[digits])) else {
                throw .failed(.contentLengthMalformed, digits.lowerBound)
            }
            if length > byteCountMax { throw .failed(.bodyTooLong, digits.lowerBound) }
            let end = start + Int(length)
            if try octet(end) != Ascii.nul { throw .failed(.bodyNotTerminated, end) }
            position = end + 1
            return (Int(length), true)
        }
        var mayHaveBody = command.carriesBody || reading.version == .v1_0
        if command.precedesVersion {
            mayHaveBody = speaksOldestVersion(command)
            if mayHaveBody { try trimFields() }
        }
        if !mayHaveBody, try octet(start) != Ascii.nul { throw .failed(.bodyNotAllowed, start) }
        let end = bytes[start...].firstIndex(of: Ascii.nul)
        if (end ?? bytes.count) - start > byteCountMax { throw .failed(.bodyTooLong, start) }
        guard let end else { throw .partial }
        position = end + 1
        return (command.carriesBody ? end - start : 0, false)
    }

    private func speaksOldestVersion(_ command: Command) -> Bool {
        guard let list = value(command == .connected ? .version : .acceptVersion) else { return true }
        return ReferenceValues.highestVersion(UnsafeRawBufferPointer(rebasing: bytes[list])) == .v1_0
    }

    /// A CONNECT of STOMP 1.0, which only its headers tell, is trimmed afterwards.
    private mutating func trimFields() throws(Stop) {
        let count = fieldCount
        fieldCount = 0
        for index in 0..<count {
            let raw = fields[index]
            var name = Int(raw.nameOffset)..<(Int(raw.nameOffset) + Int(raw.nameCount))
            var value = Int(raw.valueOffset)..<(Int(raw.valueOffset) + Int(raw.valueCount))
            if trim(&name) { isPlain = false }
            if trim(&value) { isPlain = false }
            if name.isEmpty { throw .failed(.headerWithoutName, name.lowerBound) }
            fields[index] = field(name, value, raw.flags)
            fieldCount += 1
        }
    }
}

/// How the octets of a stream are to be read.
struct FrameReading {
    static let headerCountMax = 64

    var version = Version.v1_2
    /// Nothing but CONNECT or STOMP may come first.
    var expectsConnect = false
    var acceptsServerFrames = false
    var limits = FrameLimits()
}
