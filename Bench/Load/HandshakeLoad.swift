import Glibc
import IO
import Slabs
import Synchronization
import Transports

/// Threads that open connections of TLS, one after the other, as fast as the server lets them:
///
///     connect, shake hands, say close_notify, wait until the server has closed, reset
///
/// The end that the server says is the proof that it has seen the last message of the handshake.
public final class HandshakeLoad: Sendable {
    public struct Plan: Sendable {
        /// In host order.
        public var address: UInt32 = 0x7F00_0001
        public var port: UInt16
        public var threadCount = 16
        /// Each connection resumes the session that its thread's first one was given a ticket for.
        public var resumes = false
        /// The server speaks HTTP, and not STOMP.
        public var isHTTP = false
        public var tls = Load.TLS()

        public init(port: UInt16) { self.port = port }
    }

    private let plan: Plan
    private let context: TLSContext
    private let doneCount = Atomic<Int>(0)
    private let readyCount = Atomic<Int>(0)
    private let isStopping = Atomic<Bool>(false)
    private let failureText = Guarded<String?>(nil)
    private let cipherText = Guarded<String?>(nil)
    private let threads = Guarded<[pthread_t]>([])

    public init(_ plan: Plan) throws {
        self.plan = plan
        context = try TLSClients.context(plan.tls, usesWebSocket: plan.isHTTP)
    }

    deinit { precondition(threads.withLock { $0.isEmpty }, "a load of handshakes is stopped before it goes") }

    /// Handshakes that are done.
    public var count: Int { doneCount.load(ordering: .acquiring) }
    /// All threads have what they need, and shake hands.
    public var isReady: Bool { readyCount.load(ordering: .acquiring) == plan.threadCount }
    /// The first failure. A thread ends with its first.
    public var failure: String? { failureText.withLock { $0 } }
    /// "TLSv1.3 TLS_AES_128_GCM_SHA256". nil: there was no handshake yet.
    public var cipher: String? { cipherText.withLock { $0 } }

    public func start() {
        for _ in 0..<plan.threadCount {
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<HandshakeLoad>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            invariant(result == 0, "a load thread can be started")
            threads.withLock { $0.append(thread) }
        }
    }

    /// Ends all threads, each after its connection.
    public func stop() {
        isStopping.store(true, ordering: .releasing)
        let running = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in running { pthread_join(thread, nil) }
    }

    private func run() {
        do throws(HandshakeFailure) {
            var session: [UInt8] = []
            if plan.resumes {
                let client = try HandshakeClient(plan, context, session: [])
                session = try client.awaitSession()
                client.end()
            }
            readyCount.add(1, ordering: .releasing)
            while !isStopping.load(ordering: .acquiring) {
                let client = try HandshakeClient(plan, context, session: session)
                try client.shakeHands()
                if plan.resumes, !client.isResumed {
                    throw HandshakeFailure(description: "the server does not resume sessions")
                }
                cipherText.withLock { $0 = $0 ?? client.cipher }
                try client.awaitEnd()
                client.end()
                doneCount.add(1, ordering: .releasing)
            }
        } catch {
            failureText.withLock { $0 = $0 ?? error.description }
        }
    }
}

struct HandshakeFailure: Error, CustomStringConvertible {
    let description: String

    init(description: String) { self.description = description }

    /// A system call has failed.
    init(_ call: String) { description = "\(call): \(String(cString: strerror(errno)))" }
}

/// One connection of a `HandshakeLoad`, on a blocking socket.
final class HandshakeClient {
    private let plan: HandshakeLoad.Plan
    private let fd: Int32
    private let wire: TLSWire
    private var engine: TLSEngine
    private let plaintext = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
    private let ciphertext = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
    private var hasEnded = false
    private static let patienceSeconds = 10
    private static let serverName = "localhost"

    /// - Parameter session: to be resumed. Empty: none.
    init(_ plan: HandshakeLoad.Plan, _ context: TLSContext, session: [UInt8]) throws(HandshakeFailure) {
        guard let wire = TLSWire(),
            let engine = TLSEngine(connecting: context, serverName: Self.serverName, isAddress: false, wire: wire)
        else { throw HandshakeFailure(description: "no memory for a connection of TLS") }
        self.plan = plan
        self.wire = wire
        self.engine = engine
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw HandshakeFailure("socket") }
        guard session.isEmpty || engine.resume(session) else {
            throw HandshakeFailure(description: "OpenSSL refuses the session that is to be resumed")
        }
        var patience = timeval(tv_sec: Self.patienceSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = plan.port.bigEndian
        address.sin_addr.s_addr = plan.address.bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw HandshakeFailure("connect") }
    }

    deinit {
        end()
        engine.free(wire: wire)
        plaintext.deallocate()
        ciphertext.deallocate()
        output.deallocate()
    }

    var isResumed: Bool { engine.isResumed(wire: wire) }

    var cipher: String {
        let identity = engine.identity
        return "\(identity.version) \(identity.cipher)"
    }

    /// Until the handshake is done, and the last message of it is sent with close_notify behind it.
    func shakeHands() throws(HandshakeFailure) { try shakeHands(andClose: true) }

    private func shakeHands(andClose: Bool) throws(HandshakeFailure) {
        var input = UnsafeRawBufferPointer(start: nil, count: 0)
        while true {
            var made = TLSOutput(base: output.baseAddress!, capacity: output.count)
            let result = engine.read(&input, into: plaintext, output: &made, wire: wire)
            let isDone = engine.isEstablished
            if isDone, andClose { engine.close(output: &made, wire: wire) }
            try send(made)
            if isDone { return }
            guard result.outcome == .needsInput else {
                throw HandshakeFailure(description: "TLS: \(result.outcome) in the handshake: \(result.failure)")
            }
            input = try receive()
            if input.isEmpty { throw HandshakeFailure(description: "the server ended a handshake") }
        }
    }

    /// Shakes hands and talks a little, until the server has sent a ticket.
    func awaitSession() throws(HandshakeFailure) -> [UInt8] {
        try shakeHands(andClose: false)
        let request: StaticString =
            plan.isHTTP
            ? "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" : "CONNECT\naccept-version:1.2\nhost:localhost\n\n\0"
        var made = TLSOutput(base: output.baseAddress!, capacity: output.count)
        let bytes = UnsafeRawBufferPointer(start: request.utf8Start, count: request.utf8CodeUnitCount)
        guard engine.write(bytes, output: &made, wire: wire) == bytes.count else {
            throw HandshakeFailure(description: "TLS does not take a request")
        }
        try send(made)
        while true {
            var input = try receive()
            if input.isEmpty { throw HandshakeFailure(description: "the server ended a connection") }
            var answer = TLSOutput(base: output.baseAddress!, capacity: output.count)
            let result = engine.read(&input, into: plaintext, output: &answer, wire: wire)
            try send(answer)
            let session = engine.session()
            if result.plaintextByteCount > 0 {
                if session.isEmpty { throw HandshakeFailure(description: "the server sends no tickets") }
                return session
            }
            guard result.outcome == .needsInput else {
                throw HandshakeFailure(description: "TLS: \(result.outcome) before an answer: \(result.failure)")
            }
        }
    }

    /// Waits until the server has closed. A reset will do.
    func awaitEnd() throws(HandshakeFailure) {
        while true {
            let count = recv(fd, ciphertext.baseAddress!, ciphertext.count, 0)
            if count == 0 || (count < 0 && errno == ECONNRESET) { return }
            if count < 0, errno != EINTR { throw HandshakeFailure("recv, for the server's end") }
        }
    }

    /// Resets the connection, so that no port stays in TIME_WAIT.
    func end() {
        guard !hasEnded else { return }
        hasEnded = true
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        close(fd)
    }

    private func send(_ made: TLSOutput) throws(HandshakeFailure) {
        var sent = 0
        while sent < made.count {
            let count = Glibc.send(fd, made.base + sent, made.count - sent, Int32(MSG_NOSIGNAL))
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw HandshakeFailure("send") }
            sent += count
        }
    }

    private func receive() throws(HandshakeFailure) -> UnsafeRawBufferPointer {
        while true {
            let count = recv(fd, ciphertext.baseAddress!, ciphertext.count, 0)
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw HandshakeFailure("recv") }
            return UnsafeRawBufferPointer(rebasing: ciphertext[..<count])
        }
    }
}
