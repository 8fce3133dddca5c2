import Glibc
import STOMP
import Slabs

/// Room to unescape headers and to gather the headers of a message. Allocated once.
struct Scratch: ~Copyable {
    /// One header value each, unescaped.
    let destination: UnsafeMutableRawPointer
    let value: UnsafeMutableRawPointer
    /// A destination in its canonical form.
    let name: UnsafeMutableRawPointer
    /// The header lines of a message, transcoded: at most every byte escaped.
    let headers: UnsafeMutableRawPointer
    let headersCapacity: Int
    /// The canonical name of a dead-letter destination, header lines that the broker adds, or the value of `ack`.
    let key: UnsafeMutableRawPointer
    /// The name of a durable subscription.
    let durable: UnsafeMutableRawPointer

    init(_ limits: Limits) {
        // A value, or a line with a name that is escaped, its prefix and the text around it.
        let valueByteCount =
            max(limits.headerByteCountMax, limits.destinationNameByteCountMax * 3) + 512 + HostName.prefixByteCountMax
        destination = .allocate(byteCount: valueByteCount, alignment: 16)
        value = .allocate(byteCount: valueByteCount, alignment: 16)
        name = .allocate(byteCount: valueByteCount, alignment: 16)
        headersCapacity = limits.headersByteCountMax * 2 + 4096
        headers = .allocate(byteCount: headersCapacity, alignment: 16)
        key = .allocate(byteCount: valueByteCount, alignment: 16)
        durable = .allocate(byteCount: DurableName.byteCountMax(limits), alignment: 16)
    }

    deinit {
        destination.deallocate()
        value.deallocate()
        name.deallocate()
        headers.deallocate()
        key.deallocate()
        durable.deallocate()
    }
}

/// What happened, in numbers that only grow.
public struct Counters: Sendable, BitwiseCopyable {
    public var connectionsAccepted: UInt64 = 0
    public var connectionsRefused: UInt64 = 0
    public var connectionsHandedOn: UInt64 = 0
    public var connectionsClosed: UInt64 = 0
    public var bytesReceived: UInt64 = 0
    public var bytesSent: UInt64 = 0
    public var framesReceived: UInt64 = 0
    public var messagesReceived: UInt64 = 0
    public var messagesDelivered: UInt64 = 0
    public var messagesUnrouted: UInt64 = 0
    public var messagesExpired: UInt64 = 0
    public var messagesDropped: UInt64 = 0
    /// SENDs answered with ERROR because of a limit of a queue or of memory: their senders know.
    public var messagesRefused: UInt64 = 0
    public var messagesDeadLettered: UInt64 = 0
    public var messagesRedelivered: UInt64 = 0
    public var messagesAcknowledged: UInt64 = 0
    /// SENDs whose messages wait, or waited, for their time.
    public var messagesDelayed: UInt64 = 0
    /// SENDs that were confirmed and not taken, for a message with the same id had been.
    public var messagesDeduplicated: UInt64 = 0
    /// Messages that left memory and were in the store alone, and those that came back.
    public var messagesCooled: UInt64 = 0
    public var messagesWarmed: UInt64 = 0
    public var errorsSent: UInt64 = 0
    /// Clients that were told that they may not connect, or not stay.
    public var loginsRefused: UInt64 = 0
    /// Frames that asked for what their client may not do.
    public var accessRefused: UInt64 = 0
    /// How often a client was not read for a while, because of its user's rates.
    public var clientsSlowed: UInt64 = 0
    public var receiptsSent: UInt64 = 0
    public var heartBeatsSent: UInt64 = 0
    public var heartBeatsMissed: UInt64 = 0
    public var slowConsumers: UInt64 = 0
    public var sends: UInt64 = 0
    public var sendsIncomplete: UInt64 = 0
    public var peerMessagesSent: UInt64 = 0
    public var peerMessagesReceived: UInt64 = 0
    public var staleCompletions: UInt64 = 0
    public var stalePeerMessages: UInt64 = 0
    /// Messages that left the log of a topic: too many, too much, or too old.
    public var logMessagesTrimmed: UInt64 = 0
    /// Offsets that readers of logs have missed, for they were trimmed before the reader came to them.
    public var logOffsetsMissed: UInt64 = 0
    public var notices: UInt64 = 0
    public var noticesSuppressed: UInt64 = 0
    /// How often each limit has acted.
    public var limits = LimitCounts()

    public init() {}

    /// Adds another worker's figures.
    public mutating func add(_ other: Counters) {
        connectionsAccepted &+= other.connectionsAccepted
        connectionsRefused &+= other.connectionsRefused
        connectionsHandedOn &+= other.connectionsHandedOn
        connectionsClosed &+= other.connectionsClosed
        bytesReceived &+= other.bytesReceived
        bytesSent &+= other.bytesSent
        framesReceived &+= other.framesReceived
        messagesReceived &+= other.messagesReceived
        messagesDelivered &+= other.messagesDelivered
        messagesUnrouted &+= other.messagesUnrouted
        messagesExpired &+= other.messagesExpired
        messagesDropped &+= other.messagesDropped
        messagesRefused &+= other.messagesRefused
        messagesDeadLettered &+= other.messagesDeadLettered
        messagesRedelivered &+= other.messagesRedelivered
        messagesAcknowledged &+= other.messagesAcknowledged
        messagesDelayed &+= other.messagesDelayed
        messagesDeduplicated &+= other.messagesDeduplicated
        messagesCooled &+= other.messagesCooled
        messagesWarmed &+= other.messagesWarmed
        errorsSent &+= other.errorsSent
        loginsRefused &+= other.loginsRefused
        accessRefused &+= other.accessRefused
        clientsSlowed &+= other.clientsSlowed
        receiptsSent &+= other.receiptsSent
        heartBeatsSent &+= other.heartBeatsSent
        heartBeatsMissed &+= other.heartBeatsMissed
        slowConsumers &+= other.slowConsumers
        sends &+= other.sends
        sendsIncomplete &+= other.sendsIncomplete
        peerMessagesSent &+= other.peerMessagesSent
        peerMessagesReceived &+= other.peerMessagesReceived
        staleCompletions &+= other.staleCompletions
        stalePeerMessages &+= other.stalePeerMessages
        logMessagesTrimmed &+= other.logMessagesTrimmed
        logOffsetsMissed &+= other.logOffsetsMissed
        notices &+= other.notices
        noticesSuppressed &+= other.noticesSuppressed
        limits.add(other.limits)
    }
}

/// An errno in words: "Too many open files, errno 24".
func errorText(_ errorNumber: Int32) -> String { "\(String(cString: strerror(errorNumber))), errno \(errorNumber)" }

/// Client bytes as they may appear in a log or an ERROR: UTF-8 without control characters as it is, other bytes as `\xNN`,
/// at most 256 bytes.
func printable(_ bytes: UnsafeRawBufferPointer) -> String {
    let byteCountMax = 256
    var end = min(bytes.count, byteCountMax)
    // Not within a character.
    while end < bytes.count, end > byteCountMax - 4, bytes[end] & 0xC0 == 0x80 { end -= 1 }
    var text = ""
    var position = 0
    var parser = Unicode.UTF8.ForwardParser()
    var rest = bytes[..<end].makeIterator()
    loop: while true {
        switch parser.parseScalar(from: &rest) {
        case .valid(let encoded):
            let scalar = Unicode.UTF8.decode(encoded)
            if scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
                for byte in encoded { text += escaped(byte) }
            } else {
                text.unicodeScalars.append(scalar)
            }
            position += encoded.count
        case .error(let length):
            for byte in bytes[position..<position + length] { text += escaped(byte) }
            position += length
        case .emptyInput: break loop
        }
    }
    return bytes.count > end ? text + "…" : text
}

private func escaped(_ byte: UInt8) -> String { "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16) }

/// Why a worker did not take what a client of another worker, or its own, asked of it: the words of the ERROR.
enum Refusal: UInt8, BitwiseCopyable {
    case destinations = 1, queue, memory, destinationsOfConnection, destinationsOfAddress
    case diskFull, storageFailed, tooLargeToStore, notConfirmed
    case retained
    case delayedMessages, deduplicationIDs
    case durableSubscriptions, patterns, durableInUse, durableNotFound, durableOfOther
    case hostStorage

    /// Which the log is told as a warning.
    var isOfDestinations: Bool {
        switch self {
        case .destinations, .destinationsOfConnection, .destinationsOfAddress: true
        case .queue, .memory, .diskFull, .storageFailed, .tooLargeToStore, .retained, .delayedMessages,
            .deduplicationIDs, .durableSubscriptions, .patterns, .durableInUse, .durableNotFound, .durableOfOther,
            .notConfirmed, .hostStorage:
            false
        }
    }

    var message: StaticString {
        switch self {
        case .destinations, .destinationsOfConnection, .destinationsOfAddress: "Too many destinations"
        case .queue: "Queue full"
        case .memory: "Out of memory"
        case .diskFull: "Disk full"
        case .storageFailed: "Storage failed"
        case .tooLargeToStore: "Message too large"
        case .retained: "Too many retained messages"
        case .delayedMessages: "Too many delayed messages"
        case .deduplicationIDs: "Too many deduplication ids"
        case .durableSubscriptions: "Too many durable subscriptions"
        case .patterns: "Too many patterns"
        case .durableInUse: "Durable subscription in use"
        case .durableOfOther: "Durable subscription of another destination"
        case .durableNotFound: "Durable subscription not found"
        case .notConfirmed: "Disk full, not confirmed"
        case .hostStorage: "Storage of the virtual host full"
        }
    }

    /// nil: it is no limit of `limits`.
    var limit: LimitKind? {
        switch self {
        case .destinations: .destinations
        case .destinationsOfConnection: .destinationsPerConnection
        case .destinationsOfAddress: .destinationsPerAddress
        case .queue: .queue
        case .memory: .messageMemory
        case .retained: .retainedMessages
        case .delayedMessages: .delayedMessages
        case .deduplicationIDs: .deduplicationIDs
        case .durableSubscriptions: .durableSubscriptions
        case .patterns: .patterns
        case .hostStorage: .hostStorage
        case .diskFull, .storageFailed, .tooLargeToStore, .durableInUse, .durableNotFound, .durableOfOther,
            .notConfirmed:
            nil
        }
    }

    func explanation(_ limits: Limits) -> String {
        switch self {
        case .destinations:
            "the limit is \(limits.destinationCountMax) for each worker (limits.destinations-max), and all are in use; "
                + "a destination is in use while it has subscribers or messages"
        case .destinationsOfConnection:
            "a connection may fill \(limits.destinationsPerConnectionMax) queues that have no consumer "
                + "(limits.destinations-per-connection-max)"
        case .destinationsOfAddress:
            "the connections of one address may fill \(limits.destinationsPerAddressMax) queues that have no consumer "
                + "(limits.destinations-per-address-max)"
        case .queue: "the queue has reached its limit (messages-max or bytes-max in its policy)"
        case .memory: "the broker has reached its memory limit (limits.message-memory-bytes); try again later"
        case .diskFull:
            "the disk, or storage.bytes-max, leaves no room for messages that are stored; consumers make room"
        case .storageFailed:
            "the broker could not write to its storage directory, and nobody knows what of the last messages and "
                + "acknowledgements is stored; its log has the reason"
        case .tooLargeToStore:
            "the message does not fit into a segment of the store (storage.segment-bytes)"
        case .retained:
            "\(limits.retainedMessageCountMax) topics may retain a message (limits.retained-messages-max); "
                + "retain:remove makes room"
        case .delayedMessages:
            "\(limits.delayedMessageCountMax) messages may wait for their time with each worker "
                + "(limits.delayed-messages-max), and take half of limits.message-memory-bytes"
        case .deduplicationIDs:
            "each worker knows \(limits.deduplicationIDCountMax) ids at a time (limits.deduplication-ids-max); "
                + "try again later"
        case .durableSubscriptions:
            "a worker holds \(limits.durableSubscriptionCountMax) durable subscriptions "
                + "(limits.durable-subscriptions-max); UNSUBSCRIBE with their headers ends those that nobody needs"
        case .patterns:
            "a worker may know \(limits.patternCountMax) patterns (limits.patterns-max); use fewer and wider ones"
        case .durableInUse:
            "another connection consumes from the durable subscription; a named one has one consumer at a time, and one "
                + "that is in use cannot be ended"
        case .durableOfOther:
            "the durable subscription of that name is to another destination, whose messages would be lost; end it first: "
                + "UNSUBSCRIBE with its name and its destination"
        case .durableNotFound: "there is no durable subscription of that name to that destination"
        case .notConfirmed:
            "what this frame and those before it did is done, but not stored, for the disk has no room; it may be lost when "
                + "the broker ends before the disk has"
        case .hostStorage:
            "what the messages of the connection's virtual host take of the store has reached its limit (storage-bytes-max of "
                + "its entry in hosts); consumers make room"
        }
    }
}

func equals(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
    bytes.count == text.utf8CodeUnitCount
        && (bytes.count == 0 || memcmp(bytes.baseAddress!, text.utf8Start, bytes.count) == 0)
}

/// Without spaces and tabs at both ends.
func withoutBlanks(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
    let rest = bytes.drop(while: isBlank)
    let end = rest.lastIndex { !isBlank($0) }.map { $0 + 1 } ?? rest.startIndex
    return UnsafeRawBufferPointer(rebasing: rest[..<end])
}

func begins(_ bytes: UnsafeRawBufferPointer, with text: StaticString) -> Bool {
    bytes.count >= text.utf8CodeUnitCount && memcmp(bytes.baseAddress!, text.utf8Start, text.utf8CodeUnitCount) == 0
}
