// Attacks on listeners for WebSockets. They do not read what the broker answers to their request, and need not: its
// answer is known. The key of their masks is 0, so that payloads stand as they are.
extension Script {
    init(ofWebSocket attack: Attack) {
        self.init()
        switch attack {
        case .requests: self = Self.endlessRequests
        case .slowRequests:
            let request = Self.request()
            piece = { _, number in number < request.count ? [request[number]] : [] }
            bytesPerSecond = 1
        case .origins:
            opening = { Self.request("Origin: https://page-\($0).evil.example\r\n") }
        case .pings:
            let pings = Array(
                repeatElement(Self.frame(0x89, [UInt8](repeating: 0x70, count: 125)), count: 200).joined())
            opening = { _ in Self.request() + Self.frame(0x81, Self.connect) }
            piece = { _, _ in pings }
            reads = { $0.isMultiple(of: 2) }
        case .unmasked:
            opening = { Self.request() + ($0.isMultiple(of: 2) ? [0x81, 2, 0x0A, 0x0A] : Self.frame(0x8B, [0x0A])) }
        case .fragments: self = Self.endlessFragments
        case .frameLengths:
            let lengths: [UInt64] = [.max, 1 << 63, (1 << 63) - 1, 1 << 32, 1 << 24, 1 << 20, 126, 1]
            opening = { connection in
                let length = lengths[connection % lengths.count]
                let octets = (0..<8).map { UInt8(truncatingIfNeeded: length >> (56 - 8 * $0)) }
                return Self.request() + [0x82, 0x80 | 127] + octets + [0, 0, 0, 0] + Self.connect
            }
        default:
            // The first bit that the extension would use (RFC 7692), and a block of zeros.
            let zeros: [UInt8] = [0x62, 0x60, 0x60, 0x04, 0x00]
            opening = { _ in
                Self.request("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
                    + Self.frame(0xC1, zeros)
            }
        }
    }

    static func request(_ headers: String = "") -> [UInt8] {
        bytes(
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\(headers)\r\n")
    }

    /// - Parameter first: FIN, reserved bits and opcode.
    static func frame(_ first: UInt8, _ payload: [UInt8]) -> [UInt8] {
        let length: [UInt8] =
            payload.count < 126
            ? [0x80 | UInt8(payload.count)] : [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        return [first] + length + [0, 0, 0, 0] + payload
    }

    private static var endlessRequests: Script {
        let start = bytes("GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        let value = [UInt8](repeating: 0x76, count: 1000)
        var script = Script()
        script.opening = { $0.isMultiple(of: 2) ? start + bytes("Endless: ") : start }
        script.piece = { connection, number in
            connection.isMultiple(of: 2) ? value : bytes("Header-\(number): v\r\n")
        }
        return script
    }

    /// Of four clients, two send fragments of nothing and two of one byte; of each, one before CONNECT.
    private static var endlessFragments: Script {
        let sending = frame(0x81, connect) + frame(0x01, bytes("SEND\ndestination:/topic/attack\n\n"))
        let none = Array(repeatElement(frame(0x00, []), count: 4000).joined())
        let one = Array(repeatElement(frame(0x00, [0x78]), count: 4000).joined())
        var script = Script()
        script.opening = { request() + ($0.isMultiple(of: 2) ? sending : frame(0x01, bytes("CONNECT\nx:"))) }
        script.piece = { connection, _ in connection % 4 < 2 ? none : one }
        return script
    }
}
