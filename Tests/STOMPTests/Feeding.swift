import Glibc
import STOMP
import Testing

/// What one side of a conversation amounts to: its frames, and how it ends. Offsets count from the stream's beginning,
/// so that the same bytes give the same transcript however they are cut.
struct Transcript: Equatable {
    struct Field: Equatable {
        var name: [UInt8]
        var value: [UInt8]
        var flags: UInt8
    }

    struct ParsedFrame: Equatable {
        var command: Command
        var fields: [Field]
        var body: [UInt8]
        var hasContentLength: Bool
        var isPlain: Bool
        var endOffset: Int
    }

    enum End: Equatable {
        /// Nothing is left over.
        case clean
        case partial
        case failed(FrameError.Code, offset: Int, receipt: [UInt8]?)
    }

    var frames: [ParsedFrame] = []
    var end = End.clean
}

/// How a stream is parsed.
struct Reading {
    var version = Version.v1_2
    var expectsConnect = false
    var acceptsServerFrames = false
    var limits = FrameLimits()
}

/// Memory whose end is the end of a page with an inaccessible page behind it: an octet read too far ends the process.
struct GuardedBytes: ~Copyable {
    private let start: UnsafeMutableRawPointer
    private let capacity: Int
    private static let pageByteCount = 4096

    init(capacity: Int) {
        self.capacity = (capacity / Self.pageByteCount + 1) * Self.pageByteCount
        start = mmap(
            nil, self.capacity + Self.pageByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        precondition(start != MAP_FAILED, "no memory for a test")
        precondition(mprotect(start + self.capacity, Self.pageByteCount, PROT_NONE) == 0)
    }

    deinit { munmap(start, capacity + Self.pageByteCount) }

    /// Copies the bytes so that the last stands directly before the guard.
    func place(_ bytes: ArraySlice<UInt8>) -> UnsafeRawPointer {
        precondition(bytes.count <= capacity)
        let target = start + (capacity - bytes.count)
        bytes.withUnsafeBytes {
            if let source = $0.baseAddress { target.copyMemory(from: source, byteCount: $0.count) }
        }
        return UnsafeRawPointer(target)
    }

    /// Makes what was placed unrecognisable, as a buffer that has gone back to its pool is.
    func scramble() { memset(start, 0x3A, capacity) }
}

/// Parses a stream as a broker would: partial frames are kept and completed, at another address each time, with a
/// `Frame` that other connections use in between.
struct Feeder: ~Copyable {
    let reading: Reading
    private var transcript = Transcript()
    private var pending: [UInt8] = []
    private var consumed = 0
    private var state = ParserState()
    private var frame: Frame
    private let first: GuardedBytes
    private let second: GuardedBytes
    private var usesSecond = false
    private var hasFailed = false
    private var isConnected: Bool

    init(_ reading: Reading, capacity: Int) {
        self.reading = reading
        frame = Frame(headerCountMax: reading.limits.headerCountMax)
        first = GuardedBytes(capacity: capacity)
        second = GuardedBytes(capacity: capacity)
        isConnected = !reading.expectsConnect
    }

    mutating func feed(_ bytes: ArraySlice<UInt8>) {
        pending += bytes
        while !pending.isEmpty && !hasFailed {
            if !step() { break }
        }
        disturb()
    }

    consuming func finish() -> Transcript {
        var transcript = self.transcript
        if !hasFailed { transcript.end = pending.isEmpty ? .clean : .partial }
        return transcript
    }

    /// One call of the parser. Returns whether another is due.
    private mutating func step() -> Bool {
        usesSecond.toggle()
        let bytes = usesSecond ? second.place(pending[...]) : first.place(pending[...])
        var error = FrameError()
        let result = parseFrame(
            bytes, pending.count, version: reading.version, expectsConnect: !isConnected,
            acceptsServerFrames: reading.acceptsServerFrames, limits: reading.limits, state: &state, frame: &frame,
            error: &error)
        switch result {
        case .frame:
            record()
            isConnected = true
            pending.removeFirst(frame.byteCount)
            consumed += frame.byteCount
            return true
        case .incomplete:
            precondition(state.neededByteCount == 0 || state.neededByteCount > pending.count)
            return false
        case .idle:
            consumed += pending.count
            pending = []
            return false
        case .failed:
            hasFailed = true
            transcript.end = .failed(
                error.code, offset: consumed + error.offset, receipt: frame.rawValue(.receipt).map { Array($0) })
            return false
        }
    }

    private mutating func record() {
        var fields: [Transcript.Field] = []
        for index in 0..<frame.fieldCount {
            let field = frame.field(index)
            fields.append(
                Transcript.Field(
                    name: Array(frame.rawName(of: field)), value: Array(frame.rawValue(of: field)),
                    flags: field.flags.rawValue))
        }
        transcript.frames.append(
            Transcript.ParsedFrame(
                command: frame.command, fields: fields, body: Array(frame.body),
                hasContentLength: frame.hasContentLength, isPlain: frame.isPlain, endOffset: consumed + frame.byteCount)
        )
    }

    /// What other connections do between two calls.
    private mutating func disturb() {
        if usesSecond { second.scramble() } else { first.scramble() }
        var otherState = ParserState()
        var otherError = FrameError()
        var other = Array("MESSAGE\nreceipt:other\ndestination:/other\n\nother\0".utf8)
        other.withUnsafeMutableBytes {
            _ = parseFrame(
                UnsafeRawPointer($0.baseAddress!), $0.count, version: .v1_2, expectsConnect: false,
                acceptsServerFrames: true, limits: FrameLimits(headerCountMax: frame.fieldCountMax),
                state: &otherState, frame: &frame, error: &otherError)
            memset($0.baseAddress!, 0x3A, $0.count)
        }
    }
}

/// Parses a stream that arrives in pieces which end at the given offsets.
func transcript(_ bytes: [UInt8], _ reading: Reading, cuts: [Int] = []) -> Transcript {
    var feeder = Feeder(reading, capacity: bytes.count)
    var start = 0
    for cut in cuts + [bytes.count] where cut > start && cut <= bytes.count {
        feeder.feed(bytes[start..<cut])
        start = cut
    }
    return feeder.finish()
}

extension Transcript {
    var isPartial: Bool { end == .partial && frames.isEmpty }

    /// The one frame of a stream that holds just one.
    var only: ParsedFrame? { frames.count == 1 && end == .clean ? frames[0] : nil }

    var failure: FrameError.Code? {
        if case .failed(let code, _, _) = end { return code }
        return nil
    }

    var failureOffset: Int? {
        if case .failed(_, let offset, _) = end { return offset }
        return nil
    }

    var receipt: String? {
        if case .failed(_, _, let receipt?) = end { return String(decoding: receipt, as: UTF8.self) }
        return nil
    }
}

extension Transcript.ParsedFrame {
    /// "name=value" of each header, raw.
    var headers: [String] {
        fields.map { "\(String(decoding: $0.name, as: UTF8.self))=\(String(decoding: $0.value, as: UTF8.self))" }
    }

    var text: String { String(decoding: body, as: UTF8.self) }
}

/// Parses a stream whole, cut in two at each octet, and octet by octet, and expects the same from all, and from the
/// reference parser.
func read(_ bytes: [UInt8], _ reading: Reading, sourceLocation: SourceLocation = #_sourceLocation) -> Transcript {
    let whole = transcript(bytes, reading)
    let expected = ReferenceParser.transcript(bytes, reading)
    #expect(whole == expected, "the reference disagrees", sourceLocation: sourceLocation)
    for cut in bytes.indices {
        #expect(transcript(bytes, reading, cuts: [cut]) == whole, "cut at \(cut)", sourceLocation: sourceLocation)
    }
    #expect(transcript(bytes, reading, cuts: Array(bytes.indices)) == whole, sourceLocation: sourceLocation)
    return whole
}

func read(
    _ text: String, _ version: Version = .v1_2, expectsConnect: Bool = false, acceptsServerFrames: Bool = false,
    limits: FrameLimits = FrameLimits(), sourceLocation: SourceLocation = #_sourceLocation
) -> Transcript {
    let reading = Reading(
        version: version, expectsConnect: expectsConnect, acceptsServerFrames: acceptsServerFrames, limits: limits)
    return read(Array(text.utf8), reading, sourceLocation: sourceLocation)
}

/// Parses one whole frame and hands it over.
func withFrame<Result>(
    _ text: String, _ version: Version = .v1_2, _ use: (borrowing Frame) -> Result
) -> Result {
    var bytes = Array(text.utf8)
    return bytes.withUnsafeMutableBytes { buffer in
        var frame = Frame(headerCountMax: 64)
        var state = ParserState()
        var error = FrameError()
        let result = parseFrame(
            UnsafeRawPointer(buffer.baseAddress!), buffer.count, version: version, expectsConnect: false,
            acceptsServerFrames: true, limits: FrameLimits(), state: &state, frame: &frame, error: &error)
        precondition(result == .frame, "a test's frame is none: \(error.explanation)")
        return use(frame)
    }
}

extension StaticString {
    var string: String { String(describing: self) }
}
