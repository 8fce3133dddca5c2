/// Memory of the kernel in bytes, for all processes together. The difference of two readings is the cost of
/// connections: of both ends, if both are on this machine.
public struct KernelMemory: Codable, Sendable, Equatable {
    /// Sockets, their inodes, ports and buffers.
    public var sockets = 0
    /// Files and directory entries. Sockets have them even with direct descriptors.
    public var files = 0
    /// Waiting requests of io_uring.
    public var requests = 0
    /// The items of epoll for the descriptors that it watches.
    public var watches = 0
    /// All other slabs, including those of kmalloc.
    public var otherSlabs = 0
    /// Stacks, page tables and per-CPU memory.
    public var others = 0

    public init() {}

    public var total: Int { sockets + files + requests + watches + otherSlabs + others }

    public static var current: KernelMemory {
        KernelMemory(slabinfo: ServerProcess.text("/proc/slabinfo"), meminfo: ServerProcess.text("/proc/meminfo"))
    }

    /// - Parameters:
    ///   - slabinfo: /proc/slabinfo, which only root may read; without it all slabs are `otherSlabs`.
    ///   - meminfo: /proc/meminfo.
    init(slabinfo: String, meminfo: String) {
        for line in slabinfo.split(separator: "\n") {
            let fields = line.split(separator: " ", maxSplits: 4)
            guard fields.count > 4, let count = Int(fields[2]), let byteCount = Int(fields[3]) else { continue }
            self[keyPath: Self.part(of: fields[0])] += count * byteCount
        }
        let kibibytes = Self.fields(of: meminfo)
        // The rest that slabinfo does not list: the rounding to pages.
        otherSlabs += max(0, (kibibytes["Slab"] ?? 0) * 1024 - (sockets + files + requests + watches + otherSlabs))
        for name in ["KernelStack", "PageTables", "Percpu"] { others += (kibibytes[name] ?? 0) * 1024 }
    }

    private static func part(of slab: Substring) -> WritableKeyPath<KernelMemory, Int> {
        switch slab {
        case "io_kiocb": \.requests
        case "filp", "dentry": \.files
        case "TCP", "TCPv6", "sock_inode_cache", "tcp_bind_bucket", "tcp_bind2_bucket": \.sockets
        default:
            if slab.hasPrefix("eventpoll_") || slab == "ep_head" {
                \.watches
            } else if slab.hasPrefix("skbuff_") || slab.hasPrefix("request_sock_TCP") {
                \.sockets
            } else {
                \.otherSlabs
            }
        }
    }

    private static func fields(of meminfo: String) -> [String: Int] {
        var fields: [String: Int] = [:]
        for line in meminfo.split(separator: "\n") {
            let parts = line.split(separator: ":")
            guard parts.count == 2 else { continue }
            fields[String(parts[0])] = parts[1].split(separator: " ").first.flatMap { Int($0) }
        }
        return fields
    }

    public static func - (later: KernelMemory, earlier: KernelMemory) -> KernelMemory {
        var difference = KernelMemory()
        for part in [\.sockets, \.files, \.requests, \.watches, \.otherSlabs, \.others]
            as [WritableKeyPath<KernelMemory, Int>]
        {
            difference[keyPath: part] = later[keyPath: part] - earlier[keyPath: part]
        }
        return difference
    }

    /// The part of one end, if `self` is the growth for connections with both ends on this machine.
    ///
    /// Both ends have the same sockets and files. Requests belong to ends on io_uring, watches to ends on epoll. The
    /// rest cannot be attributed, so each end gets half.
    ///
    /// - Returns: `waiting` is the memory for waiting for the next byte. It is a part of `total`.
    public func share(onURing: Bool, otherOnURing: Bool) -> (total: Int, waiting: Int) {
        let waiting =
            onURing ? requests / (otherOnURing ? 2 : 1) : watches / (otherOnURing ? 1 : 2)
        return ((sockets + files + otherSlabs + others) / 2 + waiting, waiting)
    }
}
