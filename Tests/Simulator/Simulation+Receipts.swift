import Broker
import Glibc
import IO
import Slabs

/// What is known of a frame that asked for a RECEIPT.
struct AskedReceipt {
    var shard: Int
    var position: LogPosition
    /// Other workers that have to confirm, each with the turns that it had had.
    var workers: [(index: Int, turnCount: Int)]
    /// nil: not decided.
    var isPermitted: Bool?
}

/// A completion about receipts, on its way.
struct ReceiptAnswer {
    enum Kind {
        case durable(LogPosition)
        case permission(Peer, receipt: Int, question: Slot, isAllowed: Bool)
    }

    var shard: Int
    var kind: Kind
    var due: UInt64
}

// A log takes its time to become durable, and somebody to decide what clients may do; a client may be gone by then. What is
// random of it is drawn apart, so that runs without it stay what they are.
extension Simulation {
    func keepReceiptQuestions(_ index: Int) {
        for question in shards[index].takeReceiptQuestions() {
            guard let peer = find(question.connection, index) else {
                return oracle.violate("a question about a connection that does not exist")
            }
            guard let receipt = Int(String(decoding: question.receipt, as: UTF8.self)) else {
                return oracle.violate("a question about a receipt that nobody asked for")
            }
            peer.askedReceipts[receipt] = AskedReceipt(
                shard: index, position: question.position,
                workers: question.workers.map { ($0, oracle.turnCounts[$0]) })
            // One write to the log after the other.
            let durable = max(delay(), receiptAnswers.last { $0.shard == index && $0.isDurable }?.due ?? 0)
            receiptAnswers.append(ReceiptAnswer(shard: index, kind: .durable(question.position), due: durable))
            let isAllowed = isAtRest || peer.isDrainer || !receiptRandom.chance(10)
            receiptAnswers.append(
                ReceiptAnswer(
                    shard: index,
                    kind: .permission(peer, receipt: receipt, question: question.question, isAllowed: isAllowed),
                    due: delay()))
        }
    }

    /// When something of an everyday duration that begins now is over.
    private func delay() -> UInt64 { now + receiptRandom.pick([0, 0, 50_000, 1_000_000, 20_000_000, 200_000_000]) }

    func giveReceiptAnswers(_ index: Int) {
        guard !receiptAnswers.isEmpty else { return }
        var durable: LogPosition = 0
        for answer in receiptAnswers where answer.shard == index {
            let isDue = answer.due <= now
            switch answer.kind {
            case .durable(let position):
                if isDue { oracle.durablePositions[index] = position }
                if isDue || canary == .confirmUndurable && strikesCanary(oneIn: 5) { durable = max(durable, position) }
            case .permission(let peer, let receipt, let question, let isAllowed):
                if isDue { peer.askedReceipts[receipt]?.isPermitted = isAllowed }
                if isDue {
                    completions.append(
                        Completion(.permitted, connection: question, value: isAllowed ? 0 : -EACCES))
                } else if canary == .permitEarly, strikesCanary(oneIn: 5) {
                    completions.append(Completion(.permitted, connection: question))
                }
            }
        }
        receiptAnswers.removeAll { $0.shard == index && $0.due <= now }
        if durable != 0 { completions.append(Completion(.durable, address: durable)) }
    }
}

extension ReceiptAnswer {
    var isDurable: Bool { if case .durable = kind { true } else { false } }
}

extension Oracle {
    /// Whether it was decided that the client may not do what this frame asked for.
    func isForbidden(_ receipt: String?, _ peer: Peer) -> Bool {
        guard let receipt, let index = Int(receipt) else { return false }
        return peer.askedReceipts[index]?.isPermitted == false
    }

    /// A RECEIPT leaves when the other workers have had the time to answer, the log is durable, and the client may.
    func checkConditions(ofReceipt index: Int, _ peer: Peer) {
        guard scenario.receiptsWait else { return }
        guard let asked = peer.askedReceipts.removeValue(forKey: index) else {
            return violate("client \(peer.id): RECEIPT \(index) before anybody was asked")
        }
        if durablePositions[asked.shard] < asked.position {
            violate("client \(peer.id): RECEIPT \(index) before it was durable")
        }
        if asked.isPermitted != true { violate("client \(peer.id): RECEIPT \(index) before it was permitted") }
        for worker in asked.workers where turnCounts[worker.index] <= worker.turnCount {
            violate("client \(peer.id): RECEIPT \(index) before worker \(worker.index) could answer")
        }
    }
}
