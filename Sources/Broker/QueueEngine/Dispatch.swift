import Slabs

/// What is to be done next for a queue that has ready messages and consumers with free prefetch.
enum Dispatch: BitwiseCopyable, Equatable {
    /// Nothing: one of the two is missing.
    case nothing
    /// The message's time is over. It is still ready: it has to be taken out.
    case expired(Index<Entry>)
    /// The consumer has the message now, and is to be sent it.
    case deliver(Index<Entry>, to: Index<Consumer>)
    /// The consumer may not take every message: `take` says that it takes this one, `pass` that it does not.
    case examine(Index<Entry>, for: Index<Consumer>)
}

/// What became of a message that was to be put into a queue.
enum Admission: BitwiseCopyable, Equatable {
    case queued(Index<Entry>)
    /// Its time was over.
    case expired
    /// The queue's limits leave no room for it.
    case full
    /// No memory.
    case noMemory
}

/// How an entry comes back from a consumer that did not acknowledge it.
enum Return: BitwiseCopyable {
    /// The consumer cannot have seen it: it was never delivered.
    case unseen
    /// The consumer may have seen it.
    case seen
    /// The consumer refused it or failed with it, which counts towards the delivery limit.
    case failed
}

/// What is to be done with a message that has come back. It is ready.
enum ReturnedEntry: BitwiseCopyable, Equatable {
    case ready
    /// Its time is over.
    case expired
    /// It has failed as often as it may.
    case failedTooOften
}
