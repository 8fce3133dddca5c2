import TestSupport

/// What the clients of a broker that is killed again and again were told, and what they saw. A message begins with the round
/// in which it is sent, and "-".
final class Ledger: Sendable {
    private struct State: Sendable {
        /// The messages of each confirmed SEND or COMMIT.
        var promised: Set<String> = []
        /// Of a transaction, all its messages, by the first.
        var transactions: [[String]] = []
        var sent: Set<String> = []
        var seen: Set<String> = []
        /// Those that came in a later round than that in which they were sent: from the disk.
        var recovered: Set<String> = []
        /// Of the broker, one more each time that it is killed.
        var round = 0
        /// An ACK was sent for them.
        var acknowledged: Set<String> = []
        /// The RECEIPT of their ACK or NACK came.
        var done: Set<String> = []
        /// Those for which NACK with `requeue:false` was sent, and those that came out of the dead-letter queue.
        var rejected: Set<String> = []
        var dead: Set<String> = []
        var faults: [String] = []
        /// Clients at work.
        var clientCount = 0
    }

    private let state = Monitor(State())

    func willSend(_ messages: [String]) {
        state.withLock { state in
            state.sent.formUnion(messages)
            if messages.count > 1 { state.transactions.append(messages) }
        }
    }

    func didPromise(_ messages: [String]) { state.withLock { $0.promised.formUnion(messages) } }

    func didSee(_ message: String) {
        state.withLock { state in
            if !state.sent.contains(message) { state.faults.append("nobody sent \(message.prefix(80))") }
            if state.done.contains(message) {
                state.faults.append("\(Self.short(message)) came again after its RECEIPT, in round \(state.round)")
            }
            state.seen.insert(message)
            if Int(message.prefix { $0 != "-" }) != state.round { state.recovered.insert(message) }
        }
    }

    func begin(round: Int) { state.withLock { $0.round = round } }

    func willAcknowledge(_ message: String) { state.withLock { _ = $0.acknowledged.insert(message) } }

    func willReject(_ message: String) { state.withLock { _ = $0.rejected.insert(message) } }

    func didSeeDead(_ message: String) {
        state.withLock { state in
            if !state.rejected.contains(message) { state.faults.append("\(Self.short(message)) was never rejected") }
            if !state.dead.insert(message).inserted { state.faults.append("\(Self.short(message)) is dead twice") }
        }
    }

    func didFinish(_ message: String) { state.withLock { _ = $0.done.insert(message) } }

    func add(fault: String) { state.withLock { $0.faults.append(fault) } }

    /// Runs a client on a thread of its own. It ends with its connection.
    func start(_ body: @escaping @Sendable () throws -> Void) {
        state.update { $0.clientCount += 1 }
        startThread {
            try? body()
            self.state.update { $0.clientCount -= 1 }
        }
    }

    /// Waits until no client is at work any more.
    func awaitClients() -> Bool {
        state.wait(until: Deadline(seconds: 60)) { $0.clientCount == 0 ? true : nil } ?? false
    }

    private static func short(_ message: String) -> String { "\(message.prefix(16))… of \(message.utf8.count)" }

    /// What is wrong when all queues are empty.
    var faults: [String] {
        state.withLock { state in
            // A message may be delivered, and rejected, before it is on disk: without RECEIPT of one of these it may be gone.
            let lost = state.promised.subtracting(state.acknowledged).union(state.rejected.intersection(state.done))
                .subtracting(state.dead)
            // A message may be delivered before it is on disk; so what came in the same round says nothing.
            let torn = state.transactions.filter { parts in
                parts.contains { state.recovered.contains($0) } && !parts.allSatisfy { state.seen.contains($0) }
            }
            return state.faults + lost.sorted().map { "\(Self.short($0)) was promised and is gone" }
                + torn.map { "of the transaction \($0.map(Self.short)) a part came" }
        }
    }

    var promisedCount: Int { state.withLock { $0.promised.count } }
    var doneCount: Int { state.withLock { $0.done.count } }
    var deadCount: Int { state.withLock { $0.dead.count } }
}
