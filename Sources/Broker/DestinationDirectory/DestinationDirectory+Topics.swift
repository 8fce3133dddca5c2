import Slabs

// Topics that keep messages.
extension DestinationDirectory {
    /// From now on all that is sent to the topic goes through its owner.
    ///
    /// - Parameter storage: which of the messages that it keeps are stored.
    mutating func sequence(_ index: Index<Destination>, owner: Int, storage: StoragePolicy, isLogged: Bool) {
        let topic = self[changing: index]
        invariant(topic.pointee.kind == .topic && !topic.pointee.isTemporary, "topics that stay are sequenced")
        topic.pointee.isSequenced = true
        topic.pointee.owner = UInt16(owner)
        topic.pointee.storage = storage
        if isLogged { topic.pointee.isLogged = true }
    }

    /// The topic has this log from now on. The caller brings `updateIdle` up to date, here and below.
    mutating func attach(log: Index<TopicLog>, to index: Index<Destination>) {
        self[changing: index].pointee.log = log
    }

    /// The topic retains this message. None: it retains none.
    mutating func setRetained(_ message: Index<RetainedMessage>, of index: Index<Destination>) {
        self[changing: index].pointee.retained = message
    }
}
