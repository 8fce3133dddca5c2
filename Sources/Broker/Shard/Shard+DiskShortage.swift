// A disk that is full, or a log at its limit: what the operator and those who wait hear (`DiskShortage`).
extension Shard {
    /// Another attempt to have room has failed.
    mutating func storeIsShort() {
        store.shortage.countAttempt()
        if store.shortage.isLong, store.isStuck { failWhatWaits(.notConfirmed) }
    }

    /// A message was refused: perhaps the limit of the store is the reason, which no answer of a file tells of.
    mutating func tellLimitOfStore() {
        guard store.files.isAtLimit else { return }
        store.shortage.isAtLimit = true
        tellShortage()
    }

    mutating func tellShortage() {
        let isOfDisk = store.shortage.refusesAppend || store.shortage.refusesSegment
        guard let word = store.shortage.word(now) else { return }
        let reason =
            isOfDisk
            ? "the disk has no room for the log (storage.directory)"
            : "the log has reached its limit (storage.bytes-max)"
        switch word {
        case .began:
            notice(
                .diskFull,
                "\(reason): worker \(index) refuses messages that are to be stored until consumers, or others, make room"
            )
        case .lasts: notice(.diskFull, "\(reason), still: worker \(index) refuses messages that are to be stored")
        case .ended:
            notice(.diskFull, "there is room for the log again: worker \(index) takes messages that are to be stored")
        }
    }
}
