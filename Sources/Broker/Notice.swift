public import IO
public import Slabs

/// Something an operator should know. Client-supplied text in it is escaped and cut.
public struct Notice: Sendable {
    public enum Kind: String, Sendable {
        case connectionRefused = "connection refused"
        case connectionFailed = "connection failed"
        case protocolError = "protocol error"
        case slowConsumer = "slow consumer disconnected"
        case acceptFailed = "accept failed"
        case messagesDropped = "messages dropped"
        case memoryLimit = "memory limit"
        case undelivered = "undelivered messages"
        case tooManyDestinations = "too many destinations"
        case notPersistent = "messages are not stored"
        case storageFailed = "storage failed"
        case diskFull = "disk full"
        case loginRefused = "login refused"
        case sessionExpired = "session ended"
        case accessRefused = "access refused"
        case clientSlowed = "client slowed down"
        case subscriptionExpired = "durable subscription expired"
    }

    /// The client that a notice is about.
    public struct Client: Sendable {
        /// Never reused within a process. 0: the connection was not accepted, and has no number.
        public var number: UInt64 = 0
        /// What the driver knows the connection by until the next poll; none where it was not accepted.
        public var connection = Slot.none
        /// The descriptor of a connection that was not accepted. -1: it was.
        public var descriptor: Int32 = -1
        /// Where it came in.
        public var listener = ListenerID(rawValue: 0)
        /// As in the CONNECTED frame. Empty: there was none yet.
        public var session = ""
        /// As in the CONNECT frame. Empty: it named none.
        public var login = ""
        /// The virtual host that it has chosen. Empty: there are none, or it has not yet.
        public var host = ""
    }

    public var kind: Kind
    public var client: Client?
    public var text: String
    /// Of `slowConsumer`: the subscription that did not take its messages. Of others: empty.
    public var subscription = ""
    /// Of `slowConsumer` and `accessRefused`: what it is about. Of others: empty.
    public var destination = ""
    /// Of `undelivered`: how many, of the queue that `text` names.
    public var messageCount = 0
    /// How many notices of this kind there were within a second, when there were too many for the log, and how many of them
    /// it got. 0: this is a notice by itself.
    public var occurrenceCount = 0
    public var loggedCount = 0

    init(kind: Kind, text: String) {
        self.kind = kind
        self.text = text
    }
}

/// At most so many notices of a kind reach the log in a second; of the rest it hears the number.
struct NoticeAllowance {
    static let perSecond = 20
    private struct Count {
        var occurred = 0
        var logged = 0
    }

    private var since: UInt32 = 0
    private var counts: [Notice.Kind: Count] = [:]

    init() {}

    /// Whether the second has passed in which notices were counted.
    func isOver(clock: UInt32) -> Bool { clock &- since >= 1000 }

    mutating func take(_ kind: Notice.Kind, clock: UInt32) -> Bool {
        if counts.isEmpty { since = clock }
        counts[kind, default: Count()].occurred += 1
        guard counts[kind]!.logged < Self.perSecond else { return false }
        counts[kind]!.logged += 1
        return true
    }

    /// Begins another second; returns what the log should hear of the last one.
    mutating func summaries() -> [Notice] {
        defer { counts.removeAll(keepingCapacity: true) }
        return counts.filter { $0.value.occurred > $0.value.logged }.sorted { $0.key.rawValue < $1.key.rawValue }
            .map { kind, count in
                var notice = Notice(kind: kind, text: "")
                notice.occurrenceCount = count.occurred
                notice.loggedCount = count.logged
                return notice
            }
    }
}
