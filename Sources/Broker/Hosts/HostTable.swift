import IO
import Slabs

/// Which hosts there are, and which one each session of a worker has chosen with CONNECT.
///
/// Off, it holds nothing: the header `host` is not looked at, and all sessions are with the standard host.
struct HostTable: ~Copyable {
    /// Hosts are configured.
    let isOn: Bool
    /// By number; 0 is the standard host.
    private let hosts: [HostOptions]
    private let numbers: [[UInt8]: UInt16]
    /// By number: what the names of its destinations begin with. Owned.
    private let prefixes: [UnsafeRawBufferPointer]
    /// Of clients that name none.
    private let fallback: UInt16
    private let usages: HostUsages
    /// By session.
    private var sessions: [Choice] = []

    private struct Choice: BitwiseCopyable {
        var number: UInt16 = 0
        /// It is one of its host's connections.
        var isCounted = false
    }

    /// What becomes of a session at its host.
    enum Entrance: Equatable {
        case entered
        /// The host has as many connections already.
        case tooManyConnections(max: Int)
    }

    /// - Parameters:
    ///   - options: none: hosts are off. The standard host may be among them.
    ///   - fallback: the name of one of them, or the standard host's.
    init(_ options: [HostOptions], fallback: String, _ usages: HostUsages) {
        isOn = !options.isEmpty
        let standard = options.first { $0.name == HostOptions.standardName }
        hosts =
            [standard ?? HostOptions(name: HostOptions.standardName)]
            + options.filter { $0.name != HostOptions.standardName }
        var numbers: [[UInt8]: UInt16] = [:]
        for (number, host) in hosts.enumerated() {
            for name in [host.name] + host.aliases { numbers[Array(name.utf8)] = UInt16(number) }
        }
        self.numbers = numbers
        self.fallback = numbers[Array(fallback.utf8)] ?? 0
        prefixes = hosts.map { host in
            let bytes = HostName.prefix(host.name)
            let room = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 1)
            room.copyBytes(from: bytes)
            return UnsafeRawBufferPointer(start: room.baseAddress, count: bytes.count)
        }
        self.usages = usages
    }

    deinit {
        for prefix in prefixes { prefix.baseAddress?.deallocate() }
    }

    // MARK: Sessions

    /// The session's client has named a host, or (nil, or empty) none. False: there is no such host.
    mutating func choose(_ session: Index<Session>, _ name: UnsafeRawBufferPointer?) -> Bool {
        var number: UInt16? = fallback
        if let name, name.count > 0 { number = numbers[Array(name)] }
        let place = Int(session.rawValue)
        while sessions.count <= place { sessions.append(Choice()) }
        invariant(!sessions[place].isCounted, "a session chooses its host once")
        // Else it would be that of an earlier session.
        sessions[place].number = number ?? 0
        return number != nil
    }

    /// The client may be connected: its session is one of its host's from now on.
    mutating func enter(_ session: Index<Session>) -> Entrance {
        let place = Int(session.rawValue)
        let host = hosts[Int(sessions[place].number)]
        let count = usages[Int(sessions[place].number)].enter()
        guard host.connectionCountMax == 0 || count <= host.connectionCountMax else {
            usages[Int(sessions[place].number)].leave()
            return .tooManyConnections(max: host.connectionCountMax)
        }
        sessions[place].isCounted = true
        return .entered
    }

    /// The session ends. What it has subscribed to may end later.
    mutating func leave(_ session: Index<Session>) {
        let place = Int(session.rawValue)
        guard place < sessions.count, sessions[place].isCounted else { return }
        sessions[place].isCounted = false
        usages[Int(sessions[place].number)].leave()
    }

    @inline(__always)
    private func number(of session: Index<Session>) -> Int {
        let place = Int(session.rawValue)
        return place < sessions.count ? Int(sessions[place].number) : 0
    }

    /// What the names of the session's destinations begin with.
    @inline(__always)
    func prefix(of session: Index<Session>) -> UnsafeRawBufferPointer {
        isOn ? prefixes[number(of: session)] : UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// Its number in `HostStorage`.
    @inline(__always)
    func storageNumber(of session: Index<Session>) -> UInt16 { UInt16(number(of: session)) }

    /// The session's host.
    mutating func options(of session: Index<Session>) -> HostOptions { hosts[number(of: session)] }

    mutating func name(of session: Index<Session>) -> String { hosts[number(of: session)].name }

    /// Clients that name no host are with the session's.
    mutating func isDefault(_ session: Index<Session>) -> Bool { number(of: session) == Int(fallback) }

    // MARK: What hosts use

    /// - Parameter hasStore: messages are stored.
    mutating func storage(hasStore: Bool) -> HostStorage { HostStorage(hosts, isOn: isOn && hasStore, usages) }

    mutating func subscriptionCount(of session: Index<Session>) -> Int {
        usages[number(of: session)].subscriptionCount
    }

    mutating func addSubscription(_ session: Index<Session>) { usages[number(of: session)].addSubscription() }

    mutating func removeSubscription(_ session: Index<Session>) { usages[number(of: session)].removeSubscription() }

    /// Returns nanoseconds for which the session is not to be read. 0: none.
    mutating func spendFrame(_ session: Index<Session>, now: UInt64) -> UInt64 {
        let number = number(of: session)
        let most = hosts[number].framesPerSecondMax
        return most == 0 ? 0 : usages[number].frames.spend(1, perSecondMax: most, now: now)
    }

    mutating func spendBytes(_ session: Index<Session>, _ count: Int, now: UInt64) -> UInt64 {
        let number = number(of: session)
        let most = hosts[number].bytesPerSecondMax
        return most == 0 ? 0 : usages[number].bytes.spend(count, perSecondMax: most, now: now)
    }

    // MARK: Reports

    /// What each host uses: for reports.
    var figures: [HostFigures] {
        hosts.indices.map {
            HostFigures(
                name: hosts[$0].name, connectionCount: usages[$0].connectionCount,
                subscriptionCount: usages[$0].subscriptionCount, storedByteCount: usages[$0].storedByteCount)
        }
    }
}
