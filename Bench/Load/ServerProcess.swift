import Glibc

/// A process and its statistics in /proc: CPU, memory, and time waited for a core.
public struct ServerProcess: Sendable {
    public let identifier: Int32

    public init(identifier: Int32) { self.identifier = identifier }

    /// The process that listens on a TCP port of this machine. nil: not found, for example because it belongs to
    /// another user.
    public init?(listeningOn port: UInt16) {
        let inodes = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap { Self.listenerInodes($0, port: port) }
        for name in Self.entries(of: "/proc") {
            guard let identifier = Int32(name) else { continue }
            for fd in Self.entries(of: "/proc/\(name)/fd") {
                guard let target = Self.linkTarget("/proc/\(name)/fd/\(fd)") else { continue }
                if inodes.contains(where: { target == "socket:[\($0)]" }) {
                    self.identifier = identifier
                    return
                }
            }
        }
        return nil
    }

    /// The current process.
    public static var current: ServerProcess { ServerProcess(identifier: getpid()) }

    /// Times in nanoseconds since the start of the process.
    public struct Times: Sendable {
        /// Time on a core, of all threads that exist now.
        public var running: UInt64 = 0
        /// Time runnable without a core.
        public var waiting: UInt64 = 0
        /// The division of `running` into user and system time, as the kernel estimates it.
        public var user: UInt64 = 0
        public var system: UInt64 = 0
        /// `running`, for each thread.
        var threads: [Substring: UInt64] = [:]

        static func - (later: Times, earlier: Times) -> Times {
            Times(
                running: later.running &- earlier.running, waiting: later.waiting &- earlier.waiting,
                user: later.user &- earlier.user, system: later.system &- earlier.system,
                threads: later.threads.reduce(into: [:]) { $0[$1.key] = $1.value &- (earlier.threads[$1.key] ?? 0) })
        }

        /// The time in which other processes had the core. It is not known for several busy threads, because they wait
        /// for each other.
        var waitingForOthers: UInt64 {
            let busiest = threads.values.max() ?? 0
            return busiest >= running / 10 * 9 ? waiting : 0
        }
    }

    public var times: Times {
        var times = Times()
        for thread in Self.entries(of: "/proc/\(identifier)/task") {
            let fields = Self.text("/proc/\(identifier)/task/\(thread)/schedstat").split(separator: " ")
            guard fields.count >= 2 else { continue }
            let running = UInt64(fields[0]) ?? 0
            times.running += running
            times.threads[thread[...]] = running
            times.waiting += UInt64(fields[1]) ?? 0
        }
        // The name, in parentheses, may contain spaces, so fields are counted after it.
        let fields = Self.text("/proc/\(identifier)/stat").split(separator: ")").last?.split(separator: " ") ?? []
        if fields.count > 12 {
            let tick = 1_000_000_000 / UInt64(max(sysconf(Int32(_SC_CLK_TCK)), 1))
            times.user = (UInt64(fields[11]) ?? 0) * tick
            times.system = (UInt64(fields[12]) ?? 0) * tick
        }
        return times
    }

    /// The resident memory of the process in bytes: VmRSS.
    public var residentByteCount: Int { Self.field("VmRSS", in: "/proc/\(identifier)/status") * 1024 }

    /// Whether the process has an io_uring.
    public var usesURing: Bool {
        Self.entries(of: "/proc/\(identifier)/fd").contains {
            Self.linkTarget("/proc/\(identifier)/fd/\($0)") == "anon_inode:[io_uring]"
        }
    }

    // MARK: Reading /proc

    static func field(_ name: String, in path: String) -> Int {
        let line = text(path).split(separator: "\n").first { $0.hasPrefix("\(name):") }
        return line.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0
    }

    private static func listenerInodes(_ path: String, port: UInt16) -> [Substring] {
        text(path).split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 9, fields[3] == "0A", let local = fields[1].split(separator: ":").last else {
                return nil
            }
            return UInt16(local, radix: 16) == port ? fields[9] : nil
        }
    }

    static func text(_ path: String) -> String {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return "" }
        defer { close(fd) }
        var bytes: [UInt8] = []
        let chunkByteCount = 64 << 10
        while true {
            let count = bytes.count
            bytes.append(contentsOf: repeatElement(0, count: chunkByteCount))
            let taken = bytes.withUnsafeMutableBytes { read(fd, $0.baseAddress! + count, chunkByteCount) }
            bytes.removeLast(chunkByteCount - max(taken, 0))
            if taken <= 0 { return String(decoding: bytes, as: UTF8.self) }
        }
    }

    private static func entries(of path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    private static func linkTarget(_ path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
        return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }
}
