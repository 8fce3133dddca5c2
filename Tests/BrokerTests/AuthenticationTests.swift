import Broker
import Glibc
import IO
import STOMP
import Testing

/// CONNECT that is answered later, by whoever is asked.
@Suite("Authentication")
struct AuthenticationTests {
    private static let options = TestBroker.options { $0.authentication = .external }

    /// A client whose CONNECT is read, and the question about it.
    private func ask(_ broker: TestBroker, behind frames: String = "") -> (Client, AuthenticationQuestion)? {
        let client = broker.accept()
        client.write("CONNECT\naccept-version:1.2\nhost:h\nlogin:alice\npasscode:se:cret\n\n\0" + frames)
        broker.run()
        let questions = broker.shard(0).pointee.takeQuestions()
        #expect(questions.count == 1)
        return questions.first.map { (client, $0) }
    }

    private func answer(_ broker: TestBroker, _ question: AuthenticationQuestion, _ isAllowed: Bool) {
        broker.kernel.post(
            Completion(.authenticated, connection: question.connection, value: isAllowed ? 0 : -EACCES), to: 0)
        broker.run()
    }

    @Test("Frames behind CONNECT wait for the answer, and are applied then, in their order")
    func allowed() throws {
        try withBroker(Self.options) { broker in
            let frames =
                "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0SEND\ndestination:/topic/a\n\n1\0"
                + "SEND\ndestination:/topic/a\nreceipt:r\n\n2\0"
            let (client, question) = try #require(ask(broker, behind: frames))
            #expect(question.login == Array("alice".utf8))
            #expect(question.passcode == Array("se:cret".utf8))
            let isAsked = broker.shard(0).pointee.hasQuestions
            #expect(!isAsked)
            client.write("SEND\ndestination:/topic/a\n\n3\0")
            broker.run()
            #expect(client.frame() == nil)
            answer(broker, question, true)
            #expect(client.frame()?.command == .connected)
            #expect(client.frame()?.text == "1")
            var rest: [String] = []
            while let frame = client.frame() { rest.append(frame["receipt-id"] ?? frame.text) }
            #expect(rest.sorted() == ["2", "3", "r"])
            // Once.
            answer(broker, question, false)
            client.confirmed(.send, [("destination", "/topic/b")], "x")
        }
    }

    @Test("Who is refused gets ERROR, and nothing of what it sent is applied")
    func refused() throws {
        try withBroker(Self.options) { broker in
            let (client, question) = try #require(ask(broker, behind: "SEND\ndestination:/queue/a\nreceipt:r\n\nx\0"))
            answer(broker, question, false)
            let error = client.frame()
            #expect(error?.command == .error && error?["message"] == "Access refused")
            #expect(error?["receipt-id"] == nil)
            #expect(client.frame() == nil)
            #expect(broker.shard(0).pointee.audit().entries == 0)
            #expect(!broker.notices.contains { $0.text.contains("cret") })
        }
    }

    @Test("A client that has left by the time of the answer leaves nothing behind", arguments: [true, false])
    func left(isAllowed: Bool) throws {
        try withBroker(Self.options) { broker in
            let (client, question) = try #require(ask(broker, behind: "SEND\ndestination:/topic/a\n\n1\0"))
            client.reset()
            broker.run()
            answer(broker, question, isAllowed)
            #expect(broker.shard(0).pointee.audit().sessions == 0)
        }
    }

    @Test("A client that has ended its sending side is answered, and what it sent is applied")
    func halfClosed() throws {
        try withBroker(queued: 1, Self.options) { broker in
            let (client, question) = try #require(ask(broker, behind: "SEND\ndestination:/queue/a\n\n1\0"))
            client.hangUp()
            broker.run()
            answer(broker, question, true)
            #expect(client.frame()?.command == .connected)
            #expect(broker.shard(0).pointee.audit().entries == 1)
        }
    }

    @Test("No answer within the time that a client has is an ERROR")
    func noAnswer() throws {
        try withBroker(Self.options) { broker in
            let (client, question) = try #require(ask(broker))
            broker.advance(milliseconds: 5_100)
            #expect(client.frame()?["message"] == "Not connected in time")
            #expect(broker.counters.limits[.connectTimeout] == 1)
            answer(broker, question, true)
            #expect(client.frame() == nil)
        }
    }

    @Test("A drain does not wait for answers")
    func drain() throws {
        try withBroker(Self.options) { broker in
            let (client, _) = try #require(ask(broker))
            broker.kernel.beginDrain()
            broker.advance(milliseconds: 10_000)
            #expect(client.socket.isClosed)
        }
    }
}
