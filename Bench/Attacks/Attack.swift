/// A kind of bad client. `Script` describes what it sends.
///
/// Most attacks would also work with a valid login: they test limits that apply to all clients.
public enum Attack: String, CaseIterable, Sendable {
    case trickle
    case silence
    case headerFlood = "header-flood"
    case endlessHeaders = "endless-headers"
    case endlessBodies = "endless-bodies"
    case heldBodies = "held-bodies"
    case hugeLengths = "huge-lengths"
    case subscriptions
    case patterns
    case longIdentifiers = "long-identifiers"
    case transactions
    case sleepers
    case silentReceivers = "receipts-unread"
    case fullQueue = "full-queue"
    case manyQueues = "many-queues"
    case destinations
    case hoarders
    case logFlood = "log-flood"
    case handshakes = "tls-handshakes"
    case halfHandshakes = "tls-half-handshakes"
    case tinyRecords = "tls-tiny-records"
    case requests = "http-requests"
    case slowRequests = "http-slow-requests"
    case origins = "ws-origins"
    case pings = "ws-pings"
    case unmasked = "ws-unmasked"
    case fragments = "ws-fragments"
    case frameLengths = "ws-lengths"
    case compression = "ws-compression"
    case inflation = "ws-inflation"
    case halfMessages = "ws-half-messages"
    case forgedProxies = "proxy-strangers"
    case brokenProxies = "proxy-headers"
    case wrongLogins = "wrong-logins"
    case badTokens = "bad-tokens"

    public var summary: String {
        switch self {
        case .trickle: "one byte a second: half of them inside CONNECT, half inside a SEND"
        case .silence: "connect, and never send CONNECT"
        case .headerFlood: "SENDs full of headers at full speed, some with more headers than allowed"
        case .endlessHeaders: "a header, or a list of headers, without end"
        case .endlessBodies: "a body without end"
        case .heldBodies: "almost all of a body of the largest size, and then one byte a second"
        case .hugeLengths: "a content-length that is impossible, or whose body never comes"
        case .subscriptions: "SUBSCRIBEs without end, each to another topic"
        case .patterns: "SUBSCRIBEs without end, each to another pattern"
        case .longIdentifiers: "SUBSCRIBEs without end whose ids are as long as a header may be"
        case .transactions: "BEGINs without end, or SENDs without end in one transaction"
        case .sleepers: "subscribers that never read, and publishers at full speed"
        case .silentReceivers: "frames that ask for receipts, which are never read"
        case .fullQueue: "publishers at full speed into a queue that nobody drains"
        case .manyQueues: "as full-queue, with a queue for each publisher"
        case .destinations: "one small message to each of very many queues"
        case .hoarders: "consumers with the largest window that acknowledge nothing"
        case .logFlood: "connect, send control characters in place of a command, and repeat"
        case .handshakes: "a TLS hello, which the broker has to answer with a signature, then rubbish, and repeat"
        case .halfHandshakes: "a TLS hello, or a part of it, and then nothing or one byte a second"
        case .tinyRecords: "a TLS hello that is too long, in records of one byte each"
        case .requests: "HTTP requests with a header, or a list of headers, without end"
        case .slowRequests: "the request for a WebSocket, one byte a second"
        case .origins: "a browser on a stranger's page, which asks for a WebSocket again and again"
        case .pings: "pings of WebSocket at full speed; half of the clients do not read the pongs"
        case .unmasked: "WebSocket frames that are not masked, or have unknown opcodes, and repeat"
        case .fragments: "a WebSocket message whose fragments never end, of no bytes or one, before and after CONNECT"
        case .frameLengths: "WebSocket frames with lengths up to 2^64-1 whose bytes never come"
        case .compression: "WebSockets that send compressed messages though nothing was agreed on"
        case .inflation: "WebSocket messages that inflate 158 times, without end: line feeds, and the body of a SEND"
        case .halfMessages: "WebSockets that send the beginning of a compressed message, and nothing more"
        case .forgedProxies: "PROXY headers with ever new addresses, from who is no proxy"
        case .brokenProxies: "PROXY headers, of both versions, that are malformed, too long or never end"
        case .wrongLogins: "CONNECTs with wrong passcodes, for users that exist and others, and repeat"
        case .badTokens: "JSON Web Tokens: unsigned, expired, for another audience, of another's key, and repeat"
        }
    }
}

/// The bytes that the connections of an attack send.
struct Script: Sendable {
    /// Sent at once.
    var opening: @Sendable (_ connection: Int) -> [UInt8] = { _ in [] }
    /// Then sent repeatedly. Empty: nothing more is sent.
    var piece: @Sendable (_ connection: Int, _ number: Int) -> [UInt8] = { _, _ in [] }
    /// The rate of a connection. nil: as fast as the broker reads.
    var bytesPerSecond: Int?
    /// Whether the client reads what the broker sends.
    var reads: @Sendable (_ connection: Int) -> Bool = { _ in true }

    static let connect = bytes("CONNECT\naccept-version:1.2\nhost:attack\n\n\0")
    /// The bytes of one write at full speed.
    private static let pieceByteCount = 32 << 10

    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private static func send(to destination: String, byteCount: Int, _ headers: String = "") -> [UInt8] {
        bytes("SEND\ndestination:\(destination)\n\(headers)\n") + [UInt8](repeating: 0x78, count: byteCount) + [0]
    }

    /// Repeats the frame to fill one write.
    private static func repeated(_ frame: [UInt8]) -> [UInt8] {
        Array(repeatElement(frame, count: max(1, pieceByteCount / frame.count)).joined())
    }

    /// At full speed, all pieces equal.
    private static func flood(_ piece: [UInt8], opening: [UInt8] = connect) -> Script {
        var script = Script()
        script.opening = { _ in opening }
        script.piece = { _, _ in piece }
        return script
    }

    /// At full speed, with frames made from an increasing number.
    private static func numbered(_ frame: @escaping @Sendable (_ connection: Int, _ number: Int) -> String) -> Script {
        var script = Script()
        script.opening = { _ in connect }
        let framesPerPiece = 50
        script.piece = { connection, number in
            bytes((0..<framesPerPiece).map { frame(connection, number * framesPerPiece + $0) }.joined())
        }
        return script
    }

    init() {}

    /// Subscribes and reads the messages.
    init(keeping topics: [String]) {
        let frames = topics.enumerated().map { "SUBSCRIBE\nid:\($0)\ndestination:\($1)\n\n\0" }.joined()
        opening = { _ in Self.connect + Self.bytes(frames) }
    }

    init(_ attack: Attack) {
        switch attack {
        case .trickle: self = Self.trickle
        case .silence: self = Script()
        case .headerFlood: self = Self.headerFlood
        case .endlessHeaders: self = Self.endlessHeaders
        case .endlessBodies:
            self = Self.flood(
                [UInt8](repeating: 0x78, count: Self.pieceByteCount),
                opening: Self.connect + Self.bytes("SEND\ndestination:/topic/attack\n\n"))
        case .heldBodies: self = Self.heldBodies
        case .hugeLengths: self = Self.hugeLengths
        case .subscriptions:
            self = Self.numbered { "SUBSCRIBE\nid:\($1)\ndestination:/topic/attack.\($0).\($1)\n\n\0" }
        case .patterns:
            self = Self.numbered { "SUBSCRIBE\nid:\($1)\ndestination:/topic/attack.\($0).\($1).#\n\n\0" }
        case .longIdentifiers:
            let padding = String(repeating: "i", count: 7000)
            self = Self.numbered { "SUBSCRIBE\nid:\($1)-\(padding)\ndestination:/topic/attack.\($0)\n\n\0" }
        case .transactions: self = Self.transactions
        case .sleepers: self = Self.sleepers
        case .silentReceivers:
            self = Self.flood(
                Self.repeated(
                    Self.send(
                        to: "/topic/attack", byteCount: 1,
                        "receipt:\(String(repeating: "r", count: 4000))\n")))
            reads = { _ in false }
        case .fullQueue: self = Self.flood(Self.repeated(Self.send(to: "/queue/attack", byteCount: 1000)))
        case .manyQueues:
            opening = { _ in Self.connect }
            piece = { connection, _ in
                Self.send(to: "/queue/attack.\(connection)", byteCount: Self.pieceByteCount)
            }
        case .destinations: self = Self.numbered { "SEND\ndestination:/queue/attack.\($0).\($1)\n\nx\0" }
        case .hoarders: self = Self.hoarders
        case .logFlood: self = Self.flood(Self.bytes("\u{1B}[2J\u{7}\r\nDROP TABLE\n\n\0"), opening: [])
        case .handshakes, .halfHandshakes, .tinyRecords: self = Script(ofTLS: attack)
        case .requests, .slowRequests, .origins, .pings, .unmasked, .fragments, .frameLengths, .compression:
            self = Script(ofWebSocket: attack)
        case .inflation, .halfMessages: self = Script(ofCompression: attack)
        case .forgedProxies, .brokenProxies: self = Script(ofProxies: attack)
        case .wrongLogins, .badTokens: self = Script(ofLogins: attack)
        }
    }

    private static var trickle: Script {
        var script = Script()
        script.opening = { $0.isMultiple(of: 2) ? [] : connect }
        let connecting = bytes("CONNECT\naccept-version:1.2\nhost:")
        let sending = bytes("SEND\ndestination:/topic/attack\n\n")
        script.piece = { connection, number in
            let text = connection.isMultiple(of: 2) ? connecting : sending
            return [number < text.count ? text[number] : 0x78]
        }
        script.bytesPerSecond = 1
        return script
    }

    private static var headerFlood: Script {
        func frame(_ headerCount: Int) -> [UInt8] {
            let headers = (0..<headerCount).map { "header-\($0):\(String(repeating: "v", count: 100))\n" }.joined()
            return send(to: "/topic/attack", byteCount: 1, headers)
        }
        let legal = repeated(frame(60))
        let illegal = frame(200)
        let illegalEvery = 20
        var script = Script()
        script.opening = { _ in connect }
        script.piece = { _, number in number % illegalEvery == illegalEvery - 1 ? illegal : legal }
        return script
    }

    private static var endlessHeaders: Script {
        let start = connect + bytes("SEND\ndestination:/topic/attack\n")
        let value = [UInt8](repeating: 0x76, count: 1000)
        var script = Script()
        script.opening = { $0.isMultiple(of: 2) ? start + bytes("endless:") : start }
        script.piece = { connection, number in
            connection.isMultiple(of: 2) ? value : bytes("header-\(number):") + value + bytes("\n")
        }
        return script
    }

    private static var heldBodies: Script {
        let byteCount = 1 << 20
        var script = Script()
        let opening =
            connect + bytes("SEND\ndestination:/topic/attack\ncontent-length:\(byteCount)\n\n")
            + [UInt8](repeating: 0x78, count: byteCount - 4096)
        script.opening = { _ in opening }
        script.piece = { _, number in number < 4000 ? [0x78] : [] }
        script.bytesPerSecond = 1
        return script
    }

    private static var hugeLengths: Script {
        let lengths = ["1048576", "1048577", "4294967297", "18446744073709551615", "99999999999999999999999", "-1"]
        var script = Script()
        script.opening = { connection in
            connect
                + bytes("SEND\ndestination:/topic/attack\ncontent-length:\(lengths[connection % lengths.count])\n\n")
        }
        return script
    }

    private static var transactions: Script {
        let sending = repeated(send(to: "/queue/attack", byteCount: 8000, "transaction:0\n"))
        var script = Script()
        script.opening = { $0.isMultiple(of: 2) ? connect : connect + bytes("BEGIN\ntransaction:0\n\n\0") }
        script.piece = { connection, number in
            connection.isMultiple(of: 2) ? bytes("BEGIN\ntransaction:\(number)\n\n\0") : sending
        }
        return script
    }

    /// Of four clients, three read nothing and the fourth publishes.
    private static var sleepers: Script {
        let subscribing = connect + bytes("SUBSCRIBE\nid:1\ndestination:/topic/attack.sleepers\n\n\0")
        let publishing = repeated(send(to: "/topic/attack.sleepers", byteCount: 1000))
        var script = Script()
        script.opening = { $0.isMultiple(of: 4) ? connect : subscribing }
        script.piece = { connection, _ in connection.isMultiple(of: 4) ? publishing : [] }
        script.reads = { $0.isMultiple(of: 4) }
        return script
    }

    /// Of four clients, three never acknowledge and the fourth publishes.
    private static var hoarders: Script {
        let subscribing =
            connect
            + bytes(
                "SUBSCRIBE\nid:1\ndestination:/queue/attack.hoard\nack:client-individual\n"
                    + "prefetch-count:1000000000\nconsumer-window-size:9000000000\n\n\0")
        let publishing = repeated(send(to: "/queue/attack.hoard", byteCount: 1000))
        var script = Script()
        script.opening = { $0.isMultiple(of: 4) ? connect : subscribing }
        script.piece = { connection, _ in connection.isMultiple(of: 4) ? publishing : [] }
        return script
    }
}
