/// A durable subscription as its clients know it: what it was to be given, and what became of it.
final class DurableModel {
    /// A message, as far as this subscription is concerned.
    struct Record {
        var deliveries = 0
        var ackIsIssued = false
        var ackIsPromised = false
    }

    /// Its id, or its name with the client-id `clientID`.
    let name: String
    /// It has a name and one consumer at a time (ActiveMQ); else all who use the id share it (RabbitMQ).
    let isSingle: Bool
    let destination: String
    static let clientID = "c"
    var records: [Int: Record] = [:]
    /// What was published and confirmed from here on has to reach it. `.max`: it may not be there.
    var since = Int.max
    /// UNSUBSCRIBEs that end it, of which nobody knows whether they were processed; and when the last was answered.
    var openEnds = 0
    var lastEndStep = 0
    /// When it was asked for first; 0: it never was.
    var firstIssuedStep = 0
    /// A RECEIPT said that it is there, and nobody has asked for its end since.
    var isPromised: Bool { since != .max }

    init(name: String, isSingle: Bool, destination: String) {
        self.name = name
        self.isSingle = isSingle
        self.destination = destination
    }

    /// Of the queue that keeps its messages.
    var queueName: String {
        isSingle ? "/dsub/client/\(Self.clientID)/\(name)" : "/dsub/id/\(name)\(destination)"
    }

    func matches(_ message: Message) -> Bool {
        !message.isQueue && TopicName.matches(destination, message.destination)
    }

    subscript(_ number: Int) -> Record {
        get { records[number] ?? Record() }
        set { records[number] = newValue }
    }
}

/// A frame about a durable subscription, beside its SUBSCRIBEs.
enum DurableStep {
    case settle(DurableModel, [Int])
    case end(DurableModel)
}
