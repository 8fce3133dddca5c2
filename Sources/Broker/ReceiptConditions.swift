public import Slabs

/// A place in a log. Later records have greater positions; 0 is before all of them.
public typealias LogPosition = UInt64

/// What a RECEIPT waits for, beside the other workers.
public enum ReceiptConditions: Sendable {
    /// Nothing: nobody is asked, and nothing is paid for it.
    case none
    /// Whoever drives the shard: it takes the questions (`Shard.takeReceiptQuestions`), and reports with the completion
    /// `.durable` how far the log is on stable storage, and with `.permitted` whether a client may do what it did, at any
    /// later time. A RECEIPT leaves when both are true of it and of those before it.
    case external
}

/// A frame that asked for a RECEIPT is applied, or is about to be, and waits.
public struct ReceiptQuestion: Sendable {
    /// Names the question in `.permitted`. The client may have left by then; the answer is ignored.
    public var question: Slot
    public var connection: Slot
    /// The frame's `receipt`, as it is on the wire.
    public var receipt: [UInt8]
    /// The log has to be durable up to here.
    public var position: LogPosition
    /// The other workers that have to confirm what was sent to them before.
    public var workers: [Int]
}
