internal import CDeflate

/// How far a compressed message has been inflated, and the limits that stop it (RFC 7692, section 7.2.2).
///
/// The output is written piece by piece into room of the caller, and nothing of it is kept here: so a message takes the
/// memory of the window at most, whatever it inflates to.
struct InflateProgress: BitwiseCopyable {
    /// Bytes of the message under way that were taken, and what they have become.
    private(set) var compressedByteCount: UInt32 = 0
    private(set) var inflatedByteCount: UInt32 = 0
    /// See `octets_are_utf8`.
    private var textState: UInt16 = 0

    enum Outcome: Equatable {
        case needsInput
        case needsRoom
        /// The message is wrong, or too long.
        case failed(CloseCode)
        case noMemory
    }

    /// What a sender has cut off the end of a message.
    static let tail: (UInt8, UInt8, UInt8, UInt8) = (0, 0, 0xFF, 0xFF)

    /// Inflates as much as the room holds.
    ///
    /// - Parameters:
    ///   - input: afterwards, what was not taken.
    ///   - limits: of the message.
    /// - Returns: how many bytes were written.
    mutating func run(
        _ stream: OpaquePointer, _ input: inout UnsafeRawBufferPointer, into room: UnsafeMutableRawBufferPointer,
        isText: Bool, limits: InflateLimits
    ) -> (outcome: Outcome, byteCount: Int) {
        let left = limit(limits, input.count) - Int(inflatedByteCount)
        // A byte beyond the limit is room enough to see that it is exceeded.
        var byteCount = min(room.count, left + 1)
        var inputLeft = input.count
        let answer = inflate_stream_run(stream, input.baseAddress, &inputLeft, room.baseAddress!, &byteCount)
        compressedByteCount &+= UInt32(truncatingIfNeeded: input.count - inputLeft)
        input = UnsafeRawBufferPointer(rebasing: input.dropFirst(input.count - inputLeft))
        if byteCount > left { return (.failed(.messageTooBig), 0) }
        if isText, byteCount > 0, !TextCheck.check(room.baseAddress!, byteCount, &textState) {
            return (.failed(.invalidPayload), 0)
        }
        inflatedByteCount &+= UInt32(truncatingIfNeeded: byteCount)
        switch Int(answer) {
        case Int(INFLATE_NEEDS_INPUT): return (.needsInput, byteCount)
        case Int(INFLATE_NEEDS_ROOM): return (.needsRoom, byteCount)
        case Int(INFLATE_NO_MEMORY): return (.noMemory, byteCount)
        default: return (.failed(.invalidPayload), byteCount)
        }
    }

    /// What the message may have inflated to after another piece of it.
    private func limit(_ limits: InflateLimits, _ pieceByteCount: Int) -> Int {
        let byRatio =
            Int(limits.smallByteCount)
            + CompressionOptions.ratioMax * (Int(compressedByteCount) + pieceByteCount)
        return max(min(Int(limits.byteCountMax), byRatio), Int(inflatedByteCount))
    }

    /// After the message and its tail. False: it was cut short, within a block or a character.
    func isComplete(_ stream: OpaquePointer, isText: Bool) -> Bool {
        inflate_stream_is_between_blocks(stream) && (!isText || textState == 0)
    }
}

/// How long a message may be when it is inflated.
public struct InflateLimits: BitwiseCopyable, Sendable {
    public var byteCountMax: UInt32
    /// See `CompressionOptions.smallByteCount`.
    public var smallByteCount: UInt32

    public init(byteCountMax: UInt32, smallByteCount: UInt32 = 64 << 10) {
        self.byteCountMax = byteCountMax
        self.smallByteCount = smallByteCount
    }
}

/// Inflates the messages of one connection, each of them whole: for servers and tests that need not watch their memory.
public struct MessageInflater: ~Copyable {
    private let stream: OpaquePointer
    private let takesOver: Bool

    /// - Parameters:
    ///   - windowBits: 8 to 15.
    ///   - takesOver: a message may refer to those before.
    public init(windowBits: Int, takesOver: Bool) {
        guard let stream = inflate_stream_make(Int32(windowBits)) else { fatalError("no memory for zlib") }
        self.stream = stream
        self.takesOver = takesOver
    }

    deinit { inflate_stream_free(stream) }

    /// - Parameters:
    ///   - message: whole, and without the tail.
    ///   - isText: it has to be UTF-8.
    /// - Returns: the message, or the code to close with.
    public mutating func inflate(
        _ message: [UInt8], isText: Bool, limits: InflateLimits, roomByteCount: Int = 4096
    ) -> Result<[UInt8], CloseCodeError> {
        inflate(pieces: [message], isText: isText, limits: limits, roomByteCount: roomByteCount)
    }

    /// The same for a message in pieces. They are inflated one by one, each of them into room of so many bytes at a time.
    public mutating func inflate(
        pieces: [[UInt8]], isText: Bool, limits: InflateLimits, roomByteCount: Int
    ) -> Result<[UInt8], CloseCodeError> {
        let stream = stream
        var output: [UInt8] = []
        var progress = InflateProgress()
        var room = [UInt8](repeating: 0, count: roomByteCount)
        let tail = InflateProgress.tail
        for piece in pieces + [[tail.0, tail.1, tail.2, tail.3]] {
            let failure = piece.withUnsafeBytes { bytes -> CloseCode? in
                var rest = bytes
                while true {
                    let (outcome, byteCount) = room.withUnsafeMutableBytes {
                        progress.run(stream, &rest, into: $0, isText: isText, limits: limits)
                    }
                    output += room[..<byteCount]
                    switch outcome {
                    case .needsRoom: continue
                    case .needsInput: return nil
                    case .failed(let code): return code
                    case .noMemory: return .tryAgainLater
                    }
                }
            }
            if let failure { return .failure(CloseCodeError(code: failure)) }
        }
        guard progress.isComplete(stream, isText: isText) else {
            return .failure(CloseCodeError(code: .invalidPayload))
        }
        if !takesOver { inflate_stream_reset(stream) }
        return .success(output)
    }
}

/// A message that is answered by closing.
public struct CloseCodeError: Error, Equatable {
    public var code: CloseCode
}

/// Deflates the messages of one connection, each of them whole: for servers and tests.
public struct MessageDeflater: ~Copyable {
    private let stream: OpaquePointer
    private let takesOver: Bool

    /// - Parameter windowBits: 9 to 15.
    public init(windowBits: Int, takesOver: Bool, level: Int = 6) {
        guard
            let stream = deflate_stream_make(Int32(windowBits), CompressionOptions.memoryLevel, Int32(level))
        else { fatalError("no memory for zlib") }
        self.stream = stream
        self.takesOver = takesOver
    }

    deinit { deflate_stream_free(stream) }

    /// The payload of the message, without the tail that its reader adds.
    public mutating func deflate(_ message: [UInt8]) -> [UInt8] {
        // An empty block (RFC 7692, section 7.2.3.6): a flush of nothing writes nothing.
        if message.isEmpty { return [0] }
        var output = [UInt8](repeating: 0, count: deflate_stream_bound(stream, message.count))
        var byteCount = output.count
        let isDone = message.withUnsafeBytes { bytes in
            output.withUnsafeMutableBytes {
                deflate_stream_run(stream, bytes.baseAddress!, bytes.count, true, $0.baseAddress!, &byteCount)
            }
        }
        guard isDone else { fatalError("the bound of zlib does not hold") }
        if !takesOver { deflate_stream_reset(stream) }
        return Array(output[..<(byteCount - 4)])
    }
}
