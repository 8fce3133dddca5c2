import Broker
import Configuration
import Drivers
import Glibc
import IO
import Transports

/// The listeners of the broker, bound and listening.
struct Listeners {
    /// What the core knows of each, by `ListenerID`.
    private(set) var options: [ListenerOptions] = []
    /// What comes between the sockets of each and the core, by `ListenerID`.
    private(set) var transports: [ListenerTransport] = []
    /// The listening sockets of each worker, which belong to its driver.
    private(set) var descriptors: [[Int32]]
    /// Those of Unix sockets, which are there as long as the broker runs.
    private var files: [UnixSocketFile] = []

    init(_ settings: Settings, workerCount: Int) throws(DriverError) {
        descriptors = [[Int32]](repeating: [], count: workerCount)
        do throws(DriverError) {
            for listener in settings.listeners {
                try add(listener, settings, workerCount: workerCount)
            }
        } catch {
            for fd in descriptors.joined() { close(fd) }
            throw error
        }
    }

    private mutating func add(
        _ listener: ListenerSettings, _ settings: Settings, workerCount: Int
    ) throws(DriverError) {
        var group: ListenerGroup
        switch listener.url.place {
        case .network(let address):
            group = try ListenerGroup(
                address: address.description, workerCount: workerCount, options: settings.driverOptions)
        case .unix(let path):
            let file = try UnixSocketFile(
                UnixSocketOptions(
                    path: path, mode: UInt32(listener.socketMode), owner: listener.socketOwner,
                    group: listener.socketGroup))
            group = try ListenerGroup(unix: file, workerCount: workerCount)
            files.append(file)
        }
        for worker in 0..<workerCount { descriptors[worker].append(group.take(worker: worker)) }
        var options = ListenerOptions(address: listener.url.text(boundTo: group.boundAddress))
        options.transport = listener.transport
        options.isUnix = listener.isUnix
        options.connectionCountMax = listener.connectionCountMax
        options.hasLenientHeartBeats = listener.hasLenientHeartBeats
        self.options.append(options)
        transports.append(
            ListenerTransport(
                listener, boundAddress: group.boundAddress, settings.broker.limits, workerCount: workerCount))
    }

    /// Removes the files of Unix sockets, and listens no more there, but for what workers have to close yet.
    mutating func removeFiles() { files.removeAll() }
}

extension ListenerTransport {
    /// - Parameter boundAddress: "127.0.0.1:15674".
    fileprivate init(
        _ listener: ListenerSettings, boundAddress: String, _ limits: Limits, workerCount: Int
    ) {
        self.init()
        kind = listener.transport
        isUnix = listener.isUnix
        paths = listener.url.path.map { [$0] } ?? listener.paths
        origins = OriginRules(
            origins: listener.origins, ownHosts: Self.ownHosts(listener, boundAddress: boundAddress),
            isUnspecified: listener.isUnspecified)
        messageByteCountMax = max(messageByteCountMax, limits.bodyByteCountMax + 2 * limits.headersByteCountMax)
        compression.isOn = listener.compresses
        compression.takesOverContext = listener.compressesWithContext
        compression.windowBits = listener.compressionWindowBits
        compression.messageByteCountMin = listener.compressedByteCountMin
        compression.memoryByteCountMax = listener.compressionMemoryByteCountMax / workerCount
        compression.smallByteCount = limits.bodyByteCountMax + 2 * limits.headersByteCountMax
        switch listener.proxies {
        case .none: break
        case .anyone: expectsProxyHeader = true
        case .networks(let networks):
            expectsProxyHeader = true
            proxies = networks.compactMap { AddressRange($0.description) }
        }
    }

    /// The hosts by which a page may know the listener. A Unix socket has none: its pages come through a web server, and
    /// have to be named.
    private static func ownHosts(_ listener: ListenerSettings, boundAddress: String) -> [String] {
        guard !listener.isUnix, let colon = boundAddress.lastIndex(of: ":") else { return [] }
        let loopback = ["localhost", "127.0.0.1", "[::1]"]
        if listener.isLoopback { return loopback + [String(boundAddress[..<colon])] }
        guard listener.isUnspecified else { return [String(boundAddress[..<colon])] }
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return loopback }
        return loopback + [String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)]
    }
}
