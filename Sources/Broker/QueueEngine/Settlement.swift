/// What a consumer decided about a message that it was given.
enum Settlement: UInt8, BitwiseCopyable {
    case acknowledged
    /// Refused: again, to whoever's turn it is, up to the delivery limit.
    case returned
    /// Again, however often: the consumer may have seen it, and did not fail with it.
    case released
    /// As `released`, but the consumer has not seen it.
    case unseen
    /// Never again: to the dead-letter destination.
    case rejected
}
