import Access
import Glibc
import IO
import Permissions

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

    /// "listeners[1]", or "listeners" where one stands for the list.
    private func path(ofListener index: Int) -> String {
        let isAlone = origins["\(Schema.listenersPath).\(Schema.listenerURL)"] != nil
        return isAlone ? Schema.listenersPath : "\(Schema.listenersPath)[\(index)]"
    }

    /// An option that its listener would ignore is an error.
    private mutating func checkOptions(of index: Int) {
        let listener = settings.listeners[index]
        let path = path(ofListener: index)
        if !listener.isUnix {
            refuse(Schema.socketOptions, at: path, "\(listener.url) is no Unix socket; allowed: only with unix:/PATH")
        }
        if !listener.transport.usesWebSocket {
            refuse(
                Schema.webSocketOptions + Schema.compressionOptions, at: path,
                "\(listener.url) has no WebSocket; allowed: only with ws:// or wss://")
        }
        if listener.transport.usesWebSocket, !listener.compresses {
            refuse(Schema.compressionOptions, at: path, "nothing is compressed; allowed: with compression: true")
        }
        if listener.url.path != nil {
            refuse(
                Schema.webSocketOptions.filter { $0.path == "paths" }, at: path,
                "the path in the URL is the only one; allowed: one of both")
        }
        checkAccess(of: listener, at: path)
        if listener.isUnix, case .networks = listener.proxies {
            refuse(Schema.proxyOptions, at: path, "the peers of a Unix socket have no addresses; allowed: true")
        }
    }

    /// How clients may log in, and what they may do. What the users file has to say of it is checked when it is read.
    private mutating func checkAccess(of listener: ListenerSettings, at path: String) {
        let authenticators = "\(path).authenticators"
        if !listener.authenticators.isEmpty, !settings.access.isOn {
            report(
                origin(of: authenticators), authenticators,
                "has no effect: nobody is asked who they are; set access.users or another key of the section access")
        }
        if listener.authenticators.contains(.certificate), !listener.transport.usesTLS {
            report(
                origin(of: authenticators), authenticators,
                "found certificate, but \(listener.url) has no TLS; allowed: with stomps:// or wss://")
        }
        if listener.authenticators.contains(.uid), !listener.isUnix {
            report(
                origin(of: authenticators), authenticators,
                "found uid, but \(listener.url) is no Unix socket; allowed: only with unix:/PATH")
        }
        for (key, texts) in [("publish", listener.publishPatterns), ("subscribe", listener.subscribePatterns)] {
            for text in texts {
                do throws(PatternTemplate.Failure) {
                    _ = try settings.patternLimits.template(text, .publish)
                } catch {
                    report(origin(of: "\(path).\(key)"), "\(path).\(key)", "\(excerpt(text)) \(error.reason)")
                }
            }
        }
    }

    /// What access has to know of the listeners. All patterns are in order.
    var listenerAccess: [ListenerAccess] {
        settings.listeners.enumerated().map { index, listener in
            var access = ListenerAccess(path: path(ofListener: index))
            if !listener.authenticators.isEmpty { access.authenticators = Set(listener.authenticators) }
            if listener.publishPatterns != ["#"] || listener.subscribePatterns != ["#"] {
                func templates(_ texts: [String]) -> [PatternTemplate] {
                    texts.compactMap { try? settings.patternLimits.template($0, .publish) }
                }
                access.rules = ListenerRules(
                    publish: templates(listener.publishPatterns), subscribe: templates(listener.subscribePatterns))
            }
            return access
        }
    }

    /// The owners and groups of Unix sockets, as this machine knows them. `load` does not look for them, because they are
    /// not part of the configuration.
    ///
    /// - Throws: those that are not known, each with its key.
    public func checkAccounts() throws(ConfigurationError) {
        var problems: [ConfigurationProblem] = []
        for (index, listener) in settings.listeners.enumerated() {
            let path = path(ofListener: index)
            for (option, name, isKnown, database) in [
                ("owner", listener.socketOwner, getpwnam(listener.socketOwner) != nil, "passwd"),
                ("group", listener.socketGroup, getgrnam(listener.socketGroup) != nil, "group"),
            ] where !name.isEmpty && UInt32(name) == nil && !isKnown {
                let key = "\(path).\(option)"
                // An option may be in the URL.
                let places = [key, "\(path).\(Schema.listenerURL)", Schema.listenersPath]
                let place = places.lazy.compactMap { origins[$0] }.first ?? .builtIn
                problems.append(
                    ConfigurationProblem(
                        place: place.place, path: key,
                        text: "found \(quoted(name)), which this machine does not know; allowed: a name of "
                            + "`getent \(database)`, or a number"))
            }
        }
        if !problems.isEmpty { throw ConfigurationError(problems: problems) }
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
