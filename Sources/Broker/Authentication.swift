public import IO
public import Permissions
public import Slabs

/// Who decides whether a client may connect.
public enum Authentication: Sendable {
    /// Nobody: CONNECT is answered at once.
    case none
    /// Whoever drives the shard: it takes the questions (`Shard.takeQuestions`) and answers each, at any later time: with the
    /// completion `.authenticated`, or where there are permissions (`BrokerOptions.access`) by `Shard.answer`.
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
    public var clientID: [UInt8]?
    /// `ConnectionOrigin.address`. 0: not known.
    public var address: UInt64
    /// Where it came in.
    public var listener: ListenerID
    /// The virtual host that the client has chosen.
    public var host = HostOptions.standardName
    /// The client is connected, and brings a newer token as `passcode`.
    public var isRenewal = false

    init(connection: Slot, clientID: [UInt8]?, address: UInt64, listener: ListenerID) {
        self.connection = connection
        self.clientID = clientID
        self.address = address
        self.listener = listener
    }
}

/// Who a client is, or that it may not connect.
public struct AuthenticationAnswer: Sendable {
    /// As in the question.
    public var connection: Slot
    /// nil: it may not connect.
    public var identity: AccessIdentity?
    /// As in the question: what `{client-id}` in a pattern stands for.
    public var clientID: [UInt8]?
    /// Why it may not, for the log.
    public var explanation: StaticString
    /// The same for the ERROR. It says nothing that helps to guess.
    public var told: StaticString

    public init(allowing connection: Slot, as identity: AccessIdentity, clientID: [UInt8]?) {
        self.connection = connection
        self.identity = identity
        self.clientID = clientID
        explanation = ""
        told = ""
    }

    /// Without `told`, the client is told what the log is.
    public init(refusing connection: Slot, because explanation: StaticString, told: StaticString? = nil) {
        self.connection = connection
        self.explanation = explanation
        self.told = told ?? explanation
    }
}
