import Load

/// What a transport costs in a row of a comparison, and what it may cost.
struct TransportCost: Codable, Sendable {
    var row: String
    var transport: String
    /// Microseconds of server CPU per delivery: without any transport, and with this one.
    var plain: Double
    var measured: Double
    /// Without TLS: nil.
    var encrypted: Encrypted?

    /// What TLS carries for a delivery, and what its cipher alone would take.
    struct Encrypted: Codable, Sendable, Equatable {
        /// "TLSv1.3 TLS_AES_128_GCM_SHA256".
        var cipher: String
        /// Plaintext that the server encrypts or decrypts, and sends that it makes, for each delivery.
        var bytes: Double
        var sends: Double
        /// The mean size of the server's records.
        var recordBytes: Double
        /// Bytes a second, by `openssl speed` with pieces of that size on the server's core.
        var cipherBytesPerSecond: Double

        var cipherMicroseconds: Double { bytes / max(cipherBytesPerSecond, 1) * 1e6 }
    }

    static let webSocketRatioMax = 1.1
    static let cipherRatioMax = 1.3
    static let sendMicrosecondsMax = 1.0

    var ratio: Double { measured / max(plain, 1e-9) }

    /// The most that it may cost. nil: there is no bound for WebSocket in TLS.
    var bound: Double? {
        switch ClientTransport(rawValue: transport) {
        case .ws: plain * Self.webSocketRatioMax
        case .tls:
            encrypted.map {
                plain + Self.cipherRatioMax * $0.cipherMicroseconds + Self.sendMicrosecondsMax * $0.sends
            }
        case .wss, .tcp, nil: nil
        }
    }

    var isMet: Bool { bound.map { measured <= $0 } ?? true }

    static let head = [
        "", "plain, us", "us/delivery", "ratio", "bound, us", "verdict", "bytes/delivery", "B/record", "sends/delivery",
        "cipher alone, us",
    ]

    var cells: [String] {
        let figures =
            encrypted.map {
                [
                    OutcomeTable.decimals($0.bytes, 0), OutcomeTable.decimals($0.recordBytes, 0),
                    Comparison.short($0.sends), Comparison.short($0.cipherMicroseconds),
                ]
            } ?? ["-", "-", "-", "-"]
        return [
            "\(row), \(transport)", Comparison.short(plain), Comparison.short(measured),
            OutcomeTable.decimals(ratio, 2), bound.map(Comparison.short) ?? "-",
            bound == nil ? "-" : isMet ? "met" : "MISSED",
        ] + figures
    }
}

/// What a transport costs in memory: of an idle connection, beside a plain one.
struct TransportMemory: Codable, Sendable {
    var transport: String
    /// Growth of the server's memory for each connection, in bytes.
    var plainBytes: Double
    var bytes: Double

    /// The most bytes beside those of a plain connection, or at all. nil: there is no bound.
    private var bound: (bytes: Double, text: String)? {
        switch ClientTransport(rawValue: transport) {
        case .ws: (plainBytes + 64, "plain + 64")
        case .tls: (16_384, "16,384")
        case .wss, .tcp, nil: nil
        }
    }

    var isMet: Bool { bound.map { bytes <= $0.bytes } ?? true }

    static let head = ["idle", "server memory, B/connection", "more than plain", "bound", "verdict"]

    var cells: [String] {
        [
            transport, OutcomeTable.grouped(bytes), OutcomeTable.grouped(bytes - plainBytes), bound?.text ?? "-",
            bound == nil ? "-" : isMet ? "met" : "MISSED",
        ]
    }
}
