import Slabs

// Copies that a topic's owner passes on to workers that store them for durable subscriptions: see `Relays`.

/// The owner asks whether what it has passed on before is stored. Answered by `RelayAnswer` when the log of the other worker is
/// durable up to there.
struct RelayBarrier: PeerMessage {
    static var kind: PeerMessageKind { .relayBarrier }
    /// The owner's.
    var round: UInt64
}

struct RelayAnswer: PeerMessage {
    static var kind: PeerMessageKind { .relayAnswer }
    /// As in the question.
    var round: UInt64
    /// Some of it may not be stored. nil: it is.
    var refusal: Refusal?
}
