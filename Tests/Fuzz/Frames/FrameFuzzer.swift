import STOMP

extension FuzzTarget {
    static func frame(_ name: String, _ version: Version) -> FuzzTarget {
        FuzzTarget(
            name: name, corpus: "frame", dictionary: "stomp.dict", byteCountMax: FrameFuzzer.headByteCount + 120
        ) {
            let fuzzer = FrameFuzzer(version)
            return { fuzzer.check($0) }
        }
    }
}

/// Gives a stream to the real parser, in pieces, and to the reference, whole.
///
///     | how to read | limits: headers, header, headers, body | cuts: two distances, how many | the stream ...
///     0             1                                        5                               8
///
/// The head has a fixed place so that a change to the stream leaves it alone. How to read: bit 0: CONNECT is expected;
/// 1: frames of the server are accepted; 2: the limits are those of the next octets; 3: so is that of the command.
final class FrameFuzzer {
    static let headByteCount = 8
    static let streamByteCountMax = 4096

    private let version: Version
    private var reference = FrameReference()
    private var expected = FrameJournal(byteCountMax: streamByteCountMax)
    private var found = FrameJournal(byteCountMax: streamByteCountMax)
    private let first = GuardedOctets(capacity: streamByteCountMax)
    private let second = GuardedOctets(capacity: streamByteCountMax)
    private var frame = Frame(headerCountMax: FrameReading.headerCountMax)

    init(_ version: Version) { self.version = version }

    func check(_ octets: UnsafeRawBufferPointer) -> String? {
        guard octets.count > Self.headByteCount else { return nil }
        let stream = UnsafeRawBufferPointer(
            rebasing: octets.dropFirst(Self.headByteCount).prefix(Self.streamByteCountMax))
        let reading = reading(octets)
        expected.clear()
        reference.read(stream, reading, into: &expected)
        found.clear()
        if let fault = parse(stream, reading, cuts: Cuts(octets, streamByteCount: stream.count)) { return fault }
        return found.difference(from: expected)
    }

    private func reading(_ head: UnsafeRawBufferPointer) -> FrameReading {
        var reading = FrameReading()
        reading.version = version
        reading.expectsConnect = head[0] & 1 != 0
        reading.acceptsServerFrames = head[0] & 2 != 0
        if head[0] & 4 != 0 {
            reading.limits = FrameLimits(
                commandByteCountMax: head[0] & 8 != 0 ? Int(head[1] >> 4) : 64, headerCountMax: Int(head[1] & 15),
                headerByteCountMax: Int(head[2]), headersByteCountMax: Int(head[3]), bodyByteCountMax: Int(head[4]))
        }
        return reading
    }

    /// Where the stream is cut: two distances that take turns, up to 14 times; 15: a short stream to its end.
    private struct Cuts {
        private var distances: (Int, Int)
        private var left: Int
        private var place = 0

        init(_ head: UnsafeRawBufferPointer, streamByteCount: Int) {
            distances = (Int(head[5]) + 1, Int(head[6]) + 1)
            left = Int(head[7] & 15)
            if left == 15 && streamByteCount <= 48 { left = streamByteCount }
        }

        /// The end of the next piece.
        mutating func next(in byteCount: Int) -> Int {
            if left == 0 { return byteCount }
            left -= 1
            place += distances.0
            distances = (distances.1, distances.0)
            return min(place, byteCount)
        }
    }

    /// Parses as the broker does: a frame cut short is kept and completed at another address, with a `Frame` that other
    /// connections use in between.
    private func parse(_ stream: UnsafeRawBufferPointer, _ reading: FrameReading, cuts: consuming Cuts) -> String? {
        var consumed = 0
        var arrived = 0
        var state = ParserState()
        var error = FrameError()
        var isConnected = !reading.expectsConnect
        var usesSecond = false
        while arrived < stream.count {
            arrived = cuts.next(in: stream.count)
            disturb()
            piece: while consumed < arrived {
                usesSecond.toggle()
                let pending = UnsafeRawBufferPointer(rebasing: stream[consumed..<arrived])
                let bytes = usesSecond ? second.place(pending) : first.place(pending)
                let result = parseFrame(
                    bytes, pending.count, version: version, expectsConnect: !isConnected,
                    acceptsServerFrames: reading.acceptsServerFrames, limits: reading.limits, state: &state,
                    frame: &frame, error: &error)
                switch result {
                case .frame:
                    if frame.byteCount <= 0 || frame.byteCount > pending.count {
                        return "a frame of no or too many octets"
                    }
                    if let fault = record(at: consumed) { return fault }
                    consumed += frame.byteCount
                    isConnected = true
                case .idle:
                    consumed = arrived
                case .incomplete:
                    let needed = state.neededByteCount
                    if needed != 0 && needed <= pending.count { return "needs \(needed) of \(pending.count) octets" }
                    break piece
                case .failed:
                    let receipt = frame.rawValue(.receipt).map { value in
                        let start = consumed + (value.baseAddress! - bytes)
                        return start..<(start + value.count)
                    }
                    found.addFailure(error.code, offset: consumed + error.offset, receipt: receipt)
                    return nil
                }
            }
        }
        found.addEnd(isPartial: consumed < stream.count)
        return nil
    }

    private func record(at consumed: Int) -> String? {
        found.addFrame(
            frame.command, headersOffset: consumed + frame.headersOffset, headersByteCount: frame.headersByteCount,
            bodyOffset: consumed + frame.bodyOffset, bodyByteCount: frame.bodyByteCount,
            end: consumed + frame.byteCount, hasContentLength: frame.hasContentLength, isPlain: frame.isPlain,
            fieldCount: frame.fieldCount)
        var seen: UInt64 = 0
        for index in 0..<frame.fieldCount {
            let field = frame.field(index)
            found.add(field, base: consumed)
            guard field.known != .other, seen & field.known.bit == 0 else { continue }
            seen |= field.known.bit
            // Of repeated headers the first counts.
            if frame.firstField(field.known)?.nameOffset != field.nameOffset { return "the wrong \(field.known.text)" }
        }
        return frame.hasAny(~seen) ? "a header is known that is not there" : nil
    }

    /// What other connections do between two calls: they use the frame, and the memory that a partial frame lay in.
    private func disturb() {
        let other: StaticString = "MESSAGE\nreceipt:other\ndestination:/other\n\nother\0"
        var state = ParserState()
        var error = FrameError()
        _ = parseFrame(
            UnsafeRawPointer(other.utf8Start), other.utf8CodeUnitCount, version: .v1_2, expectsConnect: false,
            acceptsServerFrames: true, limits: FrameLimits(), state: &state, frame: &frame, error: &error)
        first.scramble()
        second.scramble()
    }
}
