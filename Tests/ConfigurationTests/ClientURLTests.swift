import Foundation
import Glibc
import STOMP
import Testing

@testable import ClientWebSocket

/// `--url` of `tap` and `sink`, and how they take a passcode.
@Suite("URLs of clients")
struct ClientURLTests {
    let stampede: Executable

    init() throws { stampede = try Executable() }

    /// A server's end of a WebSocket, whose messages are whole frames of STOMP.
    private struct WebSocketPeer: ~Copyable {
        private var bytes: [UInt8] = []
        private var decoder = ClientFrameDecoder(version: .v1_2)
        private(set) var closeCode: Int?

        /// Answers the handshake. Returns the lines of the request.
        mutating func open(_ peer: borrowing ScriptedBroker.Peer) throws -> [String] {
            while WebSocketHandshake.headByteCount(of: bytes) == nil { bytes += try peer.receiveBytes() }
            let count = WebSocketHandshake.headByteCount(of: bytes)!
            let lines = String(decoding: bytes[..<count], as: UTF8.self).components(separatedBy: "\r\n")
            bytes.removeFirst(count)
            let key = try #require(lines.first { $0.hasPrefix("Sec-WebSocket-Key: ") }).dropFirst(19)
            let accept = Base64.encode(SHA1.digest(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
            try peer.send(
                Array(
                    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        + "Sec-WebSocket-Accept: \(accept)\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n").utf8))
            return lines
        }

        /// The next frame of STOMP; nil at the close frame.
        mutating func next(_ peer: borrowing ScriptedBroker.Peer) throws -> ClientFrame? {
            while true {
                if let frame = try decoder.pop() { return frame }
                guard let (opcode, payload) = takeMessage() else {
                    let more = try peer.receiveBytes()
                    if more.isEmpty { throw ScriptedBroker.Ended(what: "the client left without a close frame") }
                    bytes += more
                    continue
                }
                if opcode == 8 {
                    closeCode = Int(payload[0]) << 8 | Int(payload[1])
                    return nil
                }
                // A pong has no frames.
                if opcode == 1 || opcode == 2 { decoder.push(payload) }
            }
        }

        /// A short masked frame.
        private mutating func takeMessage() -> (opcode: UInt8, payload: [UInt8])? {
            guard bytes.count >= 6, bytes[1] & 0x80 != 0 else { return nil }
            let isLong = bytes[1] & 0x7F == 126
            let header = isLong ? 8 : 6
            guard bytes.count >= header else { return nil }
            let count = isLong ? Int(bytes[2]) << 8 | Int(bytes[3]) : Int(bytes[1] & 0x7F)
            guard bytes.count >= header + count else { return nil }
            let key = Array(bytes[header - 4..<header])
            let payload = (0..<count).map { bytes[header + $0] ^ key[$0 % 4] }
            defer { bytes.removeFirst(header + count) }
            return (bytes[0] & 0x0F, payload)
        }

        func send(_ peer: borrowing ScriptedBroker.Peer, _ frame: ClientFrame) throws {
            let payload = frame.encoded(.v1_2)
            try peer.send([0x81, UInt8(payload.count)] + payload)
        }
    }

    @Test("sink speaks WebSocket: handshake, a message for each frame, pong, and close")
    func webSocket() throws {
        let broker = try ScriptedBroker { peer in
            var socket = WebSocketPeer()
            let request = try socket.open(peer)
            #expect(request.first == "GET /ws HTTP/1.1")
            #expect(request.contains("Sec-WebSocket-Protocol: v12.stomp, v11.stomp, v10.stomp"))
            let connect = try socket.next(peer)
            #expect(connect?.command == .connect && connect?["login"] == "al ice" && connect?["passcode"] == "secret")
            try peer.send([0x89, 1, 0x70])
            try socket.send(peer, ClientFrame(.connected, [("version", "1.2")]))
            for body in ["one", "two"] {
                let frame = try socket.next(peer)
                #expect(frame?.text == body && frame?["persistent"] == "true")
            }
            let goodbye = try socket.next(peer)
            try socket.send(peer, ClientFrame(.receipt, [("receipt-id", goodbye?["receipt"] ?? "")]))
            let end = try socket.next(peer)
            let closeCode = socket.closeCode
            #expect(end == nil && closeCode == 1000)
        }
        let outcome = try stampede.run(
            ["sink", "/queue/a", "--url", "ws://al%20ice@127.0.0.1:\(broker.port)", "--persistent"],
            environment: ["STOMP_PASSCODE": "secret"], input: "one\ntwo\n")
        try broker.finish()
        #expect(outcome.exitCode == 0 && outcome.error == "", "\(outcome.error)")
    }

    @Test("A refused handshake is one line with the status and what the server says")
    func refusedHandshake() throws {
        let broker = try ScriptedBroker { peer in
            _ = try peer.receiveBytes()
            try peer.send(Array("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno entry\n".utf8))
        }
        let outcome = try stampede.run(["tap", "/topic/a", "--url", "ws://127.0.0.1:\(broker.port)/other"])
        try broker.finish()
        #expect(outcome.exitCode == 1)
        #expect(
            outcome.error == "stampede: the server answered the WebSocket handshake with 403 Forbidden: no entry\n")
    }

    @Test("What speaks no WebSocket is told so")
    func noWebSocket() throws {
        let broker = try ScriptedBroker { peer in
            _ = try peer.receiveBytes()
            try peer.send(ClientFrame(.error, [("message", "no STOMP")]))
        }
        let outcome = try stampede.run(["tap", "/topic/a", "--url", "ws://127.0.0.1:\(broker.port)"])
        try broker.finish()
        #expect(outcome.exitCode == 1)
        #expect(outcome.error.contains("does not answer a WebSocket handshake with HTTP"), "\(outcome.error)")
    }

    @Test("The close frame of a broker ends the command with its code and reason")
    func closed() throws {
        let broker = try ScriptedBroker { peer in
            var socket = WebSocketPeer()
            _ = try socket.open(peer)
            _ = try socket.next(peer)
            try peer.send([0x88, 5, 0x03, 0xEA] + Array("bye".utf8))
        }
        let outcome = try stampede.run(["tap", "/topic/a", "--url", "ws://127.0.0.1:\(broker.port)"])
        try broker.finish()
        #expect(outcome.exitCode == 1)
        #expect(outcome.error == "stampede: the broker closed the connection (code 1002: bye)\n")
    }

    @Test(
        "A wrong URL is an error of the command line that says what is right",
        arguments: [
            ("127.0.0.1:61613", "allowed: stomp://"), ("http://a", "allowed: stomp://"),
            ("stomp://", "is not HOST"), ("stomp://a:0", "is not HOST"), ("stomp://a:b:1", "is not HOST"),
            ("stomp://user:secret@a", "--passcode-file"), ("stomp://@a", "the login in it is empty"),
            ("stomp://%FF@a", "no UTF-8"), ("stomp://%2@a", "no UTF-8"), ("stomp://a/b", "only ws:// and wss://"),
            ("ws://a/b c", "no path of a URL"), ("unix:a", "absolute path"), ("unix://a/b", "absolute path"),
        ])
    func wrongURL(url: String, reason: String) throws {
        let outcome = try stampede.run(["tap", "/topic/a", "--url", url])
        #expect(outcome.exitCode == 2 && outcome.error.contains(reason), "\(outcome.error)")
    }

    @Test(
        "Options that contradict each other are refused",
        arguments: [
            ["--url", "stomp://a", "--host", "a"], ["--passcode", "x", "--passcode-file", "y"],
            ["--url", "stomp://me@a", "--login", "you"],
        ])
    func contradictions(options: [String]) throws {
        let outcome = try stampede.run(["tap", "/topic/a"] + options)
        #expect(outcome.exitCode == 2 && outcome.error.contains("allowed: one of both"), "\(outcome.error)")
    }

    @Test("A Unix socket without a broker is one line and exit code 1")
    func noUnixBroker() throws {
        let outcome = try stampede.run(["tap", "/topic/a", "--url", "unix:/nowhere/s.sock"])
        #expect(outcome.exitCode == 1)
        #expect(outcome.error == "stampede: cannot connect to unix:/nowhere/s.sock: No such file or directory\n")
    }

    @Test("A passcode is read from the first line of a file; what others can see earns a warning")
    func passcodeFile() throws {
        let path = "/tmp/stampede-passcode-\(getpid())"
        defer { unlink(path) }
        for (mode, isWarned) in [(mode_t(0o600), false), (0o644, true)] {
            unlink(path)
            let fd = open(path, O_CREAT | O_WRONLY | O_EXCL, mode)
            #expect(fchmod(fd, mode) == 0 && write(fd, "secret\nmore\n", 12) == 12)
            close(fd)
            let broker = try ScriptedBroker { peer in
                #expect(try peer.expect(.connect)["passcode"] == "secret")
                try peer.send(ClientFrame(.connected, [("version", "1.2")]))
                try peer.farewell()
            }
            let outcome = try stampede.run(
                ["sink", "/queue/a", "--host", broker.hostAndPort, "--passcode-file", path])
            try broker.finish()
            #expect(outcome.exitCode == 0)
            #expect(outcome.error.contains("other users can read") == isWarned, "\(outcome.error)")
        }
        let missing = try stampede.run(["sink", "/queue/a", "--passcode-file", "/nowhere/p"])
        #expect(missing.exitCode == 2 && missing.error.contains("--passcode-file: /nowhere/p: No such file"))
    }

    @Test("A passcode on the command line works, with a warning")
    func passcodeInClear() throws {
        let broker = try ScriptedBroker { peer in
            #expect(try peer.expect(.connect)["passcode"] == "secret")
            try peer.send(ClientFrame(.connected, [("version", "1.2")]))
            try peer.farewell()
        }
        let outcome = try stampede.run(["sink", "/queue/a", "--host", broker.hostAndPort, "--passcode", "secret"])
        try broker.finish()
        #expect(outcome.exitCode == 0)
        #expect(outcome.errorLines.count == 1 && outcome.error.hasPrefix("stampede: warning: --passcode:"))
    }
}
