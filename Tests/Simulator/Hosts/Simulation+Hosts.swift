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

    static let standard = "std"

    init(_ random: inout Random) { names = Array([Self.standard, "shop", "a.b"].prefix(random.range(2...3))) }

    var options: [HostOptions] {
        names.map { name in
            var options = HostOptions(name: name == Self.standard ? HostOptions.standardName : name)
            options.aliases = ["alias-of-\(name)"]
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

    /// One that empties the queues with each host. The last of them is the one to wait for.
    func makeDrainers(_ make: (String) -> Peer) -> Peer? {
        let names = scenario.hosts?.names ?? [""]
        helpers = names.dropLast().map(make)
        return make(names.last!)
    }
}
