import ClientWebSocket
import Glibc

/// A TCP connection to a broker on the loopback interface: every wait is bounded, none sleeps.
final class Connection {
    /// How the peer ended the connection.
    enum End {
        case orderly
        /// With a reset: bytes that were on their way may be lost.
        case reset
    }

    private(set) var descriptor: Int32
    /// Received and not yet taken.
    private(set) var received: ArraySlice<UInt8> = []
    private(set) var end: End?
    private var chunk = [UInt8](repeating: 0, count: 65536)
    /// The frames around the bytes. nil: there are none.
    private var webSocket: WebSocketStream?
    private var messageCount = 0

    /// - Parameters:
    ///   - receiveBufferByteCount: SO_RCVBUF, for a client that is to be slow. 0: the system's.
    ///   - usesWebSocket: opens one, and puts what is sent into its messages.
    init(port: UInt16, receiveBufferByteCount: Int32 = 0, usesWebSocket: Bool = false) throws {
        descriptor = try Self.open(port: port, receiveBufferByteCount: receiveBufferByteCount)
        if usesWebSocket { try openWebSocket(port: port) }
    }

    /// No subprotocol is offered, so that all versions can be tested.
    private func openWebSocket(port: UInt16) throws {
        let handshake = WebSocketHandshake(host: "127.0.0.1:\(port)", path: "/ws", subprotocols: [])
        try sendRaw(handshake.request, until: Deadline())
        webSocket = WebSocketStream(handshake)
        let deadline = Deadline()
        while webSocket?.isOpen == false {
            guard end == nil, try receive(until: deadline) else {
                throw Failure("the broker has not opened a WebSocket", at: Place(#fileID, #line))
            }
        }
    }

    /// - Parameter path: of a Unix socket.
    init(unix path: String) throws { descriptor = try Self.open(unix: path) }

    /// A connected, non-blocking Unix socket.
    private static func open(unix path: String) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure("socket: errno \(errno)", at: Place(#fileID, #line)) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let reason = errno
            Glibc.close(descriptor)
            throw Failure("connect to \(path): \(String(cString: strerror(reason)))", at: Place(#fileID, #line))
        }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        return descriptor
    }

    /// A connected, non-blocking socket.
    static func open(port: UInt16, receiveBufferByteCount: Int32 = 0) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure("socket: errno \(errno)", at: Place(#fileID, #line)) }
        // Bytes that a test sends in pieces are to reach the broker in pieces.
        setOption(descriptor, IPPROTO_TCP, TCP_NODELAY, 1)
        if receiveBufferByteCount > 0 { setOption(descriptor, Int(SOL_SOCKET), SO_RCVBUF, receiveBufferByteCount) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        // On loopback this waits only while the listener's queue is full, which the kernel bounds.
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            let reason = errno
            Glibc.close(descriptor)
            throw Failure("connect to port \(port): \(String(cString: strerror(reason)))", at: Place(#fileID, #line))
        }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        return descriptor
    }

    deinit { close() }

    func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    /// Closes with a reset, as a killed machine or an impatient client does.
    func abort() {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        close()
    }

    /// Ends the sending side: the broker reads to the end and may still send.
    func finishSending() {
        if let webSocket {
            try? sendRaw(webSocket.closing(), until: Deadline())
        } else {
            shutdown(descriptor, Int32(SHUT_WR))
        }
    }

    /// Sends all of `bytes`, and meanwhile takes in what comes: a peer that waits for its reader cannot wait for ever.
    ///
    /// Returns false when the peer closed the connection first.
    @discardableResult
    func send(_ bytes: [UInt8], until deadline: Deadline = Deadline()) throws -> Bool {
        guard webSocket != nil, !bytes.isEmpty else { return try sendRaw(bytes, until: deadline) }
        return try sendRaw(message(bytes), until: deadline)
    }

    /// The bytes as a message of one, two or three fragments, in turn.
    private func message(_ bytes: [UInt8]) -> [UInt8] {
        let count = min(messageCount % 3 + 1, bytes.count)
        messageCount += 1
        let isText = String(validating: bytes, as: UTF8.self) != nil
        var wire: [UInt8] = []
        for place in 0..<count {
            let start = bytes.count * place / count
            let end = bytes.count * (place + 1) / count
            var opcode: UInt8 = 0
            if place == 0 { opcode = isText ? 1 : 2 }
            let key = UInt32.random(in: 0...UInt32.max)
            wire += ClientFrameHeader.frame(
                opcode: opcode, isLast: place == count - 1, Array(bytes[start..<end]), key: key)
        }
        return wire
    }

    @discardableResult
    private func sendRaw(_ bytes: [UInt8], until deadline: Deadline) throws -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 {
                sent += count
            } else if errno == EAGAIN {
                try wait(for: POLLIN | POLLOUT, until: deadline)
                takeIn()
            } else if errno == EPIPE || errno == ECONNRESET {
                return false
            } else if errno != EINTR {
                throw Failure("send: errno \(errno)", at: Place(#fileID, #line))
            }
        }
        return true
    }

    /// Waits for more bytes or the end. Returns false at the deadline.
    func receive(until deadline: Deadline) throws -> Bool {
        guard end == nil else { return true }
        guard try wait(for: POLLIN, until: deadline) else { return false }
        takeIn()
        return true
    }

    func consume(_ count: Int) {
        received = received.dropFirst(count)
        if received.isEmpty { received = [] }
    }

    /// Takes in what has arrived, without waiting.
    private func takeIn() {
        while end == nil {
            let count = recv(descriptor, &chunk, chunk.count, 0)
            if count > 0 {
                take(chunk[..<count])
            } else if count == 0 {
                end = .orderly
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                end = .reset
            }
        }
    }

    private func take(_ bytes: ArraySlice<UInt8>) {
        guard webSocket != nil else {
            received += bytes
            return
        }
        do throws(WebSocketFailure) {
            received += try webSocket!.receive(bytes)
            if let failure = webSocket!.end { throw failure }
        } catch {
            // A close frame is the broker's orderly end. Anything else that ends a WebSocket is a fault.
            if case .closed = error { end = .orderly } else { end = .reset }
        }
        // Short, so the socket takes them.
        let replies = webSocket!.replies
        webSocket!.replies = []
        if !replies.isEmpty { _ = Glibc.send(descriptor, replies, replies.count, Int32(MSG_NOSIGNAL)) }
    }

    /// Returns false at the deadline.
    @discardableResult
    private func wait(for events: Int32, until deadline: Deadline) throws -> Bool {
        // At its end a connection is always readable: waiting for room to send must not spin on that.
        var entry = pollfd(fd: descriptor, events: Int16(end == nil ? events : events & ~POLLIN), revents: 0)
        while true {
            let count = poll(&entry, 1, deadline.millisecondsLeft)
            if count > 0 { return true }
            if count == 0 { return false }
            if errno != EINTR { throw Failure("poll: errno \(errno)", at: Place(#fileID, #line)) }
        }
    }

    private static func setOption(_ descriptor: Int32, _ level: Int, _ name: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, Int32(level), name, &value, socklen_t(MemoryLayout<Int32>.size))
    }
}
