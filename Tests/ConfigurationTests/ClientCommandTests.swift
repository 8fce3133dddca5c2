import Foundation
import Glibc
import STOMP
import Synchronization
import Testing

@Suite("tap and sink")
struct ClientCommandTests {
    let stampede: Executable

    init() throws { stampede = try Executable() }

    // MARK: tap

    @Test("tap prints each message as a line, acknowledges what it printed, and leaves after the count")
    func tapCount() throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            let subscription = try peer.confirmSubscription()
            #expect(subscription["destination"] == "/queue/a" && subscription["ack"] == "client")
            #expect(subscription["prefetch-count"] == "7")
            try peer.send(message(1, Array("one".utf8)), message(2, []), message(3, Array("not wanted".utf8)))
            // However the two lines reached the output, the last ACK speaks for both.
            var last = ""
            while last != "a-2" { last = try peer.expect(.ack)["id"] ?? "" }
            try peer.farewell()
        }
        let outcome = try stampede.run(
            ["tap", "/queue/a", "--host", broker.hostAndPort, "--count", "2", "--header", "prefetch-count:7", "-v"])
        try broker.finish()
        #expect(outcome.exitCode == 0)
        #expect(outcome.output == "one\n\n")
        #expect(outcome.error == "stampede: subscribed to /queue/a\n")
    }

    @Test("tap and sink name the virtual host that they are told, else the broker's address", arguments: ["shop", nil])
    func virtualHost(_ name: String?) throws {
        for command in ["tap", "sink"] {
            let broker = try ScriptedBroker { peer in
                let connect = try peer.expect(.connect)
                #expect(connect["host"] == name ?? "127.0.0.1")
                try peer.send(ClientFrame(.error, [("message", "Bad CONNECT")], text: "no such host"))
            }
            let outcome = try stampede.run(
                [command, "/queue/a", "--host", broker.hostAndPort] + (name.map { ["--virtual-host", $0] } ?? []))
            #expect(outcome.exitCode == 1 && outcome.error.contains("Bad CONNECT"), "\(outcome.error)")
        }
        #expect(try stampede.run(["tap", "/queue/a", "--virtual-host", "a\nb"]).exitCode == 2)
    }

    @Test("tap passes bodies through unchanged, NUL and all, however large")
    func tapBinary() throws {
        let body = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            _ = try peer.confirmSubscription()
            try peer.send(message(1, body))
            _ = try peer.expect(.ack)
            try peer.farewell()
        }
        let outcome = try stampede.run(["tap", "/queue/a", "--host", broker.hostAndPort, "--count", "1"])
        try broker.finish()
        #expect(outcome.exitCode == 0)
        #expect(outcome.outputBytes == body + [UInt8(ascii: "\n")])
    }

    @Test("tap --frames prints frames that decode to what was sent")
    func tapFrames() throws {
        let sent = [message(1, Array("a:b\0c".utf8)), message(2, Array("two".utf8))]
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            #expect(try peer.confirmSubscription()["ack"] == "auto")
            try peer.send(sent[0], sent[1])
            try peer.farewell()
        }
        let outcome = try stampede.run(
            ["tap", "/queue/a", "--host", broker.hostAndPort, "--count", "2", "--frames", "--ack", "auto"])
        try broker.finish()
        var decoder = ClientFrameDecoder(version: .v1_2)
        decoder.push(outcome.outputBytes)
        for expected in sent {
            let frame = try #require(try decoder.pop())
            #expect(frame.headers.filter { $0.name != "content-length" } == expected.headers)
            #expect(frame.body == expected.body)
        }
        #expect(try decoder.pop() == nil)
    }

    @Test("tap acknowledges as the version in use asks for", arguments: [Version.v1_0, .v1_1, .v1_2])
    func tapVersions(version: Version) throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome(version)
            _ = try peer.confirmSubscription()
            try peer.send(message(1, [0x31], version: version))
            let ack = try peer.expect(.ack)
            if version == .v1_2 {
                #expect(ack["id"] == "a-1")
            } else {
                #expect(ack["message-id"] == "m-1" && ack["subscription"] == "0")
            }
            try peer.farewell()
        }
        let outcome = try stampede.run(
            ["tap", "/queue/a", "--host", broker.hostAndPort, "--count", "1", "--ack", "client-individual"])
        try broker.finish()
        #expect(outcome.exitCode == 0 && outcome.output == "1\n")
    }

    @Test("tap ends well on SIGINT and on SIGTERM", arguments: [SIGINT, SIGTERM])
    func tapInterrupted(signal: Int32) throws {
        let process = ProcessID()
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            _ = try peer.confirmSubscription()
            try peer.send(message(1, Array("one".utf8)))
            _ = try peer.expect(.ack)
            kill(process.wait(), signal)
            try peer.farewell()
        }
        let outcome = try stampede.run(["tap", "/queue/a", "--host", broker.hostAndPort], onStart: process.set)
        try broker.finish()
        #expect(outcome.exitCode == 0 && outcome.output == "one\n" && outcome.error == "")
    }

    @Test("tap prints what arrived before the connection ended, and exits with 1")
    func tapLost() throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            _ = try peer.confirmSubscription()
            try peer.send(message(1, Array("last words".utf8)))
        }
        let outcome = try stampede.run(["tap", "/queue/a", "--host", broker.hostAndPort, "--ack", "auto"])
        try broker.finish()
        #expect(outcome.exitCode == 1 && outcome.output == "last words\n")
        #expect(outcome.error == "stampede: the broker closed the connection\n")
    }

    // MARK: sink

    @Test("sink that is interrupted says which lines the broker has, and exits with 1", arguments: [SIGINT, SIGTERM])
    func sinkInterrupted(signal: Int32) throws {
        let process = ProcessID()
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            _ = try peer.expect(.send)
            kill(process.wait(), signal)
            try peer.farewell()
        }
        // Standard input stays open.
        let outcome = try stampede.run(
            ["sink", "/queue/a", "--host", broker.hostAndPort], input: "one\n", endsInput: false, onStart: process.set)
        try broker.finish()
        #expect(outcome.exitCode == 1)
        #expect(outcome.error.contains("interrupted before the end of the input"))
        #expect(outcome.error.contains("the first 1 of 1 lines"))
    }

    @Test("sink sends each line as a message, the unfinished last one too, and waits for the confirmation")
    func sinkLines() throws {
        let broker = try ScriptedBroker { peer in
            let connect = try peer.expect(.connect)
            #expect(connect["login"] == "user" && connect["passcode"] == "secret" && connect["host"] == "127.0.0.1")
            try peer.send(ClientFrame(.connected, [("version", "1.0")]))
            for body in ["one", "", "two: colon", "last"] {
                let frame = try peer.expect(.send)
                #expect(frame.text == body)
                #expect(frame["destination"] == "/queue/a" && frame["type"] == "a:b" && frame["receipt"] != nil)
            }
            try peer.farewell()
        }
        let outcome = try stampede.run(
            ["sink", "/queue/a", "--host", broker.hostAndPort, "--login", "user", "--header", "type:a:b", "-v"],
            environment: ["STOMP_PASSCODE": "secret"], input: "one\n\ntwo: colon\nlast")
        try broker.finish()
        #expect(outcome.exitCode == 0 && outcome.error == "stampede: 4 messages confirmed\n")
    }

    @Test("sink asks for receipts as it goes, and sends no more than four intervals ahead of them")
    func sinkWindow() throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            var receipts: [String] = []
            for _ in 0..<8 {
                if let receipt = try peer.expect(.send)["receipt"] { receipts.append(receipt) }
            }
            #expect(receipts == ["2", "4", "6", "8"])
            // The ninth comes only after a receipt.
            try peer.send(ClientFrame(.receipt, [("receipt-id", "8")]))
            #expect(try peer.expect(.send).text == "9")
            try peer.farewell()
        }
        let outcome = try stampede.run(
            ["sink", "/queue/a", "--host", broker.hostAndPort, "--receipt", "2"],
            input: (1...9).map { "\($0)\n" }.joined())
        try broker.finish()
        #expect(outcome.exitCode == 0 && outcome.error == "")
    }

    @Test("A refusal is one line with the broker's reason, and exit code 1", arguments: ["tap", "sink"])
    func refused(command: String) throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            _ = try peer.next()
            try peer.send(
                ClientFrame(.error, [("message", "Invalid destination")], text: "No such\nplace.\u{1B}[2J"))
        }
        let outcome = try stampede.run([command, "/queue/a", "--host", broker.hostAndPort], input: "one\n")
        try broker.finish()
        #expect(outcome.exitCode == 1 && outcome.output == "")
        let note =
            "stampede: the broker has accepted the first 0 of 1 lines that were sent; it has not confirmed the other 1, "
            + "and may have accepted some of them\n"
        let refusal = "stampede: the broker refused: Invalid destination: No such place.?[2J\n"
        #expect(outcome.error == refusal + (command == "sink" ? note : ""))
    }

    /// Receipts that come in while it says goodbye count too.
    @Test("sink says how many lines were accepted when the broker refuses one, or goes", arguments: [true, false])
    func sinkAccepted(isRefused: Bool) throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            for number in 1...3 { #expect(try peer.expect(.send)["receipt"] == "\(number)") }
            _ = try peer.expect(.disconnect)
            try peer.send(ClientFrame(.receipt, [("receipt-id", "1")]), ClientFrame(.receipt, [("receipt-id", "2")]))
            if isRefused { try peer.send(ClientFrame(.error, [("message", "Queue full"), ("receipt-id", "3")])) }
        }
        let outcome = try stampede.run(
            ["sink", "/queue/a", "--host", broker.hostAndPort], input: "one\ntwo\nthree\n")
        try broker.finish()
        #expect(outcome.exitCode == 1)
        #expect(
            outcome.errorLines == [
                "stampede: the broker \(isRefused ? "refused: Queue full" : "closed the connection")",
                "stampede: the broker has accepted the first 2 of 3 lines that were sent"
                    + (isRefused
                        ? ", and refused line 3"
                        : "; it has not confirmed the other 1, and may have accepted some of them"),
            ])
    }

    @Test("tap --count asks for a window of as many messages")
    func tapWindow() throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            #expect(try peer.confirmSubscription()["prefetch-count"] == "3")
            try peer.send(message(1, [0x31]), message(2, [0x32]), message(3, [0x33]))
            while try peer.expect(.ack)["id"] != "a-3" {}
            try peer.farewell()
        }
        let outcome = try stampede.run(["tap", "/queue/a", "--host", broker.hostAndPort, "--count", "3"])
        try broker.finish()
        #expect(outcome.exitCode == 0 && outcome.output == "1\n2\n3\n")
    }

    @Test("A name without a slash earns a hint", arguments: ["tap", "sink"])
    func bareName(command: String) throws {
        let broker = try ScriptedBroker { peer in
            try peer.welcome()
            #expect(try peer.next()?["destination"] == "orders")
        }
        let outcome = try stampede.run([command, "orders", "--host", broker.hostAndPort], input: "one\n")
        try broker.finish()
        #expect(outcome.errorLines.first?.hasSuffix("write /topic/orders or /queue/orders") == true, "\(outcome.error)")
    }

    @Test("A refused login is one line with the broker's reason", arguments: ["tap", "sink"])
    func loginRefused(command: String) throws {
        let broker = try ScriptedBroker { peer in
            _ = try peer.expect(.connect)
            try peer.send(ClientFrame(.error, [("message", "Access refused")]))
        }
        let outcome = try stampede.run([command, "/queue/a", "--host", broker.hostAndPort])
        try broker.finish()
        #expect(outcome.exitCode == 1 && outcome.error == "stampede: the broker refused: Access refused\n")
    }

    @Test("A virtual host that the broker does not have earns a hint")
    func unknownHost() throws {
        let broker = try ScriptedBroker { peer in
            _ = try peer.expect(.connect)
            try peer.send(ClientFrame(.error, [("message", "Bad CONNECT")], text: "the header host is '127.0.0.1'"))
        }
        let outcome = try stampede.run(["tap", "/queue/a", "--host", broker.hostAndPort])
        try broker.finish()
        #expect(outcome.error.hasSuffix("the header host is '127.0.0.1'; --virtual-host names another\n"))
    }

    @Test(
        "A port of another protocol is named",
        arguments: [
            (Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), "--url ws://HOST:PORT\n"),
            ([21, 3, 3, 0, 2, 2, 22], "--url stomps://HOST:PORT\n"),
        ] as [([UInt8], String)])
    func otherProtocol(_ answer: [UInt8], _ hint: String) throws {
        let broker = try ScriptedBroker { peer in
            _ = try peer.expect(.connect)
            try peer.send(answer)
        }
        let outcome = try stampede.run(["sink", "/queue/a", "--host", broker.hostAndPort])
        try broker.finish()
        #expect(outcome.exitCode == 1 && outcome.error.hasSuffix(hint), "\(outcome.error)")
    }

    @Test("What is no broker is one line and exit code 1", arguments: ["tap", "sink"])
    func noBroker(command: String) throws {
        let broker = try ScriptedBroker { peer in _ = try peer.expect(.connect) }
        let outcome = try stampede.run([command, "/queue/a", "--host", broker.hostAndPort])
        try broker.finish()
        #expect(
            outcome.exitCode == 1
                && outcome.error
                    == "stampede: the broker closed the connection before it answered; if clients of this port "
                    + "use TLS: --url stomps://HOST:PORT\n"
        )
        // Nobody listens there any more.
        let second = try stampede.run([command, "/queue/a", "--host", broker.hostAndPort])
        #expect(second.exitCode == 1)
        #expect(second.error == "stampede: cannot connect to 127.0.0.1 port \(broker.port): Connection refused\n")
    }

    /// The id of a process, from the thread that starts it to the one that signals it.
    private final class ProcessID: Sendable {
        private let id = Atomic<Int32>(0)
        private let isSet = DispatchSemaphore(value: 0)

        func set(_ id: Int32) {
            self.id.store(id, ordering: .relaxed)
            isSet.signal()
        }

        func wait() -> Int32 {
            isSet.wait()
            return id.load(ordering: .relaxed)
        }
    }
}
