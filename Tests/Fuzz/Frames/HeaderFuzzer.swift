import Glibc
import STOMP

/// Takes octets as a header's text, and as a header's raw value, through the codec and back.
///
///     | from, to, is CONNECT | how many octets are the name | octets ...
///     0                      1                              2
final class HeaderFuzzer {
    private static let byteCountMax = 1024

    private let written = GuardedOctets(capacity: byteCountMax * 4)
    private let scratch = UnsafeMutableRawPointer.allocate(byteCount: byteCountMax * 4, alignment: 16)
    private let expected = UnsafeMutableRawPointer.allocate(byteCount: byteCountMax * 4, alignment: 16)
    private let line = UnsafeMutableRawPointer.allocate(byteCount: byteCountMax * 8, alignment: 16)
    private let text = UnsafeMutableRawPointer.allocate(byteCount: byteCountMax, alignment: 16)
    private var frame = Frame(headerCountMax: 4)

    deinit {
        scratch.deallocate()
        expected.deallocate()
        line.deallocate()
        text.deallocate()
    }

    func check(_ octets: UnsafeRawBufferPointer) -> String? {
        guard octets.count >= 2 else { return nil }
        let from = Version(rawValue: octets[0] & 3) ?? .v1_2
        let to = Version(rawValue: octets[0] >> 2 & 3) ?? .v1_2
        let body = UnsafeRawBufferPointer(rebasing: octets.dropFirst(2).prefix(Self.byteCountMax))
        if let fault = checkValues(body) { return fault }
        if let fault = checkEscaping(body, from, isConnectFrame: octets[0] & 16 != 0) { return fault }
        if let fault = checkUnescaping(body, from) { return fault }
        return checkHeader(body, nameByteCount: Int(octets[1]), from, to)
    }

    // MARK: Values

    private func checkValues(_ text: UnsafeRawBufferPointer) -> String? {
        let beat = HeartBeat.parse(text)
        let beatExpected = ReferenceValues.heartBeat(text)
        if beat?.0 != beatExpected?.0 || beat?.1 != beatExpected?.1 { return "heart-beat" }
        if AcceptVersion.highestCommon(text) != ReferenceValues.highestVersion(text) { return "accept-version" }
        return nil
    }

    // MARK: Text

    /// Escaping gives what the specification says, says nothing that ends a header, and can be undone.
    private func checkEscaping(_ text: UnsafeRawBufferPointer, _ version: Version, isConnectFrame: Bool) -> String? {
        let escaped = escape(text, version, isConnectFrame: isConnectFrame)
        let count = ReferenceEscapes.escape(text, isConnectFrame ? .v1_0 : version, into: expected)
        guard equal(escaped, expected, count) else { return "escaped otherwise" }
        guard !isConnectFrame, version != .v1_0 else { return nil }
        let undone = unescape(escaped, into: scratch)
        return equal(text, scratch, undone) ? nil : "what was escaped and unescaped is not what it was"
    }

    private func escape(
        _ text: UnsafeRawBufferPointer, _ version: Version, isConnectFrame: Bool = false
    ) -> UnsafeRawBufferPointer {
        let room = FrameWriter.escapedByteCountMax(text.count)
        let start = written.room(room)
        var writer = FrameWriter(at: start)
        writer.writeEscaped(text, version: version, isConnectFrame: isConnectFrame)
        return UnsafeRawBufferPointer(start: start, count: writer.cursor - start)
    }

    /// What the parser would let pass means to the codec what it means to the reference.
    private func checkUnescaping(_ raw: UnsafeRawBufferPointer, _ version: Version) -> String? {
        guard version != .v1_0, let count = ReferenceEscapes.unescape(raw, version, into: expected) else { return nil }
        let found = unescape(raw, into: scratch)
        guard found == count, equal(UnsafeRawBufferPointer(start: scratch, count: found), expected, count) else {
            return "unescaped otherwise"
        }
        return nil
    }

    // MARK: A whole header

    /// A header that is written, read, written in another version and read again says what it said.
    private func checkHeader(
        _ octets: UnsafeRawBufferPointer, nameByteCount: Int, _ from: Version, _ to: Version
    ) -> String? {
        let nameCount = min(nameByteCount, octets.count)
        guard nameCount > 0 else { return nil }
        // NUL cannot come out of a parsed header, and 1.0 says neither blanks around nor colons and line feeds within.
        for (place, octet) in octets.enumerated() {
            let isSayable = octet != 0 && (from != .v1_0 || octet > 0x20 && octet != Ascii.colon)
            text.storeBytes(of: isSayable ? octet : UInt8(ascii: "x"), toByteOffset: place, as: UInt8.self)
        }
        let name = UnsafeRawBufferPointer(start: text, count: nameCount)
        let value = UnsafeRawBufferPointer(start: text + nameCount, count: octets.count - nameCount)

        var writer = FrameWriter(at: line)
        writer.write("SUBSCRIBE\n")
        writer.writeEscaped(name, version: from)
        writer.write(Ascii.colon)
        writer.writeEscaped(value, version: from)
        writer.write("\n\n\0")
        if let fault = read(line, writer.cursor - line, from, name, value) { return "written, \(fault)" }

        let field = frame.field(0)
        let room =
            "SUBSCRIBE\n\n\0".utf8.count + FrameWriter.escapedByteCountMax(Int(field.nameCount) + Int(field.valueCount))
            + 2
        let start = written.room(room)
        writer = FrameWriter(at: start)
        writer.write("SUBSCRIBE\n")
        writer.writeTranscoded(field, of: frame, from: from, to: to)
        writer.write("\n\0")
        let count = writer.cursor - start
        if to == .v1_0 {
            // It cannot say everything; but it says it in one line.
            let lineFeeds = UnsafeRawBufferPointer(start: start, count: count).count { $0 == Ascii.lineFeed }
            return lineFeeds == 3 ? nil : "a header of \(lineFeeds - 2) lines"
        }
        return read(start, count, to, name, value).map { "written in \(to) for \(from), \($0)" }
    }

    /// Whether the frame's one header is this one.
    private func read(
        _ bytes: UnsafeMutableRawPointer, _ byteCount: Int, _ version: Version, _ name: UnsafeRawBufferPointer,
        _ value: UnsafeRawBufferPointer
    ) -> String? {
        var state = ParserState()
        var error = FrameError()
        let limits = FrameLimits(headerCountMax: 4)
        let result = parseFrame(
            bytes, byteCount, version: version, expectsConnect: false, limits: limits, state: &state, frame: &frame,
            error: &error)
        guard result == .frame, frame.byteCount == byteCount, frame.fieldCount == 1 else {
            return "it is refused: \(error.code)"
        }
        let field = frame.field(0)
        guard says(frame.rawName(of: field), field.flags.contains(.nameIsEscaped), name) else {
            return "its name differs"
        }
        guard says(frame.rawValue(of: field), field.flags.contains(.valueIsEscaped), value) else {
            return "its value differs"
        }
        guard field.known != .other else { return nil }
        // The ways to a known header's value agree.
        guard let known = frame.value(field.known, into: scratch, version: version), equal(value, known) else {
            return "it is not found by name"
        }
        let integer: HeaderInteger = ReferenceValues.integer(frame.rawValue(of: field)).map { .value($0) } ?? .malformed
        return frame.integer(field.known) == integer ? nil : "its number differs"
    }

    private func says(_ raw: UnsafeRawBufferPointer, _ isEscaped: Bool, _ text: UnsafeRawBufferPointer) -> Bool {
        isEscaped ? equal(text, scratch, unescape(raw, into: scratch)) : equal(text, raw)
    }

    private func equal(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        second.isEmpty ? first.isEmpty : equal(first, second.baseAddress!, second.count)
    }

    private func equal(_ octets: UnsafeRawBufferPointer, _ other: UnsafeRawPointer, _ count: Int) -> Bool {
        octets.count == count && (count == 0 || memcmp(octets.baseAddress!, other, count) == 0)
    }
}
