extension CapacityCheck {
    /// The backlog that the broker passes to listen(2).
    static var acceptBacklog: Int { 4096 }
    /// The most clients that the load generator connects to one address. connect(2) tries every second port first. With
    /// more than about 14,000 connections to one address and port it scans all ports, which takes milliseconds.
    static var clientsPerAddressMax: Int { 12_000 }
    /// The most connections whose keepalive timers expire in the same tick of the kernel's timers. At 60 s of silence
    /// and 250 Hz a tick covers two seconds, in which a message reaches 260,000 connections.
    static var silentTogetherMax: Int { 262_144 }
    /// Pages that TCP counts for each socket while a small message is under way or waits to be read.
    static var pagesPerMessage: Int { 1 }

    /// The queue of connections that are established and not accepted yet.
    var acceptBacklog: Finding? {
        guard broker != nil else { return nil }
        return .atLeast(
            "net.core.somaxconn", machine.acceptBacklogMax, min(connectionCount, Self.acceptBacklog),
            note: "of each network namespace; the broker asks for \(Self.acceptBacklog.grouped)",
            remedies: remedies.networkSysctl("net.core.somaxconn", "\(Self.acceptBacklog)"))
    }

    /// The queue of handshakes under way. With SYN cookies (the default), a full queue loses TCP options but no
    /// connections, and only the backlog of the listener counts. Without SYN cookies the queue must have room for all
    /// clients that connect at once.
    var handshakeBacklog: Finding? {
        guard broker != nil else { return nil }
        let name = "net.ipv4.tcp_max_syn_backlog"
        if let cookies = machine.handshakeCookies, cookies != 0 {
            return Finding(
                name, .met, found: machine.handshakeBacklogMax?.grouped ?? "not readable", needed: "",
                note: "does not apply here: net.ipv4.tcp_syncookies is \(cookies)")
        }
        return .atLeast(
            name, machine.handshakeBacklogMax, min(connectionCount, Self.acceptBacklog),
            note: "applies here, because net.ipv4.tcp_syncookies is off",
            remedies: remedies.networkSysctl("net.ipv4.tcp_syncookies", "1")
                + remedies.networkSysctl(name, "\(Self.acceptBacklog)"))
    }

    /// The queue of packets of a CPU. Connections that fell silent within the same two seconds get their keepalive
    /// probes in the same tick of the kernel's timers. A CPU creates all of its probes before any is delivered. On the
    /// loopback device they wait in the queue of the CPU, and the kernel drops those that do not fit. This repeats
    /// until the broker's user time-out disconnects healthy clients. (The queue of a network card pushes back instead.)
    var packetBacklog: Finding? {
        guard clients != nil, broker != nil else { return nil }
        let name = "net.core.netdev_max_backlog"
        let needed = min(connectionCount, Self.silentTogetherMax)
        let note = "for each CPU; keepalive probes of local clients are sent together, the rest is dropped"
        guard let found = machine.packetBacklogMax else {
            return Finding(name, .unknown, found: "not readable", needed: needed.grouped, note: note)
        }
        return Finding(
            name, found >= needed ? .met : .advice, found: found.grouped, needed: needed.grouped, note: note,
            remedies: found >= needed ? [] : remedies.hostSysctl(name, "\(needed)"))
    }

    /// The memory of socket buffers. Idle sockets have none. A message to all connections takes a page for each socket
    /// that has not read it yet. TCP counts it against tcp_mem, for the sockets of all namespaces together.
    var tcpMemory: Finding? {
        let name = "net.ipv4.tcp_mem"
        let needed = connectionCount * Self.pagesPerMessage
        guard let pages = machine.tcpPages else {
            return Finding(
                name, .unknown, found: "not readable", needed: "\(needed.grouped) pages",
                note: machine.surroundings.isContainer ? "a value of the host, not shown in containers" : "")
        }
        let values = "\(needed * 3 / 4) \(needed) \(needed * 3 / 2)"
        let isMet = pages[2] >= needed
        return Finding(
            name, isMet ? .met : .advice, found: "\(pages[2].grouped) pages", needed: "\(needed.grouped) pages",
            note: "idle sockets take none; a message to all connections takes a page for each that has not read it yet",
            remedies: isMet ? [] : remedies.hostSysctl(name, values))
    }

    /// The initial size of socket buffers. Idle sockets have none, so larger values than the kernel's defaults have no
    /// use. They only let each peer that does not read take more memory.
    func buffers(_ name: String, _ sizes: [Int]?, _ initialMax: Int) -> Finding? {
        guard let sizes else { return Finding(name, .unknown, found: "not readable", needed: "") }
        let found = sizes.map(\.grouped).joined(separator: " ")
        let isMet = sizes[1] <= initialMax
        return Finding(
            name, isMet ? .met : .advice, found: found, needed: "at first at most \(initialMax.grouped)",
            note: "idle sockets take none; for each peer that does not read, the kernel keeps this much",
            remedies: isMet ? [] : remedies.networkSysctl(name, "\(sizes[0]) \(initialMax) \(sizes[2])"))
    }

    private var portCount: Int? { machine.portRange.map { $0.count - machine.reservedPortCount } }

    /// The local ports of clients on this machine. For each address that they connect to, they can use the whole range.
    var ports: Finding? {
        let name = "net.ipv4.ip_local_port_range"
        guard clients != nil else { return nil }
        guard let range = machine.portRange, let portCount else {
            return Finding(name, .unknown, found: "not readable", needed: "")
        }
        let needed = min(connectionCount, Self.clientsPerAddressMax) * 2
        let isMet = portCount >= needed
        let addressCount = (connectionCount + Self.clientsPerAddressMax - 1) / Self.clientsPerAddressMax
        return Finding(
            name, isMet ? .met : .missing,
            found: "\(range.lowerBound) \(range.upperBound) (\(portCount.grouped) ports for each address)",
            needed: "\(needed.grouped) ports for each of \(addressCount.grouped) addresses",
            note: addressCount > 1
                ? "clients connect to 127.0.0.1, 127.0.0.2 and so on: connect(2) slows down when half of the ports are taken"
                : "connect(2) slows down when half of the ports are taken",
            remedies: isMet ? [] : remedies.networkSysctl(name, "16384 60999"))
    }

    /// Whether the broker listens on all addresses that the clients of this machine need.
    var addresses: Finding? {
        guard let broker, clients != nil, connectionCount > Self.clientsPerAddressMax else { return nil }
        return Finding(
            "listeners", broker.listensOnEveryAddress ? .met : .missing,
            found: broker.listensOnEveryAddress ? "every address" : "single addresses", needed: "every address",
            note: "connect(2) is slow for more than \(Self.clientsPerAddressMax.grouped) clients to one address",
            remedies: broker.listensOnEveryAddress ? [] : ["--listen 0.0.0.0:61613"])
    }

    /// The records of a firewall that tracks connections: one for each.
    var tracking: Finding? {
        guard let trackedMax = machine.trackedMax else { return nil }
        let name = "net.netfilter.nf_conntrack_max"
        let needed = (machine.trackedCount ?? 0) + connectionCount + connectionCount / 10
        guard trackedMax < needed else {
            return Finding(name, .met, found: trackedMax.grouped, needed: needed.grouped)
        }
        let isIdle = machine.trackedCount == 0
        return Finding(
            name, isIdle ? .advice : .missing, found: trackedMax.grouped, needed: needed.grouped,
            note: isIdle
                ? "nothing is tracked now; it matters if a firewall rule tracks connections"
                : "\((machine.trackedCount ?? 0).grouped) connections are tracked now; beyond the limit new ones are dropped",
            remedies: remedies.hostSysctl(name, "\(needed)")
                + ["exclude the port: iptables -t raw -A PREROUTING -p tcp --dport 61613 -j NOTRACK"])
    }
}
