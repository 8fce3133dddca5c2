import Testing

@testable import Access

/// Hashes that other programs have made, and our own.
@Suite("Passwords")
struct PasswordTests {
    private static let sha512 =
        "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"
    private static let rabbitMQ = "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"
    /// Of "U*U", from the test vectors of crypt_blowfish.
    private static let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"

    @Test(
        "A password matches its hash, and no other does",
        arguments: [(sha512, "secret"), (rabbitMQ, "secret"), (bcrypt, "U*U")])
    func vectors(_ text: String, _ password: String) throws {
        let hash = try PasswordHash(text)
        let scratch = CryptScratch()
        let isRight = hash.matches(Array(password.utf8), scratch)
        #expect(isRight)
        for wrong in ["", password + " ", String(password.dropLast()), "\0"] {
            let isTaken = hash.matches(Array(wrong.utf8), scratch)
            #expect(!isTaken, "\(wrong)")
        }
        let isCut = hash.matches(Array(password.utf8) + [0], scratch)
        #expect(!isCut, "a NUL would end the password for crypt(3)")
    }

    @Test("A new hash is yescrypt, differs each time, and matches")
    func made() throws {
        let first = try #require(PasswordHash.make(for: Array("pässword".utf8)))
        let second = try #require(PasswordHash.make(for: Array("pässword".utf8)))
        #expect(first.text.hasPrefix("$y$") && first != second)
        let isRight = first.matches(Array("pässword".utf8), CryptScratch())
        #expect(isRight)
        #expect(try PasswordHash(first.text) == first)
        #expect(PasswordHash.make(for: Array(repeating: 0x61, count: 512)) == nil)
        #expect(PasswordHash.make(for: [0x61, 0]) == nil)
    }

    @Test(
        "A text that is no hash, a weak method and a cost without end are refused, with the reason",
        arguments: [
            ("", "is no password hash"), ("secret", "is no password hash"), ("$1$salt$hash", "method $1$"),
            ("$5$salt$hash", "method $5$"), ("$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "cost"),
            ("$2b$xx$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "cost"),
            ("$6$rounds=999999999$salt$hash", "rounds"), ("$y$", "is no password hash"),
            ("$y$!!$salt$hash", "cut off"), ("$rabbitmq$AQID", "36 bytes"),
            ("$6$salt salt$hash", "is no password hash"),
        ])
    func failures(_ text: String, _ reason: String) {
        #expect {
            try PasswordHash(text)
        } throws: {
            ($0 as? PasswordHash.Failure)?.reason.contains(reason) == true
        }
    }

    @Test("Base64 is read strictly, and written as it is read")
    func base64() {
        for count in 0..<70 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255) }
            for alphabet in [Base64.Alphabet.standard, .url] {
                let text = Base64.encode(bytes, alphabet)
                #expect(Base64.decode(text, alphabet) == bytes)
            }
        }
        func decode(_ text: String, _ alphabet: Base64.Alphabet) -> [UInt8]? {
            Base64.decode(Array(text.utf8), alphabet)
        }
        #expect(decode("QQ==", .standard) == [0x41])
        for wrong in ["QQ", "QQ=", "QR==", "Q===", "QQ==QQ==", "Q Q=", "QQ-_", "====", "A"] {
            #expect(decode(wrong, .standard) == nil, "\(wrong)")
        }
        #expect(decode("QQ", .url) == [0x41])
        for wrong in ["QQ==", "QR", "Q", "QQ+/"] { #expect(decode(wrong, .url) == nil, "\(wrong)") }
    }
}
