/// Whether and how the messages of a listener's WebSockets are compressed (permessage-deflate, RFC 7692).
public struct CompressionOptions: Sendable, Equatable {
    /// Clients that offer it get it.
    public var isOn = false
    /// A message may refer to those before it. It becomes smaller, and both ends keep the last 2^`windowBits` bytes of
    /// each direction as long as the connection lasts. Otherwise nothing is kept between two messages.
    public var takesOverContext = false
    /// The most bytes that a message may refer back: 2^9 to 2^15.
    public var windowBits = 15
    /// A message below this size is sent as it is: what compression saves of it is less than what it costs.
    public var messageByteCountMin = 128
    /// Memory for what clients need between two polls: messages of which a part has come, and contexts that are taken
    /// over. Input that waits to be inflated may take as much again, and at least 16 MiB. In this process's worker that the
    /// layer belongs to.
    public var memoryByteCountMax = 64 << 20

    /// A message of a client may inflate to this size whatever it was before: a largest frame of STOMP.
    public var smallByteCount = 1 << 20
    /// Beyond `smallByteCount`, to so many times its size. DEFLATE goes up to 1032, with data that says nothing; text and
    /// JSON stay below 30.
    public static var ratioMax: Int { 100 }

    /// zlib's setting for the memory of a deflating stream: 8 is its default.
    static var memoryLevel: Int32 { 8 }
    /// zlib's quickest: the broker compresses for all of its clients.
    static var level: Int32 { 1 }

    public init() {}
}

/// What a connection's two ends have agreed on. All zeros: no compression.
///
///     | on 1 bit | 5 unused | client's takeover 1 | server's takeover 1 | client's window 4 | server's window 4 |
public struct CompressionAgreement: BitwiseCopyable, Hashable, Sendable {
    var bits: UInt16

    /// Nothing is compressed.
    public static let none = CompressionAgreement(bits: 0)

    init(bits: UInt16) { self.bits = bits }

    /// - Parameters:
    ///   - serverWindowBits: what the broker sends refers back 2^this bytes at most: 9 to 15.
    ///   - clientWindowBits: what the client sends: 8 to 15.
    ///   - serverTakesOver: what the broker sends may refer to messages before.
    ///   - clientTakesOver: what the client sends may.
    public init(serverWindowBits: Int, clientWindowBits: Int, serverTakesOver: Bool, clientTakesOver: Bool) {
        bits =
            1 << 15 | (clientTakesOver ? 1 << 9 : 0) | (serverTakesOver ? 1 << 8 : 0)
            | UInt16(clientWindowBits & 15) << 4 | UInt16(serverWindowBits & 15)
    }

    @inline(__always) public var isOn: Bool { bits & 1 << 15 != 0 }
    public var serverTakesOver: Bool { bits & 1 << 8 != 0 }
    public var clientTakesOver: Bool { bits & 1 << 9 != 0 }
    public var serverWindowBits: Int { Int(bits & 15) }
    public var clientWindowBits: Int { Int(bits >> 4 & 15) }
}
