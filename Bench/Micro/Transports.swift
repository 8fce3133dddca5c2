import Glibc
import IO
import Slabs
import Transports

extension MicroCase {
    static let transports = [
        MicroCase(name: "websocket-send", summary: "a shared run of 200 bytes framed for one of 100 WebSockets") {
            WebSocketTurns(.send(connections: 100, byteCount: 200))
        },
        MicroCase(name: "websocket-send-1k", summary: "the same with a run of 1 KiB") {
            WebSocketTurns(.send(connections: 100, byteCount: 1024))
        },
        MicroCase(name: "websocket-receive", summary: "a masked text frame of 110 bytes, 16 in a chunk, copied first") {
            WebSocketTurns(.receive(frames: 16, byteCount: 110))
        },
        MicroCase(name: "websocket-plain", summary: "a send of a plain connection through the layer, 100 in a poll") {
            WebSocketTurns(.plain(connections: 100, byteCount: 200))
        },
    ]
}

/// Polls of the layer of transports, with a driver that takes everything.
private final class WebSocketTurns: Workload {
    enum Kind {
        case send(connections: Int, byteCount: Int)
        case receive(frames: Int, byteCount: Int)
        case plain(connections: Int, byteCount: Int)
    }

    private let kind: Kind
    private var layer: TransportLayer
    private var submissions = Batch<Submission>(capacity: 256)
    private var completions = Batch<Completion>(capacity: 256)
    private var connections: [Slot] = []
    private let run: UnsafeMutableRawBufferPointer
    /// Where the frames are decoded, in place.
    private let chunk: UnsafeMutableRawBufferPointer
    private let now: UInt64 = 5_000_000_000

    private static let request = """
        GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n
        """

    init(_ kind: Kind) {
        self.kind = kind
        var webSocket = ListenerTransport()
        webSocket.kind = .ws
        guard let layer = try? TransportLayer(listeners: [ListenerTransport(), webSocket], connectionCountMax: 1000)
        else { fatalError("no address space for a layer") }
        self.layer = layer
        switch kind {
        case .send(let count, let byteCount), .plain(let count, let byteCount):
            let text = "MESSAGE\n\n" + String(repeating: "x", count: byteCount - 11) + "\0\n"
            run = Self.bytes(Array(text.utf8))
            chunk = Self.bytes([0])
            if case .send = kind { for _ in 0..<count { connect(1) } } else { for _ in 0..<count { connect(0) } }
        case .receive(let count, let byteCount):
            // A key of zeros: the payload is what it was before it is unmasked.
            let frame = [0x81, 0x80 | UInt8(byteCount), 0, 0, 0, 0] + [UInt8](repeating: 0x61, count: byteCount)
            run = Self.bytes((0..<count).flatMap { _ in frame })
            chunk = Self.bytes([UInt8](repeating: 0, count: run.count))
            connect(1)
        }
    }

    private static func bytes(_ bytes: [UInt8]) -> UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        memory.copyBytes(from: bytes)
        return memory
    }

    private func connect(_ listener: UInt8) {
        let connection = Slot(index: UInt32(connections.count + 1), generation: 1)
        connections.append(connection)
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: listener), address: 0)
        completions.append(Completion(accepted: Int32(connection.index), from: origin))
        layer.raise(&completions)
        completions.removeAll()
        submissions.append(Submission(.adopt, connection: connection, value: Int32(connection.index)))
        poll()
        guard listener == 1 else { return }
        var request = Self.request
        request.withUTF8 {
            completions.append(
                Completion(
                    .received, connection: connection, value: Int32($0.count), pointer: UnsafeRawPointer($0.baseAddress)
                ))
            layer.raise(&completions)
        }
        completions.removeAll()
        poll()
    }

    private func poll() {
        _ = layer.lower(&submissions, now: now)
        submissions.removeAll()
        layer.raise(&completions)
    }

    func run(_ count: Int) {
        switch kind {
        case .send, .plain:
            for _ in 0..<max(count / connections.count, 1) {
                for connection in connections {
                    submissions.append(
                        Submission(
                            .send, connection: connection, pointer: UnsafeRawPointer(run.baseAddress),
                            byteCount: run.count))
                }
                poll()
            }
        case .receive(let frames, _):
            for _ in 0..<max(count / frames, 1) {
                memcpy(chunk.baseAddress!, run.baseAddress!, run.count)
                completions.append(
                    Completion(
                        .received, connection: connections[0], value: Int32(run.count),
                        pointer: UnsafeRawPointer(chunk.baseAddress)))
                poll()
                completions.removeAll()
            }
        }
        keep(completions.count)
    }
}
