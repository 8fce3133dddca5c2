public import Access
public import IO

/// One listener: its URL and its options.
public struct ListenerSettings: Sendable, Equatable, CustomStringConvertible {
    public var url: ListenerURL
    /// The most connections of this listener, of all workers together. 0: no limit of its own.
    public var connectionCountMax = 0
    /// A heart-beat a minute suffices, because browsers run the timers of hidden pages once a minute.
    public var hasLenientHeartBeats = false
    /// The paths on which a WebSocket may be opened, unless the URL names one.
    public var paths = ["/ws", "/stomp", "/"]
    /// The origins of pages that may open a WebSocket (RFC 6454): "https://example.org", or "https://*.example.org".
    /// Empty: only pages of the listener's own host.
    public var origins: [String] = []
    /// WebSocket: whether messages are compressed (permessage-deflate).
    public var compresses = false
    /// A message may refer to those before it.
    public var compressesWithContext = false
    /// How far a message may refer back: 2^9 to 2^15 bytes.
    public var compressionWindowBits = 15
    /// Shorter messages are sent as they are.
    public var compressedByteCountMin = 128
    /// Memory for clients' contexts, and for their messages of which a part has come, in all workers together.
    public var compressionMemoryByteCountMax = 64 << 20
    /// Who may send the header of the PROXY protocol, with which each connection begins then.
    public var proxies = Proxies.none
    /// The permission bits of a Unix socket. Whoever may write to it may connect (unix(7)).
    public var socketMode = 0o660
    /// The user and the group that own a Unix socket, each as a name or a number. Empty: those of the process.
    public var socketOwner = ""
    public var socketGroup = ""
    /// The ways in which its clients may prove who they are. Empty: all that there are.
    public var authenticators: [AuthenticatorKind] = []
    /// What its clients may send to and subscribe to at most: patterns of destinations.
    public var publishPatterns = ["#"]
    public var subscribePatterns = ["#"]

    public enum Proxies: Sendable, Equatable {
        /// Connections begin without such a header.
        case none
        case anyone
        case networks([Network])
    }

    /// The loopback interface with the usual port of STOMP.
    public static let standard = ListenerSettings(url: try! ListenerURL("127.0.0.1:61613"))

    public init(url: ListenerURL) { self.url = url }

    /// Reads a URL, which may have the options of a Unix socket behind a question mark.
    init(_ text: String) throws(ListenerURL.Fault) {
        let isUnix = text.hasPrefix("unix:") || text.hasPrefix("ws+unix:")
        guard isUnix, let mark = text.firstIndex(of: "?") else {
            url = try ListenerURL(text)
            return
        }
        url = try ListenerURL(String(text[..<mark]))
        for item in text[text.index(after: mark)...].split(separator: "&", omittingEmptySubsequences: false) {
            let name = item.prefix { $0 != "=" }
            let value = String(item.dropFirst(name.count + 1))
            guard let key = Schema.socketOptions.first(where: { $0.path == name }) else {
                throw ListenerURL.Fault(
                    "unknown option \(excerpt(String(name))); allowed: mode, owner, group, as in ?mode=0660&group=mqm")
            }
            guard let parsed = key.parse(value) else {
                throw ListenerURL.Fault("\(name) is \(excerpt(value)); allowed: \(key.allowed)")
            }
            key.set(&self, parsed)
        }
    }

    /// The URL with the options that differ from the defaults and that a URL can have.
    public var description: String {
        let plain = ListenerSettings(url: url)
        let options = Schema.socketOptions.filter { $0.get(self) != $0.get(plain) }.map { key -> String in
            guard case .text(let text) = key.get(self) else { return "" }
            return "\(key.path)=\(text)"
        }
        return options.isEmpty ? url.description : "\(url)?\(options.joined(separator: "&"))"
    }

    public var transport: TransportKind { url.transport }

    /// nil: it is a Unix socket.
    var address: ListenAddress? {
        guard case .network(let address) = url.place else { return nil }
        return address
    }

    public var isUnix: Bool { address == nil }

    /// Whether only this machine can connect.
    public var isLoopback: Bool { address?.isLoopback ?? true }

    /// Whether it stands for all addresses of the machine.
    public var isUnspecified: Bool { address?.isUnspecified ?? false }
}
