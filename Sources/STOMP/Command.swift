/// The fifteen commands of STOMP, those of clients first.
public enum Command: UInt8, BitwiseCopyable, Sendable, CaseIterable {
    case connect, stomp, send, subscribe, unsubscribe, begin, commit, abort, ack, nack, disconnect
    case connected, message, receipt, error

    /// As it stands on the frame's first line.
    public var text: StaticString {
        switch self {
        case .connect: "CONNECT"
        case .stomp: "STOMP"
        case .send: "SEND"
        case .subscribe: "SUBSCRIBE"
        case .unsubscribe: "UNSUBSCRIBE"
        case .begin: "BEGIN"
        case .commit: "COMMIT"
        case .abort: "ABORT"
        case .ack: "ACK"
        case .nack: "NACK"
        case .disconnect: "DISCONNECT"
        case .connected: "CONNECTED"
        case .message: "MESSAGE"
        case .receipt: "RECEIPT"
        case .error: "ERROR"
        }
    }

    /// Only a server sends it.
    @inlinable @inline(__always)
    public var isFromServer: Bool { rawValue >= Command.connected.rawValue }

    /// SEND, MESSAGE and ERROR may carry a body (STOMP 1.2, section Body).
    @inlinable @inline(__always)
    public var carriesBody: Bool { self == .send || self == .message || self == .error }

    /// CONNECT, STOMP and CONNECTED are exchanged before a version is agreed on: their headers are never escaped and
    /// their lines may end with LF or CRLF (STOMP 1.2, sections Value Encoding and Connecting).
    @inlinable @inline(__always)
    public var precedesVersion: Bool { self == .connect || self == .stomp || self == .connected }
}

extension Command {
    /// Octets of the longest command, UNSUBSCRIBE.
    static var byteCountMax: Int { 11 }
}

/// What the first line of a frame turned out to be.
enum CommandLine {
    /// The line is a command and its line end; together they take `byteCount` bytes.
    case complete(Command, byteCount: Int)
    /// What is there begins a known command.
    case partial
    /// No known command begins like this.
    case unknown
    /// The command is followed by CR, which STOMP 1.1 does not have in line ends.
    case carriageReturn
}

extension Command {
    /// Reads the first line of a frame, and refuses it at the first octet that no known command has there.
    ///
    /// That early refusal is what ends a conversation in another protocol (a web page that POSTs at the port) before
    /// anything else of it is read.
    @inline(__always)
    static func line(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, version: Version, acceptsServerFrames: Bool
    ) -> CommandLine {
        guard byteCount > 0 else { return .partial }
        if _fastPath(byteCount >= 8) {
            // What nearly all frames are: "SEND\n" or "ACK\n", the first octet lowest.
            let word = bytes.word(0)
            if word & 0xFF_FFFF_FFFF == 0x0A_444E_4553 { return .complete(.send, byteCount: 5) }
            if word & 0xFFFF_FFFF == 0x0A4B_4341 { return .complete(.ack, byteCount: 4) }
        }
        // Enough octets decide between the commands that begin alike; one that is missing counts as NUL.
        let second = byteCount > 1 ? bytes.byte(1) : 0
        let command: Command
        switch bytes.byte(0) {
        case UInt8(ascii: "S"):
            command = second == UInt8(ascii: "E") ? .send : second == UInt8(ascii: "T") ? .stomp : .subscribe
        case UInt8(ascii: "A"): command = second == UInt8(ascii: "B") ? .abort : .ack
        case UInt8(ascii: "N"): command = .nack
        case UInt8(ascii: "C"):
            let third = byteCount > 2 ? bytes.byte(2) : 0
            if third == UInt8(ascii: "M") {
                command = .commit
            } else if acceptsServerFrames && byteCount > 7 && bytes.byte(7) == UInt8(ascii: "E") {
                command = .connected
            } else {
                command = .connect
            }
        case UInt8(ascii: "B"): command = .begin
        case UInt8(ascii: "U"): command = .unsubscribe
        case UInt8(ascii: "D"): command = .disconnect
        case UInt8(ascii: "M"): command = .message
        case UInt8(ascii: "R"): command = .receipt
        case UInt8(ascii: "E"): command = .error
        default: return .unknown
        }
        if command.isFromServer && !acceptsServerFrames { return .unknown }
        return command.line(bytes, byteCount, version: version)
    }

    @inline(__always)
    private func line(_ bytes: UnsafeRawPointer, _ byteCount: Int, version: Version) -> CommandLine {
        let text = self.text
        let expected = UnsafeRawPointer(text.utf8Start)
        let length = text.utf8CodeUnitCount
        // A lone "S" or "C" may become any of its commands: only what is there is compared.
        let comparable = min(length, byteCount)
        var index = 1
        while index < comparable {
            if bytes.byte(index) != expected.byte(index) { return .unknown }
            index += 1
        }
        if byteCount <= length { return .partial }
        let end = bytes.byte(length)
        if end == Byte.lineFeed { return .complete(self, byteCount: length + 1) }
        guard end == Byte.carriageReturn else { return .unknown }
        guard version != .v1_1 || precedesVersion else { return .carriageReturn }
        if byteCount == length + 1 { return .partial }
        return bytes.byte(length + 1) == Byte.lineFeed ? .complete(self, byteCount: length + 2) : .unknown
    }
}
