import Broker
import Glibc
import IO
import Permissions
import Slabs

/// A decision about a client, on its way.
struct Answer {
    var peer: Peer
    var shard: Int
    var connection: Slot
    var isAllowed: Bool
    var due: UInt64
}

// Somebody decides who may connect, and takes his time; the client may be gone by then.
extension Simulation {
    func keepQuestions(_ index: Int) {
        for question in shards[index].takeQuestions() {
            guard let peer = find(question.connection, index) else {
                return oracle.violate("a question about a connection that does not exist")
            }
            // At once, within the time that a client has, or after it.
            let milliseconds = random.pick([0, 1, 20, 200, 8_000])
            let isPatient = milliseconds < 8_000 || !isAtRest && !peer.isDrainer && random.chance(200)
            answers.append(
                Answer(
                    peer: peer, shard: index, connection: question.connection,
                    isAllowed: peer.isDrainer || !random.chance(150),
                    due: now + (isPatient ? UInt64(milliseconds) : 0) * 1_000_000))
        }
    }

    func giveAnswers(_ index: Int) {
        guard !answers.isEmpty else { return }
        for answer in answers where answer.shard == index && answer.due <= now {
            answer.peer.isAllowed = answer.isAllowed
            if scenario.access != nil {
                // As a worker that is woken has them before its turn.
                completions.append(Completion(.woken))
                shards[index].answer([self.answer(answer)])
                continue
            }
            completions.append(
                Completion(.authenticated, connection: answer.connection, value: answer.isAllowed ? 0 : -EACCES))
        }
        answers.removeAll { $0.shard == index && $0.due <= now }
    }

    private func answer(_ answer: Answer) -> AuthenticationAnswer {
        guard answer.isAllowed else {
            return AuthenticationAnswer(refusing: answer.connection, because: "the simulator refuses it")
        }
        let identity = AccessIdentity(
            user: Array(answer.peer.user.utf8), source: .user, expiresAt: answer.peer.expiresAt)
        return AuthenticationAnswer(allowing: answer.connection, as: identity, clientID: nil)
    }
}
