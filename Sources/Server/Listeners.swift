import Broker
import Configuration
import Drivers
import Glibc
import IO

/// The listeners of the broker, bound and listening.
struct Listeners {
    /// What the core knows of each, by `ListenerID`.
    private(set) var options: [ListenerOptions] = []
    /// The listening sockets of each worker, which belong to its driver.
    private(set) var descriptors: [[Int32]]
    /// Those of Unix sockets, which are there as long as the broker runs.
    private var files: [UnixSocketFile] = []

    init(_ settings: Settings, workerCount: Int) throws(DriverError) {
        descriptors = [[Int32]](repeating: [], count: workerCount)
        do throws(DriverError) {
            for listener in settings.listeners {
                try add(listener, settings.driverOptions, workerCount: workerCount)
            }
        } catch {
            for fd in descriptors.joined() { close(fd) }
            throw error
        }
    }

    private mutating func add(
        _ listener: ListenerSettings, _ driverOptions: DriverOptions, workerCount: Int
    ) throws(DriverError) {
        var group: ListenerGroup
        switch listener.url.place {
        case .network(let address):
            group = try ListenerGroup(
                address: address.description, workerCount: workerCount, options: driverOptions)
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
    }

    /// Removes the files of Unix sockets. To be called when no worker listens any more.
    mutating func removeFiles() { files.removeAll() }
}
