/// A virtual host: a namespace of destinations of its own, and what its clients may use of the broker together.
public struct HostOptions: Sendable, Equatable {
    /// 1 to `nameByteCountMax` bytes, without control characters; see `problem(ofName:)`. It is part of the names of
    /// destinations in the log, so another name is another host.
    public var name: String
    /// Other texts that the header `host` of CONNECT may have.
    public var aliases: [String] = []
    /// Of all workers together, as the next two. 0: there is no limit.
    public var connectionCountMax = 0
    public var subscriptionCountMax = 0
    /// Of all connections together. Beyond, they are not read. 0: there is no limit.
    public var framesPerSecondMax = 0
    public var bytesPerSecondMax = 0
    /// What its stored messages may take of the log (bytes of records). Beyond, others are refused. 0: there is no limit.
    public var storedByteCountMax = 0

    public init(name: String) { self.name = name }

    /// The host that is always there. Its destinations have the names that they have on a broker without hosts.
    public static let standardName = "/"

    public static let nameByteCountMax = 64
    /// Hosts and aliases, together.
    public static let nameCountMax = 4096

    /// Why a text cannot be a host's name. nil: it can.
    public static func problem(ofName name: String) -> String? {
        let byteCount = name.utf8.count
        guard (1...nameByteCountMax).contains(byteCount) else {
            return "has \(byteCount) bytes; allowed: 1 to \(nameByteCountMax)"
        }
        let hasControls = name.unicodeScalars.contains { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) }
        // Clients may cut spaces off; `*` stands for all hosts in the users file.
        guard !hasControls, name.first != " ", name.last != " ", name != "*" else {
            return "has control characters, or spaces at its ends, or is *; allowed: any other text"
        }
        return nil
    }

    /// The host in a canonical name, as it is in the log. nil: the standard one.
    public static func host(ofCanonicalName name: UnsafeRawBufferPointer) -> String? { HostName.host(of: name) }

    var hasRate: Bool { framesPerSecondMax > 0 || bytesPerSecondMax > 0 }
}
