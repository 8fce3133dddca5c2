public import Slabs

/// Who decides whether a client may connect.
public enum Authentication: Sendable {
    /// Nobody: CONNECT is answered at once.
    case none
    /// Whoever drives the shard: it takes the questions (`Shard.takeQuestions`) and answers each with the completion
    /// `.authenticated`, at any later time.
    case external
}

/// A client has sent CONNECT and waits for CONNECTED.
public struct AuthenticationQuestion: Sendable {
    /// Names the connection in the answer. It may have ended by then; the answer is ignored.
    public var connection: Slot
    /// The headers of CONNECT, as they are on the wire. nil: it has none.
    public var login: [UInt8]?
    /// A secret: not for the log.
    public var passcode: [UInt8]?
}
