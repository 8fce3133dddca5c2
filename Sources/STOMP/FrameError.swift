/// Why a frame cannot be accepted. After it the connection is closed: nothing behind a faulty frame can be trusted to
/// begin where it seems to.
@frozen
public struct FrameError: Error, Equatable, BitwiseCopyable, Sendable {
    public enum Code: UInt8, BitwiseCopyable, Sendable, CaseIterable {
        case none
        case unknownCommand
        case commandBeforeConnect
        case lineEndNotInVersion
        case headerWithoutColon
        case headerWithoutName
        case nulInHeaders
        case undefinedEscape
        case carriageReturnInHeader
        case contentLengthMalformed
        case bodyNotTerminated
        case bodyNotAllowed
        case commandTooLong
        case tooManyHeaders
        case headerTooLong
        case headersTooLong
        case bodyTooLong
    }

    public var code: Code
    /// Where in the bytes given to the parser: the octet at fault, or the first of the faulty line.
    public var offset: Int

    @inlinable
    public init(code: Code = .none, offset: Int = 0) {
        self.code = code
        self.offset = offset
    }

    /// The `message` header of the ERROR: short, and worded as RabbitMQ words it where it has a wording.
    public var message: StaticString {
        switch code {
        case .none: ""
        case .unknownCommand: "Bad command"
        case .commandBeforeConnect: "Illegal command"
        case .lineEndNotInVersion: "Malformed line end"
        case .headerWithoutColon, .headerWithoutName, .nulInHeaders, .carriageReturnInHeader: "Malformed header"
        case .undefinedEscape: "Undefined escape sequence"
        case .contentLengthMalformed: "Invalid content-length"
        case .bodyNotTerminated: "Body not terminated"
        case .bodyNotAllowed: "Body not allowed"
        case .commandTooLong: "Command too long"
        case .tooManyHeaders: "Too many headers"
        case .headerTooLong: "Header too long"
        case .headersTooLong: "Headers too long"
        case .bodyTooLong: "Body too long"
        }
    }

    /// The body of the ERROR: what was wrong, and what would be right.
    public var explanation: StaticString {
        switch code {
        case .none: ""
        case .unknownCommand:
            """
            This is a STOMP port, and what came does not begin with a command that a client may send. Commands are \
            written in capitals, alone in the first line.
            """
        case .commandBeforeConnect:
            "You must log in using CONNECT first."
        case .lineEndNotInVersion:
            "A line ends with CR LF. In STOMP 1.1 lines end with LF alone; STOMP 1.2 allows both."
        case .headerWithoutColon:
            "A header line has no colon. Headers are written name:value, and an empty line ends them."
        case .headerWithoutName:
            "A header line has no name before its colon. Headers are written name:value."
        case .nulInHeaders:
            """
            A NUL octet came before the empty line that ends the headers. Each frame needs that line, and NUL only \
            ends a frame or stands in a body.
            """
        case .undefinedEscape:
            """
            A header holds a backslash sequence that this version does not define. STOMP 1.1 defines \\n, \\c and \
            \\\\; STOMP 1.2 also \\r.
            """
        case .carriageReturnInHeader:
            "A header holds a carriage return that is not part of a line end. STOMP 1.2 writes it \\r."
        case .contentLengthMalformed:
            "The content-length header must be the number of octets in the body, in decimal digits alone."
        case .bodyNotTerminated:
            """
            The octet after the body is not NUL. The content-length header counts octets, not characters, without the \
            NUL.
            """
        case .bodyNotAllowed:
            """
            Only SEND frames carry a body. The empty line after the headers of any other frame must be followed by \
            NUL.
            """
        case .commandTooLong:
            "The command line is longer than this server accepts."
        case .tooManyHeaders:
            "The frame has more headers than this server accepts."
        case .headerTooLong:
            "A header line is longer than this server accepts."
        case .headersTooLong:
            "The headers of the frame are together longer than this server accepts."
        case .bodyTooLong:
            "The body is longer than this server accepts."
        }
    }
}
