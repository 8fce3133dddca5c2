import ClientWebSocket
import Transports

/// What carries a simulated client's connection, at the client's end:
///
///     STOMP  ->  WebSocket  ->  cipher  ->  behind a PROXY header  ->  socket
///
/// Octets of the server are decoded when the kernel has them. The client answers them when it has read them.
final class ClientTransport {
    /// What the client does wrong before STOMP begins.
    enum Wrong { case nothing, stranger, header, request, proof }

    let listener: ListenerTransport
    /// Of STOMP, as the subprotocol may demand.
    let version: Int
    let wrong: Wrong
    /// The client says nothing more when its first flight is written.
    let stalls: Bool
    let isEager: Bool
    /// What the PROXY header says. 0: nothing.
    let namedAddress: UInt64
    private let header: [UInt8]
    private(set) var cipher: ToyClient?
    private(set) var socket: SocketClient?

    /// The core knows the address that the header names.
    var isNamed = false
    /// The core may refuse the client, or has to: there are too many of its address.
    var mayExceed = false
    var mustExceed = false
    /// The client says that it has ended, and waits for the server's end.
    private(set) var hasSaidEnd = false
    /// The code that the server may, or has to, answer with.
    private(set) var expectedCode: Int?
    var hasJudgedCode = false
    var lastSendFellShort = false

    /// STOMP that waits for the handshakes.
    private var held: [UInt8] = []
    private var requestIsWritten = false
    /// Positions in what was received that the client has to have read first.
    private var cipherEnd = Int.max
    private var socketEnd = Int.max
    private var closeEnd = Int.max
    private var replies: [(end: Int, octets: [UInt8])] = []
    private var cipherIsReady = false
    private var socketIsReady = false

    init(
        _ listener: ListenerTransport, peer id: Int, address: UInt64, wrong: Wrong, stalls: Bool, _ random: inout Random
    ) {
        self.listener = listener
        self.wrong = wrong
        self.stalls = stalls
        version = random.pick([10, 11, 12, 12])
        isEager = random.chance(200)
        var named = ProxyText(header: [], address: 0)
        if listener.expectsProxyHeader {
            named = wrong == .header ? .wrong(&random) : ProxyText(address, &random)
        }
        (header, namedAddress) = (named.header, named.address)
        if listener.kind.usesTLS {
            cipher = ToyClient(id: id, number: random.next(), lies: wrong == .proof)
        }
        guard listener.kind.usesWebSocket else { return }
        let lower = (10..<version).reversed().map { "v\($0).stomp" }
        let offers = random.pick([[], ["v\(version).stomp"], ["mqtt", "v\(version).stomp"] + lower])
        var headers: [(String, String)] = []
        if random.chance(300) { headers.append(("Origin", "http://" + TransportScenario.host)) }
        if wrong == .request {
            let wrong = [("Origin", "http://stranger.example"), ("no name", "x"), ("Upgrade", "a\u{1}")]
            headers.append(random.pick(wrong))
        }
        let handshake = WebSocketHandshake(
            host: TransportScenario.host, path: random.pick(listener.paths), subprotocols: offers, headers: headers,
            key: ToyRecord.octets(random.next()) + ToyRecord.octets(random.next()))
        socket = SocketClient(
            handshake, chosen: offers.isEmpty ? nil : "v\(version).stomp",
            messageByteCountMax: min(listener.messageByteCountMax, 1 << 20))
    }

    /// Nothing of STOMP may get through.
    var mustFail: Bool { wrong != .nothing || mustExceed }
    /// The client writes nothing more.
    var hasEnded: Bool { hasSaidEnd || socket?.hasClosed == true }
    var isWithinRecord: Bool { cipher?.isWithinRecord == true }
    var failure: String? { cipher?.failure ?? socket?.failure }

    // MARK: Writing

    /// What the client writes first.
    func begin(_ random: inout Random) -> [UInt8] {
        if cipher != nil { return header + cipher!.hello(&random) }
        guard socket != nil else { return header }
        requestIsWritten = true
        return header + socket!.request
    }

    /// What the client writes goes out.
    var isReady: Bool {
        if cipher != nil, !cipherIsReady { return false }
        return socket == nil || socketIsReady || isEager && requestIsWritten
    }

    func write(_ stomp: [UInt8], _ random: inout Random) -> [UInt8] {
        if hasEnded || stalls { return [] }
        guard isReady else {
            held += stomp
            return []
        }
        return encoded(stomp, &random)
    }

    private func encoded(_ stomp: [UInt8], _ random: inout Random) -> [UInt8] {
        if stomp.isEmpty { return [] }
        return sealed(socket != nil ? socket!.messages(stomp, &random) : stomp, &random)
    }

    private func sealed(_ octets: [UInt8], _ random: inout Random) -> [UInt8] {
        guard cipher != nil else { return octets }
        return cipher!.canWrite ? cipher!.seal(octets, &random) : []
    }

    func ping(_ random: inout Random) -> [UInt8] {
        guard socket != nil, isReady, !hasEnded, !stalls else { return [] }
        return sealed(socket!.ping(&random), &random)
    }

    /// Frames that break the rules of WebSocket, or octets that break those of the cipher. Empty: there are none.
    func garbage(_ random: inout Random) -> [UInt8] {
        guard isReady, !hasEnded, !stalls, socket != nil || cipher != nil else { return [] }
        hasSaidEnd = true
        guard socket != nil, cipher == nil || random.chance(700) else {
            return [ToyRecord.Kind.data, 3, 3, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        }
        let (octets, code) = socket!.garbage(&random)
        expectedCode = code
        return sealed(octets, &random)
    }

    /// The client says that it has ended. Empty: it has no way to, or has done so.
    func sayEnd(_ random: inout Random) -> (octets: [UInt8], event: TransportEvent)? {
        guard !hasEnded, !stalls, isReady else { return nil }
        if socket != nil {
            hasSaidEnd = true
            let (octets, code) = socket!.close(&random)
            expectedCode = code
            return (sealed(octets, &random), .closeFrame)
        }
        guard cipher?.canWrite == true else { return nil }
        hasSaidEnd = true
        return (cipher!.close(), .closeNotify)
    }

    // MARK: Reading

    /// The kernel has these octets for the client. Returns the STOMP in them.
    ///
    /// - Parameter end: the count of octets that it has had so far.
    func receive(_ bytes: UnsafeRawBufferPointer, end: Int, isMute: Bool) -> [UInt8] {
        var octets = Array(bytes)
        if cipher != nil {
            octets = cipher!.receive(bytes)
            if !cipher!.replies.isEmpty {
                replies.append((end, cipher!.replies))
                cipher!.replies = []
            }
            if cipherEnd == .max, cipher!.stage == .open || cipher!.stage == .ended { cipherEnd = end }
        }
        guard socket != nil else { return octets }
        let payload = socket!.receive(octets, isMute: isMute)
        if socketEnd == .max, socket!.isOpen { socketEnd = end }
        if closeEnd == .max, socket!.closeCode != nil { closeEnd = end }
        return payload
    }

    /// The client has read so far. Returns what it writes now.
    func didRead(_ position: Int, _ random: inout Random) -> [UInt8] {
        if stalls { return [] }
        var out: [UInt8] = []
        while let first = replies.first, first.end <= position {
            out += first.octets
            replies.removeFirst()
        }
        if !cipherIsReady, cipherEnd <= position {
            cipherIsReady = true
            if socket != nil {
                requestIsWritten = true
                out += sealed(socket!.request, &random)
            }
        }
        if !socketIsReady, socketEnd <= position { socketIsReady = true }
        if isReady, !held.isEmpty, !hasEnded {
            out += encoded(held, &random)
            held = []
        }
        if closeEnd <= position, socket?.hasClosed == false { out += sealed(socket!.answerClose(&random), &random) }
        return out
    }

    // MARK: What has to be true

    /// What is wrong when the server's end of the stream is there. nil: nothing.
    var faultAtEnd: String? {
        if let socket, socket.isOpen, socket.closeCode == nil { return "the stream ends without a close frame" }
        if let cipher, cipher.stage == .open { return "the stream ends without close_notify" }
        return nil
    }

    /// What is wrong with the code of the server's close frame. nil: nothing, or it was judged before.
    func faultOfCode(isDraining: Bool) -> String? {
        guard !hasJudgedCode, let code = socket?.closeCode else { return nil }
        hasJudgedCode = true
        if code == 1000 || code == expectedCode || isDraining && code == 1001 { return nil }
        return "a close frame with \(code), and not \(expectedCode ?? 1000)"
    }
}
