import Testing

@testable import Transports

@Suite("The offer of permessage-deflate")
struct CompressionOfferTests {
    private static func options(takesOver: Bool = false, windowBits: Int = 15) -> CompressionOptions {
        var options = CompressionOptions()
        options.isOn = true
        options.takesOverContext = takesOver
        options.windowBits = windowBits
        return options
    }

    /// The value of `Sec-WebSocket-Extensions` in the answer. nil: there is none. The status, if it is not 101.
    private static func answer(_ headers: [String], _ options: CompressionOptions, hasRoom: Bool = true) -> String? {
        var listener = HTTPUpgradeTests.listener
        listener.compression = options
        let request = HTTPUpgradeTests.request(adding: headers.map { "Sec-WebSocket-Extensions: \($0)" })
        return withBytes(request) { bytes in
            do throws(HTTPRefusal) {
                let upgrade = try HTTPUpgrade(bytes, for: listener) { _ in hasRoom }
                let lines = String(decoding: upgrade.answer, as: UTF8.self).split(separator: "\r\n")
                let prefix = "Sec-WebSocket-Extensions: "
                let line = lines.first { $0.hasPrefix(prefix) }
                if upgrade.compression.isOn != (line != nil) { return "the answer is not what was agreed on" }
                return line.map { String($0.dropFirst(prefix.count)) }
            } catch {
                return "\(error.status)"
            }
        }
    }

    private static let frugal = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

    @Test(
        "without contexts, each offer is answered or declined as RFC 7692, section 7.1, has it",
        arguments: [
            ("permessage-deflate", frugal),
            ("PerMessage-Deflate", frugal),
            ("permessage-deflate; client_max_window_bits", frugal),
            ("permessage-deflate; client_max_window_bits=8", frugal),
            ("permessage-deflate;client_max_window_bits = \"10\"", frugal),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", frugal),
            ("permessage-deflate; server_max_window_bits=15", "\(frugal); server_max_window_bits=15"),
            ("permessage-deflate; server_max_window_bits=10", "\(frugal); server_max_window_bits=10"),
            ("permessage-deflate; server_max_window_bits=\"9\"", "\(frugal); server_max_window_bits=9"),
            // zlib makes no window of 2^8 bytes.
            ("permessage-deflate; server_max_window_bits=8", nil),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate", frugal),
            // Wrong values.
            ("permessage-deflate; server_max_window_bits", nil),
            ("permessage-deflate; server_max_window_bits=7", nil),
            ("permessage-deflate; server_max_window_bits=16", nil),
            ("permessage-deflate; server_max_window_bits=09", nil),
            ("permessage-deflate; server_max_window_bits=010", nil),
            ("permessage-deflate; server_max_window_bits=1", nil),
            ("permessage-deflate; server_max_window_bits=-9", nil),
            ("permessage-deflate; client_max_window_bits=16", nil),
            ("permessage-deflate; client_max_window_bits=x", nil),
            ("permessage-deflate; server_no_context_takeover=1", nil),
            ("permessage-deflate; client_no_context_takeover=true", nil),
            // Twice, or unknown.
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", nil),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits=10", nil),
            ("permessage-deflate; mode=fast", nil),
            ("permessage-deflate; server_max_window_bits=10; x", nil),
            // The first one that is acceptable.
            ("x-other, permessage-deflate; server_max_window_bits=10", "\(frugal); server_max_window_bits=10"),
            (
                "permessage-deflate; mode=fast, permessage-deflate; server_max_window_bits=12, permessage-deflate",
                "\(frugal); server_max_window_bits=12"
            ),
            ("permessage-deflate; server_max_window_bits=99, x", nil),
            ("x-webkit-deflate-frame", nil), ("permessage-bzip2; level=9", nil), ("x; a=\"b\"", nil),
            (",, permessage-deflate ,", frugal),
            // Malformed: RFC 6455, section 9.1, lets such a handshake fail.
            ("permessage-deflate;", "400"), ("permessage-deflate; =1", "400"), (";", "400"),
            ("permessage-deflate; server_max_window_bits=", "400"),
            ("permessage-deflate; server_max_window_bits=\"10", "400"),
            ("permessage-deflate; server_max_window_bits=\"\"", "400"),
            ("permessage-deflate client_max_window_bits", "400"), ("permessage-deflate; a b", "400"),
            ("permessage(deflate)", "400"),
        ] as [(String, String?)])
    func offers(offer: String, expected: String?) {
        #expect(Self.answer([offer], Self.options()) == expected)
    }

    @Test(
        "contexts are taken over where both ends want it, and the client's window is limited if it lets itself be",
        arguments: [
            ("permessage-deflate", 15, "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits", 15, "permessage-deflate"),
            (
                "permessage-deflate; client_max_window_bits=11", 15,
                "permessage-deflate; client_max_window_bits=11"
            ),
            (
                "permessage-deflate; server_no_context_takeover", 15,
                "permessage-deflate; server_no_context_takeover"
            ),
            (
                "permessage-deflate; client_no_context_takeover", 15,
                "permessage-deflate; client_no_context_takeover"
            ),
            (
                "permessage-deflate; server_max_window_bits=15", 15,
                "permessage-deflate; server_max_window_bits=15"
            ),
            (
                "permessage-deflate; client_max_window_bits", 10,
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10"
            ),
            (
                "permessage-deflate; client_max_window_bits=9; server_max_window_bits=12", 10,
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9"
            ),
            // Its window cannot be limited, so nothing may be kept of it.
            ("permessage-deflate", 10, "permessage-deflate; client_no_context_takeover; server_max_window_bits=10"),
        ] as [(String, Int, String)])
    func contexts(offer: String, windowBits: Int, expected: String) {
        #expect(Self.answer([offer], Self.options(takesOver: true, windowBits: windowBits)) == expected)
    }

    @Test func `several headers are one list, and without room no context is taken over`() {
        #expect(Self.answer(["x", "permessage-deflate"], Self.options()) == Self.frugal)
        #expect(Self.answer(["permessage-deflate; mode=1", "permessage-deflate"], Self.options()) == Self.frugal)
        #expect(Self.answer(["permessage-deflate"], Self.options(takesOver: true), hasRoom: false) == Self.frugal)
        #expect(
            Self.answer(["permessage-deflate"], Self.options(takesOver: true, windowBits: 9), hasRoom: false)
                == "\(Self.frugal); server_max_window_bits=9")
    }

    @Test func `nothing is agreed on where it is off, whatever is offered`() {
        #expect(Self.answer(["permessage-deflate"], CompressionOptions()) == nil)
        #expect(Self.answer(["permessage-deflate;"], CompressionOptions()) == nil)
        #expect(Self.answer([], Self.options()) == nil)
    }

    @Test func `an agreement is kept in two bytes`() {
        for serverBits in 9...15 {
            for clientBits in 8...15 {
                for flags in 0..<4 {
                    let agreement = CompressionAgreement(
                        serverWindowBits: serverBits, clientWindowBits: clientBits, serverTakesOver: flags & 1 != 0,
                        clientTakesOver: flags & 2 != 0)
                    #expect(agreement.isOn)
                    #expect(agreement.serverWindowBits == serverBits && agreement.clientWindowBits == clientBits)
                    #expect(agreement.serverTakesOver == (flags & 1 != 0))
                    #expect(agreement.clientTakesOver == (flags & 2 != 0))
                }
            }
        }
        #expect(!CompressionAgreement.none.isOn)
        #expect(MemoryLayout<CompressionAgreement>.size == 2)
        #expect(MemoryLayout<TransportRecord>.size == 56)
    }
}
