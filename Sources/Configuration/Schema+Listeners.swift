import Access

extension Schema {
    static let listenersPath = "listeners"

    static let listenersWhy =
        "Where clients are accepted. Without the section `access` anyone who can connect may do anything."

    /// The list of listeners as the command line and the environment give it: URLs.
    static let listeners: [Setting<Settings>] = [
        Setting(
            path: listenersPath,
            form: .list(allowed: ListenerURL.allowed, accepts: { (try? ListenerSettings($0)) != nil }),
            why: listenersWhy,
            get: { .list($0.listeners.map(\.description)) },
            set: { settings, value in
                if case .list(let items) = value {
                    settings.listeners = items.compactMap { try? ListenerSettings($0) }
                }
            })
    ]

    /// The key of an entry of `listeners` that is a mapping, which every entry has.
    static let listenerURL = "url"

    static let listenerURLWhy =
        "The address. Ports if none is given: 61613 stomp, 61614 stomps, 15674 ws, 15673 wss."

    /// The other keys of such an entry.
    static let listenerOptions: [Setting<ListenerSettings>] =
        listenerLimits + accessOptions + webSocketOptions + compressionOptions + proxyOptions + socketOptions

    private static let listenerLimits: [Setting<ListenerSettings>] = [
        .count(
            "connections-max", \.connectionCountMax, 1...1 << 27, zero: "no limit of its own",
            "Connections of this listener, of all workers together. At the limit: a new one is refused."),
        .flag(
            "lenient-heart-beats", \.hasLenientHeartBeats,
            "A heart-beat a minute suffices: browsers slow the timers of hidden pages down to that."),
    ]

    /// What clients of a listener may do.
    static let accessOptions: [Setting<ListenerSettings>] = [
        Setting(
            path: "authenticators",
            form: .list(
                allowed: "any (all of the section access), or one or several of "
                    + AuthenticatorKind.allCases.map(\.rawValue).joined(separator: ", "),
                accepts: { AuthenticatorKind(rawValue: $0) != nil }),
            why: "How clients of this listener may prove who they are: by which parts of the section access.",
            get: { .list($0.authenticators.isEmpty ? ["any"] : $0.authenticators.map(\.rawValue)) },
            set: { listener, value in
                if case .list(let items) = value {
                    listener.authenticators = items.compactMap { AuthenticatorKind(rawValue: $0) }
                }
            },
            words: ["any"]),
        .list(
            "publish", \.publishPatterns, allowed: patternsAllowed,
            "What clients of this listener may send to at most, whatever their roles allow. [\"#\"]: anything.",
            accepts: isPlainText),
        .list(
            "subscribe", \.subscribePatterns, allowed: patternsAllowed,
            "What they may subscribe to at most, with and without users. []: nothing.",
            accepts: isPlainText),
    ]

    private static let patternsAllowed = "patterns of destinations, such as /topic/web.# or /queue/{user}.*"

    private static let isPlainText: @Sendable (String) -> Bool = { text in
        !text.isEmpty && !text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }
    }

    /// The options of a listener with WebSocket.
    static let webSocketOptions: [Setting<ListenerSettings>] = [
        .list(
            "paths", \.paths, allowed: "paths such as /ws", mayBeEmpty: false,
            "ws, wss: the paths on which a WebSocket may be opened. A path in the URL is the only one.",
            accepts: ListenerURL.acceptsPath),
        .list(
            "origins", \.origins, allowed: "https://HOST or https://*.DOMAIN (or http://), with or without :PORT",
            "ws, wss: sites whose pages may connect. []: only pages of the listener's own host.",
            accepts: acceptsOrigin),
        .flag(
            "compression", \.compresses,
            "ws, wss: messages of clients that offer permessage-deflate are compressed. It costs CPU time."),
    ]

    /// The options of a listener that compresses.
    static let compressionOptions: [Setting<ListenerSettings>] = [
        .flag(
            "compression-context", \.compressesWithContext,
            "A message may refer to those before it. Smaller, but up to 304 KiB a client, and no sharing of the work."),
        .count(
            "compression-window-bits", \.compressionWindowBits, 9...15,
            "How far a message may refer back: 2^this bytes. Less of it takes less memory for each context."),
        .bytes(
            "compression-bytes-min", \.compressedByteCountMin, 1...1 << 20,
            "Shorter messages are sent as they are: compression would save next to nothing of them."),
        .bytes(
            "compression-memory-bytes", \.compressionMemoryByteCountMax, 1 << 20...1 << 40,
            "Contexts (half), parts of messages (40 KiB each); as much again for input that waits. Beyond: close 1013."),
    ]

    static let proxyOptions: [Setting<ListenerSettings>] = [
        Setting(
            path: "proxy-protocol",
            form: .list(
                allowed: "true (from anyone), false, or networks: \(Network.allowed)",
                accepts: { Network($0) != nil }),
            why: "Connections begin with a PROXY header (v1 or v2), which names the client. Who may send it.",
            get: { listener in
                switch listener.proxies {
                case .none: .list(["false"])
                case .anyone: .list(["true"])
                case .networks(let networks): .list(networks.map(\.description))
                }
            },
            set: { listener, value in
                guard case .list(let items) = value else { return }
                let networks = items.compactMap { Network($0) }
                listener.proxies = items == ["true"] ? .anyone : networks.isEmpty ? .none : .networks(networks)
            },
            words: ["true", "false"])
    ]

    /// RFC 6454, section 6.2: scheme, host and port of a page, as a browser sends them in `Origin`.
    private static func acceptsOrigin(_ text: String) -> Bool {
        guard let mark = text.firstRange(of: "://"), ["http", "https"].contains(text[..<mark.lowerBound]) else {
            return false
        }
        var host = text[mark.upperBound...]
        if host.hasPrefix("*.") { host = host.dropFirst(2) }
        return !host.isEmpty && host.utf8.count <= 255
            && host.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (97...122).contains(byte) || ".-:[]".utf8.contains(byte)
            }
    }

    /// The options of a Unix socket.
    static let socketOptions: [Setting<ListenerSettings>] = [
        Setting(
            path: "mode",
            form: .text(allowed: "permission bits in octal, 0000 to 0777", accepts: { SocketMode.parse($0) != nil }),
            why: "unix: who may connect. Write permission is needed, so 0660 admits the owner and the group.",
            get: { .text(SocketMode.format($0.socketMode)) },
            set: { listener, value in
                if case .text(let text) = value, let mode = SocketMode.parse(text) { listener.socketMode = mode }
            }),
        .text(
            "owner", \.socketOwner, allowed: accountAllowed,
            "unix: the user who owns the socket. \"\": the broker's own. Another one needs CAP_CHOWN.",
            accepts: acceptsAccount),
        .text(
            "group", \.socketGroup, allowed: accountAllowed,
            "unix: the group of the socket. \"\": the broker's own. It must be one of the broker's, or CAP_CHOWN.",
            accepts: acceptsAccount),
    ]

    private static let accountAllowed = "\"\", a name or a number"

    /// Names of users and groups, as useradd(8) allows them, and numbers. `&` and `=` would end them in a URL.
    private static func acceptsAccount(_ text: String) -> Bool {
        text.utf8.count <= 64
            && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && !"&=:/?#,".utf8.contains($0) }
    }
}

/// The notation of permission bits: octal digits, usually with a leading zero.
enum SocketMode {
    static func parse(_ text: String) -> Int? {
        guard (1...4).contains(text.utf8.count), text.utf8.allSatisfy({ (48...55).contains($0) }) else { return nil }
        return Int(text, radix: 8).flatMap { $0 <= 0o777 ? $0 : nil }
    }

    static func format(_ mode: Int) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(4 - digits.count, 0)) + digits
    }
}
