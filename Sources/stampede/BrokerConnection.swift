import Glibc
import STOMP

/// A client's connection to a broker. It sends and receives frames and heart-beats.
///
/// One poll(2) waits for the broker, for standard input or output, for a signal and for the time of the next
/// heart-beat. So a command whose output is blocked still sends heart-beats.
struct BrokerConnection: ~Copyable {
    /// The heart-beat interval that the commands offer and ask for, in milliseconds.
    private static let heartBeatMilliseconds = 10_000
    /// The connection is considered dead after this many intervals without a byte from the broker.
    private static let heartBeatTolerance = 3
    private static let handshakeMillisecondsMax = 10_000

    private var channel: ClientChannel
    private var decoder = ClientFrameDecoder(
        limits: FrameLimits(
            headerCountMax: 4096, headerByteCountMax: 65_535, headersByteCountMax: 8 << 20, bodyByteCountMax: 1 << 30))

    /// The interval in milliseconds. 0: no heart-beats in this direction.
    private var sendInterval = 0
    private var receiveInterval = 0
    private var lastSent = BrokerConnection.now()
    private var lastReceived = BrokerConnection.now()

    /// CONNECTED has come.
    private var isConnected = false
    /// What came first, for the case that it is another protocol.
    private var firstBytes: [UInt8] = []
    private let scheme: String

    /// The version that was agreed on.
    var version: Version { decoder.version }

    /// The number of bytes that wait to be sent.
    var outgoingByteCount: Int { channel.outgoingByteCount }

    private init(_ channel: consuming ClientChannel, scheme: String) {
        self.channel = channel
        self.scheme = scheme
    }

    /// Connects, opens the transport, and waits for CONNECTED.
    static func open(_ options: ClientOptions) throws -> BrokerConnection {
        let broker = try options.broker
        let credentials = try options.credentials(for: broker)
        var connection = try BrokerConnection(
            ClientChannel(try broker.connect(), to: broker, try options.tlsContext(for: broker)),
            scheme: broker.scheme)
        let deadline = now() + handshakeMillisecondsMax
        try connection.openTransport(broker, until: deadline)
        try connection.shakeHands(
            host: options.virtualHost ?? broker.virtualHost, credentials: credentials, until: deadline)
        return connection
    }

    private mutating func openTransport(_ broker: BrokerURL, until deadline: Int) throws {
        while !channel.isOpen {
            guard !channel.isEnded else {
                throw Failure.operation("the broker closed the connection during the handshake of the transport")
            }
            try waitForHandshake("the handshake of the transport", until: deadline)
        }
    }

    private mutating func waitForHandshake(_ step: String, until deadline: Int) throws {
        try wait(until: deadline)
        guard Self.now() < deadline else {
            throw Failure.operation("the broker did not answer \(step) within \(Self.handshakeMillisecondsMax) ms")
        }
        guard !Interruption.isRequested else { throw Failure.operation("interrupted while connecting") }
    }

    private mutating func shakeHands(
        host: String, credentials: [(String, String)], until deadline: Int
    ) throws {
        let interval = Self.heartBeatMilliseconds
        var headers = [
            ("accept-version", "1.0,1.1,1.2"), ("host", host), ("heart-beat", "\(interval),\(interval)"),
        ]
        headers += credentials
        send(ClientFrame(.connect, headers))
        while true {
            if let connected = try popFrame() {
                guard connected.command == .connected else {
                    throw Failure.operation("the broker answered CONNECT with \(connected.command.text)")
                }
                agreeOnHeartBeats(connected["heart-beat"] ?? "0,0")
                isConnected = true
                return
            }
            try waitForHandshake("CONNECT", until: deadline)
        }
    }

    /// STOMP 1.1 and 1.2, section Heart-beating: in each direction the longer of the two intervals applies.
    private mutating func agreeOnHeartBeats(_ text: String) {
        guard let (offered, wanted) = Array(text.utf8).withUnsafeBytes(HeartBeat.parse) else { return }
        sendInterval = wanted == 0 ? 0 : max(Self.heartBeatMilliseconds, Int(wanted))
        receiveInterval = offered == 0 ? 0 : max(Self.heartBeatMilliseconds, Int(offered))
    }

    // MARK: Frames

    /// Queues a frame. `wait` sends it.
    mutating func send(_ frame: ClientFrame) {
        channel.send(frame.encoded(decoder.version))
    }

    /// The next frame that has arrived. nil: none. Throws at an ERROR or the end of the stream, which end the command.
    mutating func popFrame() throws -> ClientFrame? {
        do {
            guard let frame = try decoder.pop() else {
                if channel.isEnded {
                    let reason = channel.closeReason.map { " (\($0))" } ?? ""
                    throw Failure.operation("the broker closed the connection\(reason)\(schemeHint)")
                }
                return nil
            }
            guard frame.command == .error else { return frame }
            let parts = [frame["message"] ?? "", frame.text.prefix { $0 != "\0" }.description]
            let reason = parts.filter { !$0.isEmpty }.joined(separator: ": ")
            let hint = parts[1].hasPrefix("the header host is") ? "; --virtual-host names another" : ""
            var failure = Failure.operation(
                "the broker refused: \(reason.isEmpty ? "it gave no reason" : reason)\(hint)")
            failure.receiptID = frame["receipt-id"]
            throw failure
        } catch let error as FrameError {
            throw Failure.operation(
                "the broker sent something that is not a STOMP frame: \(error.message)\(schemeHint)")
        }
    }

    /// What the URL should have said, as far as what came before CONNECTED tells.
    private var schemeHint: String {
        guard !isConnected, scheme.hasPrefix("stomp") else { return "" }
        if firstBytes.starts(with: "HTTP/".utf8) {
            let other = scheme == "stomp" ? "ws" : "wss"
            return "; it answered with HTTP, so clients of this port use WebSocket: --url \(other)://HOST:PORT"
        }
        guard scheme == "stomp" else { return "" }
        // RFC 8446, section 5.1: an alert.
        if firstBytes.starts(with: [21, 3]) { return "; it answered with TLS: --url stomps://HOST:PORT" }
        guard firstBytes.isEmpty else { return "" }
        return " before it answered; if clients of this port use TLS: --url stomps://HOST:PORT"
    }

    /// Sends a DISCONNECT with a receipt and waits for the receipt, which confirms all earlier frames. Other frames
    /// that arrive are dropped; the broker delivers unacknowledged messages again.
    ///
    /// - Parameter onFrame: called for every frame that comes before the receipt.
    mutating func disconnect(millisecondsMax: Int = 10_000, onFrame: (ClientFrame) -> Void = { _ in }) throws {
        send(ClientFrame(.disconnect, [("receipt", "bye")]))
        let deadline = Self.now() + millisecondsMax
        while true {
            while let frame = try popFrame() {
                if frame.command == .receipt && frame["receipt-id"] == "bye" { return channel.end() }
                onFrame(frame)
            }
            guard Self.now() < deadline else {
                throw Failure.operation("the broker did not confirm DISCONNECT within \(millisecondsMax) ms")
            }
            try wait(until: deadline)
        }
    }

    // MARK: Waiting

    /// Sends, receives and sends heart-beats. Returns when bytes arrived or were sent, `other` is ready, a signal came,
    /// or `deadline` passed.
    ///
    /// - Parameters:
    ///   - other: a descriptor and the events that the caller waits for.
    ///   - receives: false: bytes of the broker stay in the socket (back pressure).
    /// - Returns: whether `other` is ready, has ended or has failed.
    @discardableResult
    mutating func wait(
        for other: (fd: Int32, events: Int32)? = nil, receives: Bool = true, until deadline: Int = .max
    ) throws -> Bool {
        var entries = [
            pollfd(fd: Interruption.isRequested ? -1 : Interruption.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: channel.fd, events: 0, revents: 0),
        ]
        if receives { entries[1].events |= Int16(POLLIN) }
        if outgoingByteCount > 0 { entries[1].events |= Int16(POLLOUT) }
        // poll(2) reports a hang-up even without events. A socket that is not used at the moment is left out, or the
        // loop would spin.
        if entries[1].events == 0 { entries[1].fd = -1 }
        if let other { entries.append(pollfd(fd: other.fd, events: Int16(other.events), revents: 0)) }
        let count = poll(&entries, nfds_t(entries.count), timeout(deadline, receives: receives))
        guard count >= 0 || errno == EINTR else {
            throw Failure.operation("poll: \(String(cString: strerror(errno)))")
        }
        if count > 0 {
            if entries[0].revents != 0 { Interruption.take() }
            if entries[1].revents & Int16(POLLIN | POLLHUP | POLLERR) != 0 && receives { try receive() }
            if entries[1].revents & Int16(POLLOUT | POLLERR) != 0 { try flush() }
        }
        try beat(receives: receives)
        return count > 0 && entries.count > 2 && entries[2].revents != 0
    }

    /// Milliseconds until `deadline`, the next heart-beat or the time-out of the broker, whichever is first. -1: no
    /// limit.
    private func timeout(_ deadline: Int, receives: Bool) -> Int32 {
        var next = deadline
        if sendInterval > 0 { next = min(next, lastSent + sendInterval / 2) }
        if receiveInterval > 0 && receives {
            next = min(next, lastReceived + receiveInterval * Self.heartBeatTolerance)
        }
        guard next < .max else { return -1 }
        return Int32(clamping: max(0, next - Self.now()))
    }

    private mutating func beat(receives: Bool) throws {
        let now = Self.now()
        if sendInterval > 0 && now >= lastSent + sendInterval / 2 && outgoingByteCount == 0 {
            channel.send([UInt8(ascii: "\n")])
            try flush()
        }
        // Unread bytes in the socket may be a heart-beat, so the time-out only applies while the command receives.
        if !receives { lastReceived = now }
        if receiveInterval > 0 && now >= lastReceived + receiveInterval * Self.heartBeatTolerance {
            throw Failure.operation("the broker has been silent for \(now - lastReceived) ms; it promised a heart-beat")
        }
    }

    private mutating func receive() throws {
        let bytes = try channel.receive()
        guard !bytes.isEmpty else { return }
        lastReceived = Self.now()
        if firstBytes.count < 5 { firstBytes += bytes.prefix(5) }
        decoder.push(bytes[...])
    }

    private mutating func flush() throws {
        if try channel.flush() {
            lastSent = Self.now()
        } else if outgoingByteCount == 0 {
            // The broker takes no more bytes; its last frames may say why.
            try receive()
        }
    }

    /// Milliseconds of the monotonic clock.
    static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}
