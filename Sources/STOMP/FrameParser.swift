import Glibc
import Slabs

/// What a call of the parser came to.
public enum ParseResult: UInt8, BitwiseCopyable, Sendable {
    /// A frame; it took `frame.byteCount` bytes.
    case frame
    /// The beginning of a frame: call again with all of its bytes and more.
    case incomplete
    /// Nothing but line ends (heart-beats) and tolerated NULs; all of them are consumed.
    case idle
    /// The bytes are no frame, or exceed a limit; the error says how.
    case failed
}

/// Parses one frame in place.
///
/// The bytes begin where the last frame ended. On `.incomplete` the caller keeps all of them, appends what arrives and
/// calls again with the same `state`; they may have moved. No octet of a body is looked at twice and no octet of a
/// header more than three times, however small the pieces: once as it arrives, and once more when the headers, and when
/// the body, are complete, to fill the field table that other connections have used in between. On any other
/// result `state` is as new.
///
/// Line ends before the command (LF, and CR LF in every version) and stray NULs are consumed with the frame.
///
/// - `version`: that of the connection. CONNECT, STOMP and CONNECTED are parsed by their own rules whatever it is.
/// - `expectsConnect`: the connection is not yet CONNECTED: any command but CONNECT and STOMP fails.
/// - `acceptsServerFrames`: for clients; otherwise CONNECTED, MESSAGE, RECEIPT and ERROR are bad commands.
/// - `frame`: after `.frame` the frame; after `.failed` the headers before the fault, so that `receipt` may be known;
///   after `.incomplete` nothing.
///
/// Source: STOMP 1.0; 1.1 and 1.2, sections STOMP Frames and Augmented BNF.
public func parseFrame(
    _ bytes: UnsafeRawPointer, _ byteCount: Int, version: Version, expectsConnect: Bool,
    acceptsServerFrames: Bool = false, limits: FrameLimits, state: inout ParserState, frame: inout Frame,
    error: inout FrameError
) -> ParseResult {
    invariant(byteCount <= 0xFFFF_FFFF, "frames are parsed with 32-bit offsets")
    invariant(limits.headerCountMax <= frame.fieldCountMax, "the limits allow more headers than the frame has room for")
    if _slowPath(state.phase != .start) {
        guard frame.hasProgressed(bytes, byteCount, limits: limits, state: &state) else { return .incomplete }
    }
    let result = frame.parse(
        bytes, byteCount, version: version, expectsConnect: expectsConnect, acceptsServerFrames: acceptsServerFrames,
        limits: limits, state: &state, error: &error)
    if result != .incomplete { state = ParserState() }
    return result
}

extension Frame {
    /// Whether a frame that was incomplete has come to its next stage, or to its failure, and is worth another parse from
    /// its beginning. If not, the state knows what has been looked at.
    fileprivate mutating func hasProgressed(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, limits: FrameLimits, state: inout ParserState
    ) -> Bool {
        switch state.phase {
        case .start:
            return true
        case .headers:
            if case .incomplete = scanHeaders(bytes, byteCount, limits: limits, state: &state) { return false }
            return true
        case .countedBody:
            return byteCount >= Int(state.neededBytes)
        case .searchedBody:
            let scanned = Int(state.scanOffset)
            let end = offsetOfNul(bytes, from: scanned, to: byteCount)
            state.scanOffset = UInt32(truncatingIfNeeded: end ?? byteCount)
            return end != nil || byteCount &- Int(state.lineOffset) > limits.bodyByteCountMax
        }
    }

    @inline(__always)
    fileprivate mutating func parse(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, version: Version, expectsConnect: Bool, acceptsServerFrames: Bool,
        limits: FrameLimits, state: inout ParserState, error: inout FrameError
    ) -> ParseResult {
        base = bytes
        fieldCount = 0
        knownNames = 0
        hasContentLength = false

        let start = offsetBehindLineEnds(bytes, byteCount, from: Int(state.frameOffset))
        if start == byteCount { return .idle }

        let headersStart: Int
        switch Command.line(
            bytes + start, byteCount &- start, version: version, acceptsServerFrames: acceptsServerFrames)
        {
        case .complete(let command, let lineByteCount):
            self.command = command
            headersStart = start &+ lineByteCount
        case .partial: return suspend(&state, at: start)
        case .unknown:
            // A carriage return that is the last octet may begin a line end before the frame.
            let mayBeLineEnd = bytes.byte(start) == Byte.carriageReturn && start &+ 1 == byteCount
            return mayBeLineEnd ? suspend(&state, at: start) : fail(&error, .unknownCommand, start)
        case .carriageReturn: return fail(&error, .lineEndNotInVersion, start)
        }
        if expectsConnect && command != .connect && command != .stomp {
            return fail(&error, .commandBeforeConnect, start)
        }
        if _slowPath(limits.commandByteCountMax < Command.byteCountMax)
            && command.text.utf8CodeUnitCount > limits.commandByteCountMax
        {
            return fail(&error, .commandTooLong, start)
        }

        let rules = HeaderRules(command, version)
        if !rules.contains(.trims) {
            bodyOffset = scanPlainHeaders(bytes, byteCount, from: headersStart, limits: limits)
            if _fastPath(bodyOffset != 0) {
                return parseBody(
                    byteCount, version: version, limits: limits, state: &state, start: start, error: &error)
            }
        }
        var progress = ParserState(frameOffset: start, headersOffset: headersStart, rules: rules)
        switch scanHeaders(bytes, byteCount, limits: limits, state: &progress) {
        case .incomplete:
            state = progress
            return .incomplete
        case .failed(let code, let offset):
            return fail(&error, code, offset)
        case .end(let bodyOffset):
            self.bodyOffset = bodyOffset
            return parseBody(byteCount, version: version, limits: limits, state: &state, start: start, error: &error)
        }
    }

    @inline(__always)
    private mutating func parseBody(
        _ byteCount: Int, version: Version, limits: FrameLimits, state: inout ParserState, start: Int,
        error: inout FrameError
    ) -> ParseResult {
        if command.carriesBody {
            if has(.contentLength) {
                return parseCountedBody(byteCount, limits: limits, state: &state, start: start, error: &error)
            }
        } else {
            var toleratesBody = version == .v1_0
            if _slowPath(command.precedesVersion) {
                toleratesBody = speaksOldestVersion
                if toleratesBody, let nameless = trimFields() { return fail(&error, .headerWithoutName, nameless) }
            }
            if !toleratesBody {
                if bodyOffset == byteCount { return awaitBytes(bodyOffset &+ 1, &state, start: start) }
                if base.byte(bodyOffset) != Byte.nul { return fail(&error, .bodyNotAllowed, bodyOffset) }
            }
        }
        return parseSearchedBody(byteCount, limits: limits, state: &state, start: start, error: &error)
    }

    /// The body of a frame with a content-length: so many octets, and then a NUL.
    @inline(__always)
    private mutating func parseCountedBody(
        _ byteCount: Int, limits: FrameLimits, state: inout ParserState, start: Int, error: inout FrameError
    ) -> ParseResult {
        let bytes = base
        let digits = rawValue(.contentLength).unsafelyUnwrapped
        let digitsOffset = digits.baseAddress.unsafelyUnwrapped - bytes
        guard let length = decimal(bytes + digitsOffset, digits.count) else {
            return fail(&error, .contentLengthMalformed, digitsOffset)
        }
        if length > UInt64(limits.bodyByteCountMax) { return fail(&error, .bodyTooLong, digitsOffset) }
        let end = bodyOffset &+ Int(length)
        if end >= byteCount { return awaitBytes(end &+ 1, &state, start: start) }
        if bytes.byte(end) != Byte.nul { return fail(&error, .bodyNotTerminated, end) }
        hasContentLength = true
        bodyByteCount = Int(length)
        self.byteCount = end &+ 1
        return .frame
    }

    /// A body that ends at the first NUL. Of a command that carries none it is dropped.
    @inline(__always)
    private mutating func parseSearchedBody(
        _ byteCount: Int, limits: FrameLimits, state: inout ParserState, start: Int, error: inout FrameError
    ) -> ParseResult {
        let bodyOffset = self.bodyOffset
        let scanned = state.phase == .searchedBody ? Int(state.scanOffset) : bodyOffset
        guard let end = offsetOfNul(base, from: scanned, to: byteCount) else {
            if byteCount &- bodyOffset > limits.bodyByteCountMax { return fail(&error, .bodyTooLong, bodyOffset) }
            state = ParserState(frameOffset: start)
            state.phase = .searchedBody
            state.lineOffset = UInt32(truncatingIfNeeded: bodyOffset)
            state.scanOffset = UInt32(truncatingIfNeeded: byteCount)
            return .incomplete
        }
        if end &- bodyOffset > limits.bodyByteCountMax { return fail(&error, .bodyTooLong, bodyOffset) }
        bodyByteCount = command.carriesBody ? end &- bodyOffset : 0
        self.byteCount = end &+ 1
        return .frame
    }

    /// Whether a CONNECT, STOMP or CONNECTED is one of STOMP 1.0, which only its headers tell.
    private var speaksOldestVersion: Bool {
        guard let list = rawValue(command == .connected ? .version : .acceptVersion) else { return true }
        return AcceptVersion.highestCommon(list) == .v1_0
    }

    @inline(__always)
    private func suspend(_ state: inout ParserState, at start: Int) -> ParseResult {
        state = ParserState(frameOffset: start)
        return .incomplete
    }

    @inline(__always)
    private func awaitBytes(_ needed: Int, _ state: inout ParserState, start: Int) -> ParseResult {
        state = ParserState(frameOffset: start)
        state.phase = .countedBody
        state.neededBytes = UInt32(truncatingIfNeeded: needed)
        return .incomplete
    }

    @inline(never)
    private func fail(_ error: inout FrameError, _ code: FrameError.Code, _ offset: Int) -> ParseResult {
        error = FrameError(code: code, offset: offset)
        return .failed
    }
}

/// Where a frame begins: behind line ends (LF, and CR LF in every version) and stray NULs.
@inline(__always)
private func offsetBehindLineEnds(_ bytes: UnsafeRawPointer, _ byteCount: Int, from start: Int) -> Int {
    var offset = start
    while offset < byteCount {
        let byte = bytes.byte(offset)
        if byte > Byte.carriageReturn { break }
        if byte == Byte.lineFeed || byte == Byte.nul {
            offset &+= 1
        } else if byte == Byte.carriageReturn && offset &+ 1 < byteCount && bytes.byte(offset &+ 1) == Byte.lineFeed {
            offset &+= 2
        } else {
            break
        }
    }
    return offset
}

@inline(__always)
private func offsetOfNul(_ bytes: UnsafeRawPointer, from start: Int, to end: Int) -> Int? {
    guard start < end, let found = memchr(bytes + start, 0, end &- start) else { return nil }
    return UnsafeRawPointer(found) - bytes
}
