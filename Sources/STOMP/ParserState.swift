/// How far a frame that has not arrived completely is parsed. All zeros: at its beginning.
///
/// It holds offsets only, so the bytes may move between calls, and no table, so that a connection with a partial frame
/// costs these 32 bytes beside the bytes themselves.
@frozen
public struct ParserState: BitwiseCopyable, Sendable {
    @usableFromInline
    enum Phase: UInt8, BitwiseCopyable, Sendable {
        /// In the line ends before a frame, or in its command line.
        case start
        case headers
        /// In a body that ends at the first NUL.
        case searchedBody
        /// In a body whose content-length is known.
        case countedBody
    }

    /// Where the command begins.
    @usableFromInline var frameOffset: UInt32
    @usableFromInline var headersOffset: UInt32
    /// Where the header line begins that has not ended yet.
    @usableFromInline var lineOffset: UInt32
    /// The colon behind that line's name; 0 before it is found.
    @usableFromInline var colonOffset: UInt32
    /// Everything before this is scanned.
    @usableFromInline var scanOffset: UInt32
    @usableFromInline var neededBytes: UInt32
    @usableFromInline var fieldCount: UInt16
    @usableFromInline var flags: HeaderFlags
    @usableFromInline var rules: HeaderRules
    @usableFromInline var phase: Phase

    @inlinable @inline(__always)
    init(frameOffset: Int) {
        self.frameOffset = UInt32(truncatingIfNeeded: frameOffset)
        headersOffset = 0
        lineOffset = 0
        colonOffset = 0
        scanOffset = 0
        neededBytes = 0
        fieldCount = 0
        flags = []
        rules = []
        phase = .start
    }

    @inlinable @inline(__always)
    public init() { self.init(frameOffset: 0) }

    /// At the first header line of a frame.
    @inline(__always)
    init(frameOffset: Int, headersOffset: Int, rules: HeaderRules) {
        self.init(frameOffset: frameOffset)
        phase = .headers
        self.rules = rules
        self.headersOffset = UInt32(truncatingIfNeeded: headersOffset)
        lineOffset = self.headersOffset
        scanOffset = self.headersOffset
    }

    /// How many bytes the frame needs in all, from the first that was given to the parser, where its content-length
    /// says so; 0 where that is not known (yet). A hint: a peer may claim any length within the limits, so memory must
    /// grow with the bytes that arrive.
    public var neededByteCount: Int { Int(neededBytes) }

    /// The empty line behind the headers has not arrived.
    public var isInHeaders: Bool { phase == .start || phase == .headers }
}
