import Broker

/// What a run of the mode `hosts` is made of beside its `Scenario`: virtual hosts with the same names of destinations.
///
/// For clients and the oracle a destination's first level is its host: `/queue/shop/q0`. On the wire, and for the broker, that
/// level is not there: `/queue/q0`, on a connection whose CONNECT named `shop`. What comes from the broker gets the host of
/// the connection that it came on. So a message that crosses from one host to another is, to the oracle, one that came as
/// another destination than it was sent to, and one that is missing where it should have come.
struct HostScenario {
    /// As the oracle names them; the first is the standard one.
    let names: [String]

    /// What the stored messages of each may take of the log. 0: there is no limit.
    let storedByteCountsMax: [Int]

    static let standard = "std"

    init(_ random: inout Random) {
        let names = Array([Self.standard, "shop", "a.b"].prefix(random.range(2...3)))
        self.names = names
        let isLimited = random.chance(500)
        storedByteCountsMax = names.map { _ in isLimited && random.chance(700) ? random.range(1...8) << 10 : 0 }
    }

    var options: [HostOptions] {
        zip(names, storedByteCountsMax).map { name, storedByteCountMax in
            var options = HostOptions(name: name == Self.standard ? HostOptions.standardName : name)
            options.aliases = ["alias-of-\(name)"]
            options.storedByteCountMax = storedByteCountMax
            return options
        }
    }

    /// The same destination with each host.
    func spread(_ destinations: [String]) -> [String] {
        names.flatMap { host in destinations.map { Self.inserting(host, into: $0) } }
    }

    private static let prefixes = ["/exchange/amq.topic/", "/amq/queue/", "/topic/", "/queue/"]

    /// What the oracle calls what a host's clients call so.
    static func inserting(_ host: String, into name: String) -> String {
        if host.isEmpty { return name }
        if let prefix = prefixes.first(where: name.hasPrefix) {
            return prefix + host + "/" + name.dropFirst(prefix.utf8.count)
        }
        return name.hasPrefix("/") ? name : host + "/" + name
    }

    /// The reverse.
    static func removing(_ host: String, from name: String) -> String {
        if host.isEmpty { return name }
        let prefix = prefixes.first(where: name.hasPrefix) ?? ""
        let rest = name.dropFirst(prefix.utf8.count)
        return rest.hasPrefix(host + "/") ? prefix + rest.dropFirst(host.utf8.count + 1) : name
    }

    /// What the oracle calls what has that canonical name in the log.
    static func name(ofCanonical name: String) -> String {
        guard name.utf8.first == 1 else { return inserting(standard, into: name) }
        let parts = name.split(separator: "\u{1}", maxSplits: 1, omittingEmptySubsequences: true)
        return inserting(String(parts[0]), into: String(parts[1]))
    }
}

extension Simulation {
    /// The client chooses a host, and names it, or leaves it out where it is the default.
    func addHost(_ peer: Peer, to frame: inout FrameText) {
        guard let hosts = scenario.hosts else { return }
        if peer.host.isEmpty { peer.host = random.pick(hosts.names) }
        let isStandard = peer.host == HostScenario.standard
        switch random.below(isStandard ? 3 : 2) {
        case 0: frame.add("host", isStandard ? HostOptions.standardName : peer.host)
        case 1: frame.add("host", "alias-of-\(peer.host)")
        default: break
        }
    }

    /// Those of the client's host.
    func own(_ destinations: [String], _ peer: Peer) -> [String] {
        if scenario.hosts == nil { return destinations }
        return destinations.filter { HostScenario.removing(peer.host, from: $0) != $0 }
    }

    /// As the client writes it.
    func wire(_ destination: String, _ peer: Peer) -> String { HostScenario.removing(peer.host, from: destination) }

    /// A MESSAGE that the client was sent names its destination as the oracle does.
    func addHost(of peer: Peer, to frame: inout ServerFrame) {
        guard scenario.hosts != nil, frame.command == .message else { return }
        for place in frame.headers.indices
        where ["destination", "original-destination"].contains(frame.headers[place].name) {
            frame.headers[place].value = HostScenario.inserting(peer.host, into: frame.headers[place].value)
        }
    }

    /// What the stored messages of hosts take is no more than they may, but for what workers take in the same moment, and
    /// for transactions and what goes on to other queues. What is in the log only because memory is short comes on top.
    func judgeHostStorage() {
        guard let hosts = scenario.hosts, disk != nil,
            !(0..<scenario.shardCount).contains(where: { shards[$0].counters.messagesCooled > 0 })
        else { return }
        for (figures, most) in zip(shards[0].hostFigures(), hosts.storedByteCountsMax)
        where most > 0 && figures.storedByteCount > most + Self.hostStorageSlackByteCount {
            oracle.violate("host \(figures.name) has stored \(figures.storedByteCount) bytes, and may have \(most)")
        }
    }

    private static let hostStorageSlackByteCount = 8 << 10

    /// Nothing is left in any queue: no host has anything stored.
    func judgeHostStorageAtEnd() {
        guard scenario.hosts != nil, !(0..<scenario.shardCount).contains(where: { shards[$0].hasStorageFailed }) else {
            return
        }
        for figures in shards[0].hostFigures() where figures.storedByteCount != 0 {
            oracle.violate("host \(figures.name) has stored \(figures.storedByteCount) bytes, and nothing is left")
        }
    }

    /// One that empties the queues with each host. The last of them is the one to wait for.
    func makeDrainers(_ make: (String) -> Peer) -> Peer? {
        let names = scenario.hosts?.names ?? [""]
        helpers = names.dropLast().map(make)
        return make(names.last!)
    }
}
