import Broker

extension Schema {
    /// The key whose value is a list of names of hosts, or of `hostKeys` mappings.
    static let hosts = "hosts"

    static let hostsWhy =
        "Virtual hosts: namespaces of destinations that never meet. CONNECT's header `host` names one."

    /// The key of an entry that is a mapping, which every entry has.
    static let hostName = "name"

    /// The keys of one entry of `hosts`.
    static let hostKeys: [Setting<HostOptions>] = [
        .text(
            hostName, \.name, allowed: hostNameAllowed,
            "What clients call it. Its messages on disk carry the name: with another one they are out of reach.",
            accepts: acceptsHostName),
        .list(
            "aliases", \.aliases, allowed: hostNameAllowed,
            "Other names of it, such as the addresses that clients connect to and send as `host`.",
            accepts: acceptsHostName),
        .count(
            "connections-max", \.connectionCountMax, 1...1 << 27, zero: "no limit of its own",
            "Connections of its clients, of all workers together. At the limit: ERROR, close."),
        .count(
            "subscriptions-max", \.subscriptionCountMax, 1...1 << 30, zero: "no limit of its own",
            "Subscriptions of its clients together. At the limit: ERROR, close."),
        .count(
            "frames-per-second-max", \.framesPerSecondMax, 1...1 << 30, zero: "no limit of its own",
            "Frames that its clients send in a second together. Beyond, they are not read for a while."),
        .bytes(
            "bytes-per-second-max", \.bytesPerSecondMax, 1024...1 << 40, zero: "no limit of its own",
            "Bytes that its clients send in a second together. Beyond, they are not read for a while."),
        .bytes(
            "storage-bytes-max", \.storedByteCountMax, 1 << 20...1 << 50, zero: "no limit of its own",
            "What its stored messages take on disk. At the limit: ERROR for what is to be stored."),
    ]

    static let defaultHost: [Setting<Settings>] = [
        .text(
            "default-host", \.broker.defaultHost, allowed: "the name of an entry of hosts, or \"/\"",
            "The host of clients that name none (STOMP 1.0, and many libraries), and of users without `hosts`.",
            accepts: acceptsHostName)
    ]

    static let hostNameAllowed = "1 to \(HostOptions.nameByteCountMax) bytes without control characters, not *"

    private static let acceptsHostName: @Sendable (String) -> Bool = { HostOptions.problem(ofName: $0) == nil }
}

extension EffectiveSettings {
    /// Each name stands for one host, and the default is one of them.
    mutating func checkHosts() {
        let hosts = settings.broker.hosts
        if hosts.isEmpty {
            guard settings.broker.defaultHost != HostOptions.standardName else { return }
            return report(
                origin(of: "default-host"), "default-host", "has no effect: there are no hosts; set hosts, too")
        }
        var places: [String: String] = [:]
        var nameCount = 0
        for (index, host) in hosts.enumerated() {
            let path = "\(Schema.hosts)[\(index)]"
            for (name, key) in [(host.name, Schema.hostName)] + host.aliases.map({ ($0, "aliases") }) {
                nameCount += 1
                if let other = places[name] {
                    let place = origins["\(path).\(key)"] ?? origin(of: Schema.hosts)
                    report(place, "\(path).\(key)", "found \(quoted(name)) again, which is a name of \(other) already")
                } else if name == HostOptions.standardName, key == "aliases" {
                    report(
                        origin(of: "\(path).\(key)"), "\(path).\(key)",
                        "found \"/\", which is the name of the host that is always there; allowed: any other name")
                } else {
                    places[name] = path
                }
            }
        }
        if nameCount > HostOptions.nameCountMax {
            report(
                origin(of: Schema.hosts), Schema.hosts,
                "found \(nameCount) names and aliases; allowed: at most \(HostOptions.nameCountMax)")
        }
        let name = settings.broker.defaultHost
        if name != HostOptions.standardName, !hosts.contains(where: { $0.name == name }) {
            report(
                origin(of: "default-host"), "default-host",
                "found \(quoted(name)), which is the name of no entry of hosts; allowed: "
                    + (hosts.prefix(20).map { quoted($0.name) } + ["\"/\""]).joined(separator: ", "))
        }
    }
}

// MARK: - As text

extension EffectiveSettings {
    func writeHosts(to writer: inout YAMLWriter) {
        write(settings.broker.hosts, of: Schema.hosts, keys: Schema.hostKeys, to: &writer)
    }
}

extension ConfigurationReference {
    static func writeHosts(to writer: inout YAMLWriter) {
        writer.open(sectionsOf: Schema.hosts, separated: true)
        writer.comment(Schema.hostsWhy)
        writer.comment("Without entries that header is not looked at, and all clients are with the host \"/\",")
        writer.comment("which is always there. An entry is a name alone, or has options, each with its default here:")
        write(HostOptions(name: "shop"), of: Schema.hosts, keys: Schema.hostKeys, to: &writer)
    }
}
