import Foundation
import Glibc
import STOMP
import Synchronization
import Testing

/// The broker's end of one connection, played by a test frame by frame.
///
/// It listens on a free port of the loopback interface and runs its script in a thread of its own, with the first
/// connection. No wait takes longer than ten seconds.
final class ScriptedBroker: Sendable {
    let port: UInt16
    private let result = Mutex<(any Error)?>(nil)
    private let done = DispatchSemaphore(value: 0)

    init(_ script: @escaping @Sendable (inout Peer) throws -> Void) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        try #require(listener >= 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        try withUnsafeMutableBytes(of: &address) { bytes in
            let generic = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            try #require(bind(listener, generic, size) == 0 && listen(listener, 1) == 0)
            try #require(getsockname(listener, generic, &size) == 0)
        }
        port = UInt16(bigEndian: address.sin_port)
        Self.limitWaits(listener)
        let thread = Thread { [self] in
            let fd = accept(listener, nil, nil)
            close(listener)
            do {
                guard fd >= 0 else { throw Ended(what: "nobody connected") }
                Self.limitWaits(fd)
                var peer = Peer(fd)
                defer { close(fd) }
                try script(&peer)
            } catch {
                result.withLock { $0 = error }
            }
            done.signal()
        }
        thread.start()
    }

    var hostAndPort: String { "127.0.0.1:\(port)" }

    /// Waits for the end of the script, and throws what it threw.
    func finish() throws {
        try #require(done.wait(timeout: .now() + 10) == .success)
        if let error = result.withLock({ $0 }) { throw error }
    }

    private static func limitWaits(_ fd: Int32) {
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    struct Ended: Error {
        let what: String
    }

    /// One connection: frames in, frames out.
    struct Peer: ~Copyable {
        private let fd: Int32
        private var decoder = ClientFrameDecoder()

        fileprivate init(_ fd: Int32) { self.fd = fd }

        /// The next frame of the client, which has to be a `command`.
        mutating func expect(_ command: Command) throws -> ClientFrame {
            guard let frame = try next() else { throw Ended(what: "the client left instead of \(command.text)") }
            guard frame.command == command else {
                throw Ended(what: "\(frame.command.text) came instead of \(command.text)")
            }
            return frame
        }

        /// The next frame of the client; nil at the end of the stream.
        mutating func next() throws -> ClientFrame? {
            var chunk = [UInt8](repeating: 0, count: 4096)
            while true {
                if let frame = try decoder.pop() { return frame }
                let count = recv(fd, &chunk, chunk.count, 0)
                guard count >= 0 else { throw Ended(what: "nothing more came") }
                if count == 0 { return nil }
                decoder.push(chunk[..<count])
            }
        }

        /// Some bytes as they are on the socket; none at its end.
        func receiveBytes() throws -> [UInt8] {
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = recv(fd, &chunk, chunk.count, 0)
            guard count >= 0 else { throw Ended(what: "nothing more came") }
            return Array(chunk[..<count])
        }

        func send(_ frames: ClientFrame...) throws {
            try send(frames.flatMap { $0.encoded(decoder.version) + [UInt8(ascii: "\n")] })
        }

        func send(_ bytes: [UInt8]) throws {
            guard Glibc.send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
                throw Ended(what: "the client takes no more")
            }
        }

        /// Answers CONNECT.
        mutating func welcome(_ version: Version = .v1_2, heartBeat: String = "0,0") throws {
            _ = try expect(.connect)
            try send(ClientFrame(.connected, [("version", "\(version.text)"), ("heart-beat", heartBeat)]))
            decoder.version = version
        }

        /// Answers SUBSCRIBE.
        mutating func confirmSubscription() throws -> ClientFrame {
            let frame = try expect(.subscribe)
            try send(ClientFrame(.receipt, [("receipt-id", frame["receipt"] ?? "")]))
            return frame
        }

        /// Answers DISCONNECT, and reads to the end.
        mutating func farewell() throws {
            let frame = try expect(.disconnect)
            try send(ClientFrame(.receipt, [("receipt-id", frame["receipt"] ?? "")]))
            guard try next() == nil else { throw Ended(what: "a frame came after DISCONNECT") }
        }
    }
}

func message(_ number: Int, _ body: [UInt8], version: Version = .v1_2) -> ClientFrame {
    var headers = [("subscription", "0"), ("message-id", "m-\(number)"), ("destination", "/queue/a")]
    if version == .v1_2 { headers.append(("ack", "a-\(number)")) }
    return ClientFrame(.message, headers, body: body)
}
