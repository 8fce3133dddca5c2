/// The limits of a machine and of the environment of this process: plain values, read once.
///
/// nil: the value cannot be read (no such file, no permission, an older kernel). `Int.max`: unlimited.
public struct MachineSnapshot: Sendable, Equatable {
    /// "6.18.0-generic", and its first two numbers.
    public var kernelRelease = ""
    public var kernelVersion = KernelVersion(0, 0)
    public var surroundings = Surroundings.machine
    /// seccomp(2) filters the system calls of this process.
    public var isFiltered = false
    /// CapEff of this process: one bit per capability (capabilities(7)).
    public var capabilities: UInt64 = 0
    /// Why io_uring is not available, as text. nil: it is available.
    public var ringRefusal: String?

    // Limits of this process: soft and hard, getrlimit(2).
    public var descriptors = ResourceLimit(soft: .max, hard: .max)
    public var lockedBytes = ResourceLimit(soft: .max, hard: .max)

    // Sysctls, by their names.
    /// fs.file-max, and how many files are open now (the first of fs.file-nr).
    public var fileMax: Int?
    public var fileCount: Int?
    /// fs.nr_open
    public var descriptorCeiling: Int?
    /// fs.epoll.max_user_watches
    public var epollWatchMax: Int?
    /// kernel.io_uring_disabled
    public var ringPolicy: Int?
    /// net.core.somaxconn
    public var acceptBacklogMax: Int?
    /// net.core.netdev_max_backlog
    public var packetBacklogMax: Int?
    /// net.ipv4.tcp_max_syn_backlog
    public var handshakeBacklogMax: Int?
    /// net.ipv4.tcp_syncookies
    public var handshakeCookies: Int?
    /// net.ipv4.tcp_mem, in pages: no pressure below the first, pressure from the second, refusal from the third.
    public var tcpPages: [Int]?
    /// net.ipv4.tcp_rmem and tcp_wmem, in bytes: minimum, initial size, maximum.
    public var receiveBuffer: [Int]?
    public var sendBuffer: [Int]?
    /// net.ipv4.ip_local_port_range, and how many of them are reserved (ip_local_reserved_ports).
    public var portRange: ClosedRange<Int>?
    public var reservedPortCount = 0
    /// net.netfilter.nf_conntrack_max and nf_conntrack_count; nil: connection tracking is not loaded.
    public var trackedMax: Int?
    public var trackedCount: Int?
    /// vm.max_map_count
    public var mappingMax: Int?
    /// vm.overcommit_memory
    public var overcommit: Int?

    // Memory, in bytes.
    public var memoryAvailable: Int?
    /// The least memory that the limits of the cgroups of this process leave. nil: no limit.
    public var groupMemoryLeft: Int?
    public var pageByteCount = 4096

    public init() {}

    public func has(_ capability: Capability) -> Bool { capabilities & 1 << UInt64(capability.rawValue) != 0 }
}

/// The capabilities that lift a limit (capabilities(7)).
public enum Capability: Int, Sendable {
    case ipcLock = 14
    case sysResource = 24
}

public struct ResourceLimit: Sendable, Equatable {
    public var soft: Int
    public var hard: Int

    public init(soft: Int, hard: Int) {
        self.soft = soft
        self.hard = hard
    }
}

public struct KernelVersion: Sendable, Equatable, Comparable, CustomStringConvertible {
    public var major: Int
    public var minor: Int

    public init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// - Parameter release: as uname(2) returns it: "6.1.0-18-amd64".
    public init(release: String) {
        let numbers = release.split { !$0.isNumber }.prefix(2).map { Int($0) ?? 0 }
        self.init(numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
    }

    public static func < (left: KernelVersion, right: KernelVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    public var description: String { "\(major).\(minor)" }
}

/// The environment of a process. It decides who can change a limit, and how.
public enum Surroundings: Sendable, Equatable, CustomStringConvertible {
    case machine
    case docker
    case podman
    case kubernetes
    /// Another container, with the name of its container manager.
    case container(String)

    public var isContainer: Bool { self != .machine }

    public var description: String {
        switch self {
        case .machine: "no sign of a container"
        case .docker: "a container (Docker)"
        case .podman: "a container (Podman)"
        case .kubernetes: "a container (Kubernetes)"
        case .container(let name): "a container (\(name))"
        }
    }
}
