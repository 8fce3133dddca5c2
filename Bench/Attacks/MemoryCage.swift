import CProcess
import Glibc
import Synchronization

/// Limits the memory of a running process: with a control group if that is allowed, else with RLIMIT_DATA. The kernel
/// kills a process that exceeds its control group.
///
/// A broker reserves address space for the largest size of its tables (`MAP_NORESERVE`), so RLIMIT_AS cannot limit its
/// memory. RLIMIT_DATA limits only what it maps later than the reservations; then `peakByteCount` shows the real use.
public final class MemoryCage: Sendable {
    public enum Kind: Sendable, Equatable {
        /// cgroup v1, controller `memory`: the group's directory.
        case version1(String)
        /// cgroup v2: the group's directory.
        case version2(String)
        case dataLimit
    }

    public let kind: Kind
    public let process: Int32
    public let byteCountMax: Int
    private static let count = Atomic(0)

    /// Limits a process. Only memory that it takes from now on counts. A broker that has just started has little.
    public init(process: Int32, byteCountMax: Int) {
        self.process = process
        self.byteCountMax = byteCountMax
        let name = "stampede-cage-\(getpid())-\(Self.count.add(1, ordering: .relaxed).newValue)"
        kind =
            Self.version1(name, process, byteCountMax) ?? Self.version2(name, process, byteCountMax)
            ?? Self.dataLimit(process, byteCountMax)
    }

    /// The process has already ended, or stays in its group.
    deinit {
        switch kind {
        case .version1(let path), .version2(let path): rmdir(path)
        case .dataLimit: break
        }
    }

    public var summary: String {
        switch kind {
        case .version1: "cgroup v1, memory.limit_in_bytes"
        case .version2: "cgroup v2, memory.max"
        case .dataLimit: "RLIMIT_DATA (no control group can be made here), and the peak of the resident memory"
        }
    }

    /// The peak memory of the process. With a group: of the group, including the kernel's memory.
    public var peakByteCount: Int {
        switch kind {
        case .version1(let path): ProcFile.number("\(path)/memory.max_usage_in_bytes") ?? 0
        case .version2(let path): ProcFile.number("\(path)/memory.peak") ?? ProcFile.residentPeakByteCount(of: process)
        case .dataLimit: ProcFile.residentPeakByteCount(of: process)
        }
    }

    /// How often the OOM killer has acted in the group.
    public var killCount: Int {
        switch kind {
        case .version1(let path): ProcFile.field("oom_kill", in: "\(path)/memory.oom_control") ?? 0
        case .version2(let path): ProcFile.field("oom_kill", in: "\(path)/memory.events") ?? 0
        case .dataLimit: 0
        }
    }

    // MARK: Making a group

    private static func version1(_ name: String, _ process: Int32, _ byteCountMax: Int) -> Kind? {
        guard
            let mount = ProcFile.mounts.first(where: { $0.type == "cgroup" && $0.options.contains("memory") })?.path
        else { return nil }
        let own = ProcFile.ownGroup { $0.contains("memory") } ?? "/"
        for parent in [mount + own, mount] {
            let path = "\(parent)/\(name)"
            guard mkdir(path, 0o755) == 0 else { continue }
            if ProcFile.write("\(byteCountMax)", to: "\(path)/memory.limit_in_bytes"),
                ProcFile.write("\(process)", to: "\(path)/cgroup.procs")
            {
                return .version1(path)
            }
            rmdir(path)
        }
        return nil
    }

    private static func version2(_ name: String, _ process: Int32, _ byteCountMax: Int) -> Kind? {
        guard let mount = ProcFile.mounts.first(where: { $0.type == "cgroup2" })?.path else { return nil }
        let own = ProcFile.ownGroup { $0.isEmpty } ?? "/"
        for parent in [mount + own, mount] {
            let path = "\(parent)/\(name)"
            // Refused if processes are in the group itself. The controller may already be enabled, so this is no error.
            _ = ProcFile.write("+memory", to: "\(parent)/cgroup.subtree_control")
            guard mkdir(path, 0o755) == 0 else { continue }
            if ProcFile.write("\(byteCountMax)", to: "\(path)/memory.max"),
                ProcFile.write("\(process)", to: "\(path)/cgroup.procs")
            {
                return .version2(path)
            }
            rmdir(path)
        }
        return nil
    }

    private static func dataLimit(_ process: Int32, _ byteCountMax: Int) -> Kind {
        let reserved = (ProcFile.field("VmData:", in: "/proc/\(process)/status") ?? 0) << 10
        _ = process_limit_data(process, UInt64(reserved + byteCountMax))
        return .dataLimit
    }
}
