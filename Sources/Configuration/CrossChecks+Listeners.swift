import IO

/// The rules between listeners, and between the options of one.
extension EffectiveSettings {
    mutating func checkListeners() {
        if settings.listeners.count > ListenerID.countMax {
            report(
                origin(of: Schema.listenersPath), Schema.listenersPath,
                "found \(settings.listeners.count) addresses; allowed: at most \(ListenerID.countMax)")
        }
        checkPlaces()
        for index in settings.listeners.indices { checkOptions(of: index) }
    }

    /// No two listeners can be bound to the same address, whatever their transports.
    private mutating func checkPlaces() {
        var seen: Set<ListenerURL.Place> = []
        for listener in settings.listeners where listener.address?.port != 0 {
            if seen.insert(listener.url.place).inserted { continue }
            reportListeners("found \(listener.url) twice; allowed: each address once")
        }
        let addresses = settings.listeners.compactMap(\.address).filter { $0.port != 0 }
        // The kernel would refuse the second one, as if another process used the port.
        for address in addresses where !address.isUnspecified {
            let whole = addresses.first { $0.isUnspecified && $0.isIPv6 == address.isIPv6 && $0.port == address.port }
            guard let whole else { continue }
            reportListeners("found \(address) beside \(whole), which includes it; allowed: one of them")
        }
        for address in settings.listeners.compactMap(\.address) {
            guard let version4 = address.mappedVersion4 else { continue }
            reportListeners("found \(address), an IPv4 address written as one of IPv6; allowed: \(version4)")
        }
    }

    /// An option that its listener would ignore is an error.
    private mutating func checkOptions(of index: Int) {
        let listener = settings.listeners[index]
        let path = "\(Schema.listenersPath)[\(index)]"
        if !listener.isUnix {
            refuse(Schema.socketOptions, at: path, "\(listener.url) is no Unix socket; allowed: only with unix:/PATH")
        }
        if !listener.transport.usesWebSocket {
            refuse(
                Schema.webSocketOptions, at: path,
                "\(listener.url) has no WebSocket; allowed: only with ws:// or wss://")
        }
        if listener.url.path != nil {
            refuse(
                Schema.webSocketOptions.filter { $0.path == "paths" }, at: path,
                "the path in the URL is the only one; allowed: one of both")
        }
        if listener.isUnix, case .networks = listener.proxies {
            refuse(Schema.proxyOptions, at: path, "the peers of a Unix socket have no addresses; allowed: true")
        }
    }

    private mutating func refuse(_ options: [Setting<ListenerSettings>], at path: String, _ reason: String) {
        for option in options {
            let optionPath = "\(path).\(option.path)"
            if origins[optionPath] != nil { report(origin(of: optionPath), optionPath, "has no effect: \(reason)") }
        }
    }

    private mutating func reportListeners(_ text: String) {
        report(origin(of: Schema.listenersPath), Schema.listenersPath, text)
    }
}
