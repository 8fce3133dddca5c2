import Slabs

/// How a consumer ends.
enum ConsumerEnd {
    /// By UNSUBSCRIBE or DISCONNECT, or because the broker drains: it did not fail with anything.
    case left
    /// Its connection was lost, or ended with ERROR.
    case failed
}

/// What a consumer that leaves holds unacknowledged of its queue, as its session knows it. The queue's owner may know of
/// more: what is still on its way to the session.
///
/// A window is as large as 1,000 messages, and a consumer that fails was working on one of them, or on a few. To count all
/// as failed would dead-letter a backlog that nobody refused. So at most the oldest counts, which every consumer that
/// acknowledges in order was working on, and which stays the oldest until it is acknowledged where that is not so.
struct HeldMessages: BitwiseCopyable {
    /// The entry that the consumer may have failed with: the oldest that it can have seen. None: it did not fail.
    var failed: Handle<Entry>
    /// The newest entry that the session was given. None: it was given none, or has settled all of them.
    var newest: Handle<Entry>

    static let nothing = HeldMessages(failed: .none, newest: .none)
}
