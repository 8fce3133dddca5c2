import Slabs

// Topics that keep messages: see `Shard+TopicLogs`. The owner of a topic is the worker that sequences what is sent to it.

/// A message for a topic of the owner. Payload: `MessagePayload`. Answered by `PublicationRefusal`, or not at all.
struct Sequencing: PeerMessage {
    static var kind: PeerMessageKind { .sequencing }
    /// Who sent it, of the asker's. None: nobody hears what becomes of it.
    var session: Handle<Session>
    var retain: RetainAction
    /// It is of a COMMIT, which the owner has admitted.
    var isCommitted = false
}

/// A message of the owner's topic for all subscribers of the other worker, which changes what the topic retains. Payload:
/// `MessagePayload`, without receipt.
struct RetainedChange: PeerMessage {
    static var kind: PeerMessageKind { .retainedChange }
    var action: RetainAction
}

/// A subscription of the asker's that reads the log of a topic of the owner. Payload: the topic's name. Answered by
/// `ReaderAnswer`.
struct ReaderRequest: PeerMessage {
    static var kind: PeerMessageKind { .readerRequest }
    /// Both the asker's.
    var subscription: Handle<Subscription>
    var pending: Handle<PendingOperation>
    var start: LogStart
}

struct ReaderAnswer: PeerMessage {
    static var kind: PeerMessageKind { .readerAnswer }
    /// As in the request.
    var pending: Handle<PendingOperation>
    /// The owner's. None: refused.
    var reader: Handle<LogReader>
    var refusal: Refusal
}

/// A reader leaves.
struct ReaderRemoval: PeerMessage {
    static var kind: PeerMessageKind { .readerRemoval }
    /// The owner's.
    var reader: Handle<LogReader>
}

/// A reader has read so much of what it was given, and may be given more.
struct ReaderCredit: PeerMessage {
    static var kind: PeerMessageKind { .readerCredit }
    /// The owner's.
    var reader: Handle<LogReader>
    var count: UInt32
    var byteCount: UInt64
}

/// A message of a log for a reader. Payload: `MessagePayload`, without name and receipt.
struct LogDelivery: PeerMessage {
    static var kind: PeerMessageKind { .logDelivery }
    /// The asker's.
    var subscription: Handle<Subscription>
}
