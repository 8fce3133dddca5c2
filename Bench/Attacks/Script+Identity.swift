// Attacks by those who claim to be somebody else: by the header of a proxy, a passcode or a token.
extension Script {
    init(ofProxies attack: Attack) {
        self.init()
        guard attack == .brokenProxies else {
            opening = { connection in
                Self.bytes("PROXY TCP4 10.\(connection >> 16 & 0xFF).\(connection >> 8 & 0xFF).\(connection & 0xFF) ")
                    + Self.bytes("127.0.0.1 1024 61613\r\n") + Self.connect
            }
            return
        }
        let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 0x51, 0x55, 0x49, 0x54, 10]
        let openings: [[UInt8]] = [
            Self.bytes("PROXY TCP4 300.1.1.1 127.0.0.1 1 2\r\n"), Self.bytes("PROXY TCP4 "),
            Self.bytes("PROXY UNKNOWN " + String(repeating: "x", count: 200)), Self.connect,
            // Version 2: the longest length, with and without its bytes; an unknown version; too short for its family.
            signature + [0x21, 0x11, 0xFF, 0xFF], signature + [0x21, 0x11, 0xFF, 0xFF] + Self.connect,
            signature + [0x31, 0x11, 0, 12] + [UInt8](repeating: 1, count: 12),
            signature + [0x21, 0x21, 0, 4, 1, 2, 3, 4],
        ]
        opening = { openings[$0 % openings.count] }
        // Those whose header could be longer go on.
        piece = { connection, number in number < 70 ? [UInt8](repeating: 0x20, count: 1000) : [] }
    }

    init(ofLogins attack: Attack) {
        self.init()
        if attack == .wrongLogins {
            opening = { connection in
                let user = connection.isMultiple(of: 2) ? "guest" : "user-\(connection)"
                return Self.connect(login: user, passcode: "\(UInt64.random(in: 0 ... .max))")
            }
            return
        }
        opening = { Self.connect(login: "", passcode: Self.badTokens[$0 % Self.badTokens.count]) }
    }

    private static func connect(login: String, passcode: String) -> [UInt8] {
        let name = login.isEmpty ? "" : "login:\(login)\n"
        return bytes("CONNECT\naccept-version:1.2\nhost:attack\n\(name)passcode:\(passcode)\n\n\0")
    }

    /// `alg` is none; `exp` is 1970; `aud` is another; the key is another. Except for that they are right: they expire in
    /// 2100, are for the audience "stampede", and are signed by `Attack.Door.tokenSecret`.
    private static let badTokens = [
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0."
            + "eyJzdWIiOiJtYWxsb3J5IiwiZXhwIjo0MTAyNDQ0ODAwLCJhdWQiOiJzdGFtcGVkZSJ9.",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
            + "eyJzdWIiOiJtYWxsb3J5IiwiZXhwIjoxLCJhdWQiOiJzdGFtcGVkZSJ9."
            + "8htU1sEfAg9ZkGWs-2vJKQAMKgVYgsHyo_4Y9XZ2bwc",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
            + "eyJzdWIiOiJtYWxsb3J5IiwiZXhwIjo0MTAyNDQ0ODAwLCJhdWQiOiJhbm90aGVyIn0."
            + "J_LjbEQ7X5427_G3SCpMAvNZdC1e1KbA314CJ-uOHmA",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
            + "eyJzdWIiOiJtYWxsb3J5IiwiZXhwIjo0MTAyNDQ0ODAwLCJhdWQiOiJzdGFtcGVkZSJ9."
            + "tqXY1zU1FnbcyJ2PdbzFTbfe22yRVSfRFYW8I0jn28M",
    ]
}
