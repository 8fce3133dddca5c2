import TestSupport
import Testing

/// Each of the 15 commands of the three specifications in each state of a session, with its decided outcome.
@Suite("Commands in states")
struct CommandsInStates {
    @Test(arguments: drivers, pairs(SessionState.allCases, Command.allCases))
    func `Each command in each state has its outcome`(
        on driver: DriverUnderTest, _ example: (state: SessionState, command: Command)
    ) throws {
        let scene = try Scene(example.state, on: driver)
        let client = scene.client
        try client.send(scene.frame(for: example.command))
        switch example.state.outcome(of: example.command) {
        case .connected:
            try client.expectConnected(.v1_2)
            try client.expectNothing()
        case .receipt:
            try scene.expectReceipt()
            if example.command == .disconnect { try client.expectClose() } else { try scene.expectAlive() }
        case .error(let text):
            try client.expectError(text)
        case .nothing:
            try client.expectClose()
        }
    }
}

/// What a client sees of a command.
enum Outcome {
    case connected
    /// The RECEIPT it asked for, and the session goes on (but for DISCONNECT).
    case receipt
    /// ERROR about that, then the end.
    case error(String)
    /// Nothing but the end of the connection.
    case nothing
}

enum Command: String, CaseIterable, Sendable, CustomTestStringConvertible {
    // Of clients
    case connect = "CONNECT"
    case stomp = "STOMP"
    case send = "SEND"
    case subscribe = "SUBSCRIBE"
    case unsubscribe = "UNSUBSCRIBE"
    case ack = "ACK"
    case nack = "NACK"
    case begin = "BEGIN"
    case commit = "COMMIT"
    case abort = "ABORT"
    case disconnect = "DISCONNECT"
    // Of servers
    case connected = "CONNECTED"
    case message = "MESSAGE"
    case receipt = "RECEIPT"
    case error = "ERROR"

    var testDescription: String { rawValue }
}

enum SessionState: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case fresh = "before CONNECT"
    case connected1_0 = "connected in 1.0"
    case connected1_1 = "connected in 1.1"
    case connected1_2 = "connected in 1.2"
    /// The subscription "0" to a queue, nothing delivered.
    case subscribed = "with a subscription"
    /// The subscription "0", and a delivered message that is not acknowledged.
    case holding = "with an unacknowledged message"
    /// The transaction "t", and all frames that can be are bound to it.
    case inTransaction = "in a transaction"
    /// Both of the two before.
    case holdingInTransaction = "with an unacknowledged message in a transaction"
    case afterDisconnect = "after DISCONNECT"
    case afterError = "after ERROR"

    var testDescription: String { rawValue }

    /// The table. Frames are otherwise correct, name subscription "0", transaction "t" and, where there is one, the
    /// delivered message.
    func outcome(of command: Command) -> Outcome {
        let hasTransaction = self == .inTransaction || self == .holdingInTransaction
        switch self {
        case .afterDisconnect, .afterError:
            return .nothing
        case .fresh:
            switch command {
            case .connect, .stomp: return .connected
            case .send, .subscribe, .unsubscribe, .ack, .nack, .begin, .commit, .abort, .disconnect, .connected,
                .message,
                .receipt, .error:
                return .error("")
            }
        case .connected1_0, .connected1_1, .connected1_2, .subscribed, .holding, .inTransaction, .holdingInTransaction:
            switch command {
            case .connect, .stomp:
                return .error("")
            case .connected, .message, .receipt, .error:
                return .error("Bad command")
            case .send, .disconnect:
                return .receipt
            case .subscribe:
                return self == .subscribed || isHolding ? .error("Duplicated subscription identifier") : .receipt
            case .unsubscribe:
                return self == .subscribed || isHolding ? .receipt : .error("subscription")
            case .ack, .nack:
                return isHolding ? .receipt : .error("")
            case .begin:
                return hasTransaction ? .error("transaction") : .receipt
            case .commit, .abort:
                return hasTransaction ? .receipt : .error("transaction")
            }
        }
    }

    var isHolding: Bool { self == .holding || self == .holdingInTransaction }

    var version: ProtocolVersion {
        switch self {
        case .connected1_0: .v1_0
        case .connected1_1: .v1_1
        case .fresh, .connected1_2, .subscribed, .holding, .inTransaction, .holdingInTransaction, .afterDisconnect,
            .afterError:
            .v1_2
        }
    }
}

/// A session that was brought into a state.
private struct Scene {
    let client: RawClient
    let state: SessionState
    private let queue = unique("/queue/states")
    private var message: Frame?

    init(_ state: SessionState, on driver: DriverUnderTest) throws {
        self.state = state
        client = try driver.connection()
        if state != .fresh { try client.connect(state.version) }
        switch state {
        case .fresh, .connected1_0, .connected1_1, .connected1_2:
            break
        case .subscribed:
            try client.subscribe(to: queue, ack: "client-individual")
        case .holding:
            message = try hold()
        case .inTransaction:
            try client.perform("BEGIN", ["transaction": "t"])
        case .holdingInTransaction:
            message = try hold()
            try client.perform("BEGIN", ["transaction": "t"])
        case .afterDisconnect:
            // Answered when it is read, so the command under test is sent in the same state whether it comes before or
            // after.
            try client.send("DISCONNECT\nreceipt:end\n\n\0")
            try client.expectReceipt("end")
        case .afterError:
            try client.send("FOO\n\n\0")
            try client.expect("ERROR")
        }
    }

    private func hold() throws -> Frame {
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "held")
        return try client.expectMessage("held")
    }

    /// The frame under test: right in itself, so that only the state decides.
    func frame(for command: Command) -> String {
        let transaction = state == .inTransaction || state == .holdingInTransaction ? "transaction:t\n" : ""
        let headers =
            switch command {
            case .connect, .stomp: "accept-version:1.2\nhost:localhost\n"
            case .send: "destination:\(queue)-other\n\(transaction)"
            case .subscribe: "id:0\ndestination:\(queue)-other\nack:client\n"
            case .unsubscribe: "id:0\n"
            case .ack, .nack:
                (message.map { "id:\($0["ack"] ?? "")\n" } ?? "id:none\nmessage-id:none\nsubscription:0\n")
                    + transaction
            case .begin, .commit, .abort: "transaction:t\n"
            case .disconnect: ""
            case .connected: "version:1.2\n"
            case .message: "destination:\(queue)-other\nmessage-id:1\nsubscription:0\n"
            case .receipt: "receipt-id:1\n"
            case .error: "message:none\n"
            }
        let receipt = command == .connect || command == .stomp ? "" : "receipt:under-test\n"
        return "\(command.rawValue)\n\(headers)\(receipt)\n\0"
    }

    /// A NACK may bring the message again before or after its RECEIPT.
    func expectReceipt() throws {
        var frame = try client.nextFrame()
        if frame.command == "MESSAGE" { frame = try client.nextFrame() }
        #expect(frame.command == "RECEIPT" && frame["receipt-id"] == "under-test", "\(frame)")
    }

    /// The session goes on.
    func expectAlive() throws {
        try client.perform("SEND", ["destination": "/topic/states"])
    }
}
