import Glibc

/// Returns the text of a file of /proc or /sys, given its path. nil: there is no such file.
public typealias SystemFiles = (_ path: String) -> String?

extension MachineSnapshot {
    /// The values of this machine, as this process sees them.
    ///
    /// - Parameter ringRefusal: why io_uring is not available, from the self-test of the drivers. nil: it is available.
    public static func ofThisMachine(ringRefusal: String?) -> MachineSnapshot {
        var snapshot = MachineSnapshot(files: contents)
        snapshot.descriptors = limit(RLIMIT_NOFILE)
        snapshot.lockedBytes = limit(__RLIMIT_MEMLOCK)
        snapshot.pageByteCount = sysconf(Int32(_SC_PAGESIZE))
        snapshot.ringRefusal = ringRefusal
        return snapshot
    }

    /// Reads all values that are in `files`. Values of system calls such as getrlimit(2) keep their defaults.
    public init(files: SystemFiles) {
        func words(_ path: String) -> [Int]? {
            files(path).map { $0.split(whereSeparator: \.isWhitespace).compactMap(Self.number) }
        }
        func sysctl(_ name: String) -> Int? { words("/proc/sys/\(name)")?.first }
        func three(_ name: String) -> [Int]? { words("/proc/sys/\(name)").flatMap { $0.count == 3 ? $0 : nil } }

        kernelRelease = files("/proc/sys/kernel/osrelease")?.trimmed ?? ""
        kernelVersion = KernelVersion(release: kernelRelease)
        surroundings = Surroundings(files: files)
        let status = files("/proc/self/status") ?? ""
        isFiltered = Self.field("Seccomp", in: status).map { $0 != "0" } ?? false
        capabilities = Self.field("CapEff", in: status).flatMap { UInt64($0, radix: 16) } ?? 0

        fileMax = sysctl("fs/file-max")
        fileCount = sysctl("fs/file-nr")
        descriptorCeiling = sysctl("fs/nr_open")
        epollWatchMax = sysctl("fs/epoll/max_user_watches")
        ringPolicy = sysctl("kernel/io_uring_disabled")
        acceptBacklogMax = sysctl("net/core/somaxconn")
        packetBacklogMax = sysctl("net/core/netdev_max_backlog")
        handshakeBacklogMax = sysctl("net/ipv4/tcp_max_syn_backlog")
        handshakeCookies = sysctl("net/ipv4/tcp_syncookies")
        tcpPages = three("net/ipv4/tcp_mem")
        receiveBuffer = three("net/ipv4/tcp_rmem")
        sendBuffer = three("net/ipv4/tcp_wmem")
        if let range = words("/proc/sys/net/ipv4/ip_local_port_range"), range.count == 2, range[0] <= range[1] {
            portRange = range[0]...range[1]
            reservedPortCount = Self.reservedCount(
                files("/proc/sys/net/ipv4/ip_local_reserved_ports") ?? "", within: range[0]...range[1])
        }
        trackedMax = sysctl("net/netfilter/nf_conntrack_max")
        trackedCount = sysctl("net/netfilter/nf_conntrack_count")
        mappingMax = sysctl("vm/max_map_count")
        overcommit = sysctl("vm/overcommit_memory")
        memoryAvailable = files("/proc/meminfo").flatMap { Self.field("MemAvailable", in: $0) }
            .flatMap { Int($0.prefix { $0.isNumber }) }.map { $0 * 1024 }
        groupMemoryLeft = Self.groupMemoryLeft(files)
    }

    /// Numbers beyond 63 bits become the largest integer (fs.file-max is 2^63 - 1 by default under systemd).
    private static func number(_ text: Substring) -> Int? {
        UInt64(text).map { Int(clamping: $0) } ?? Int(text)
    }

    /// The value of a line "Name:   value".
    private static func field(_ name: String, in text: String) -> String? {
        text.split(separator: "\n").first { $0.hasPrefix("\(name):") }
            .map { String($0.dropFirst(name.count + 1)).trimmed }
    }

    /// The number of ports of a list such as "8080,9148-9150" that are in the range.
    private static func reservedCount(_ list: String, within range: ClosedRange<Int>) -> Int {
        list.trimmed.split(separator: ",").reduce(0) { sum, item in
            let ends = item.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, first <= last else { return sum }
            return sum + max(0, min(last, range.upperBound) - max(first, range.lowerBound) + 1)
        }
    }

    /// The memory that the cgroup of this process and all cgroups above it leave. A limit of a cgroup also applies to
    /// all cgroups below it, so all levels up to the root are read. Version 2: memory.max and memory.current. Version
    /// 1: memory.limit_in_bytes, a number near 2^63 if there is no limit.
    private static func groupMemoryLeft(_ files: SystemFiles) -> Int? {
        let lines = (files("/proc/self/cgroup") ?? "").split(separator: "\n").map {
            $0.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
        }
        let unlimited = 1 << 60
        var least: Int?
        func ask(_ root: String, _ path: Substring, _ limitName: String, _ usageName: String) {
            var levels = path.split(separator: "/")
            for _ in 0...levels.count {
                let directory = ([root] + levels.map(String.init)).joined(separator: "/")
                if let limit = files("\(directory)/\(limitName)").flatMap({ number($0.trimmed[...]) }),
                    limit < unlimited
                {
                    let usage = files("\(directory)/\(usageName)").flatMap { number($0.trimmed[...]) } ?? 0
                    least = min(least ?? .max, max(limit - usage, 0))
                }
                if !levels.isEmpty { levels.removeLast() }
            }
        }
        for line in lines where line.count == 3 {
            if line[0] == "0", line[1].isEmpty {
                ask("/sys/fs/cgroup", line[2], "memory.max", "memory.current")
            } else if line[1].split(separator: ",").contains("memory") {
                ask("/sys/fs/cgroup/memory", line[2], "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
        }
        return least
    }

    private static func limit(_ resource: __rlimit_resource) -> ResourceLimit {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(resource.rawValue), &limits) == 0 else {
            return ResourceLimit(soft: .max, hard: .max)
        }
        return ResourceLimit(soft: Int(clamping: limits.rlim_cur), hard: Int(clamping: limits.rlim_max))
    }

    /// The contents of a file of /proc or /sys, up to 64 KiB.
    public static func contents(_ path: String) -> String? {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        let byteCountMax = 64 << 10
        var bytes = [UInt8](repeating: 0, count: byteCountMax)
        var count = 0
        while count < byteCountMax {
            let taken = bytes.withUnsafeMutableBytes { read(fd, $0.baseAddress! + count, byteCountMax - count) }
            if taken <= 0 { break }
            count += taken
        }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}

extension Surroundings {
    public init(files: SystemFiles) {
        let environment = files("/proc/1/environ") ?? ""
        let groups = (files("/proc/1/cgroup") ?? "") + (files("/proc/self/cgroup") ?? "")
        // Kubernetes is checked first, because its containers also look like those of the container runtime.
        if files("/var/run/secrets/kubernetes.io/serviceaccount/namespace") != nil
            || environment.contains("KUBERNETES_SERVICE_HOST=") || groups.contains("kubepods")
        {
            self = .kubernetes
        } else if files("/.dockerenv") != nil {
            self = .docker
        } else if files("/run/.containerenv") != nil {
            self = .podman
        } else if let name = ["docker", "libpod", "containerd", "lxc"].first(where: { groups.contains($0) }) {
            self = name == "docker" ? .docker : name == "libpod" ? .podman : .container(name)
        } else if let start = environment.firstRange(of: "container=") {
            // systemd(1): a container manager names itself in this variable of process 1.
            self = .container(String(environment[start.upperBound...].prefix { $0 != "\0" }))
        } else {
            self = .machine
        }
    }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text.drop(while: \.isWhitespace))
    }
}
