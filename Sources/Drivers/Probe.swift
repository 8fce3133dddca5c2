internal import CURing
import Glibc
public import IO

/// Whether this process may use io_uring, and which of its features this kernel has.
public struct URingProbe: Sendable {
    public let isAvailable: Bool
    /// Sockets are plain descriptors, which count against RLIMIT_NOFILE.
    public let isPlain: Bool
    /// Why `auto` chooses epoll although io_uring is available: one line. Empty if it chooses io_uring.
    public let whyNotPreferred: String
    /// "single issuer, deferred task work (Linux 6.1 and later), min-wait", or empty.
    public let level: String
    /// The features as text, one line each.
    public let features: [String]
    /// Why io_uring is not available, and what to change: one line. Empty if it is available.
    public let reason: String

    /// Sets up small rings and tests them. The test runs once in a process; later calls return the same result.
    public static func run(descriptors: DriverOptions.Descriptors = .auto) -> URingProbe {
        #if URing
            return URingProbe(RingFeatures.ofThisKernel(descriptors))
        #else
            return URingProbe(reason: "built without io_uring (trait URing is off)")
        #endif
    }

    #if URing
        init(_ outcome: Result<RingFeatures, DriverError>) {
            switch outcome {
            case .success(let features): self.init(features)
            case .failure(let error): self.init(reason: error.description)
            }
        }

        private init(_ features: RingFeatures) {
            isAvailable = true
            isPlain = features.isPlain
            whyNotPreferred =
                features.level < .deferred
                ? "io_uring without deferred task work (Linux 6.1 and later) is no faster than epoll" : ""
            level = features.text
            self.features = features.lines
            reason = ""
        }
    #endif

    private init(reason: String) {
        isAvailable = false
        isPlain = false
        whyNotPreferred = ""
        level = ""
        features = []
        self.reason = reason
    }

    /// The result as text, one fact per line.
    public var lines: [String] {
        ["kernel: Linux \(kernelRelease())", "io_uring: \(isAvailable ? "available" : "not available: \(reason)")"]
            + features.map { "io_uring \($0)" }
            + [
                "descriptors: \(descriptorLimit()) (RLIMIT_NOFILE; it also limits the connections of "
                    + (isAvailable && !isPlain ? "one worker)" : "all workers together)")
            ]
    }
}

/// The driver that the operator asked for.
public enum DriverChoice: String, Sendable, CaseIterable {
    case auto, uring, epoll

    public enum Kind: String, Sendable {
        case uring, epoll
    }

    /// Chooses the driver. `auto` chooses io_uring if the self-test passes, else epoll.
    ///
    /// - Returns: the driver, and the reason for the choice in one line.
    /// - Throws: if `uring` was asked for and is not available.
    public func choose(
        descriptors: DriverOptions.Descriptors = .auto
    ) throws(DriverError) -> (kind: Kind, reason: String) {
        if self == .epoll { return (.epoll, "epoll was asked for") }
        return try choose(by: URingProbe.run(descriptors: descriptors))
    }

    /// - Precondition: the choice is not `epoll`, which needs no probe.
    func choose(by probe: URingProbe) throws(DriverError) -> (kind: Kind, reason: String) {
        if probe.isAvailable {
            if self == .auto, !probe.whyNotPreferred.isEmpty { return (.epoll, probe.whyNotPreferred) }
            return (.uring, probe.level)
        }
        guard self == .auto else {
            throw DriverError(.notSupported, "io_uring was asked for and is not available: \(probe.reason)")
        }
        return (.epoll, "io_uring is not available: \(probe.reason)")
    }
}

#if URing
    extension DriverError {
        /// The kernel refused a step of the set-up of a ring. The text says what to change. `errorNumber` 0: `step`
        /// names what is missing.
        static func ring(step: String, errorNumber: Int32) -> DriverError {
            let text =
                switch errorNumber {
                case 0: step
                case ENOSYS: "the kernel has no io_uring (ENOSYS); Linux 6.1 or later is needed"
                case EPERM, EACCES: forbidden(step: step, errorNumber: errorNumber)
                case ENOMEM:
                    "\(step): no memory (ENOMEM); raise `ulimit -l` (now \(lockedMemoryLimit())) or the memory "
                        + "limit, or lower io.uring.sq-entries and io.uring.cq-entries, or io.workers"
                case EMFILE, ENFILE: "\(step): the process has no descriptors left; raise `ulimit -n`"
                case EINVAL: "\(step): this kernel does not support it (EINVAL); Linux 6.1 or later is needed"
                default: "\(step): \(errorText(errorNumber))"
                }
            let reason: Reason =
                switch errorNumber {
                case ENOMEM: .noMemory
                case EMFILE, ENFILE: .noDescriptors
                default: .notSupported
                }
            return DriverError(reason, errorNumber: errorNumber, text)
        }

        private static func forbidden(step: String, errorNumber: Int32) -> String {
            switch firstByte(of: "/proc/sys/kernel/io_uring_disabled") {
            case UInt8(ascii: "2"): "forbidden by the sysctl kernel.io_uring_disabled = 2 (EPERM); set it to 0"
            case UInt8(ascii: "1"):
                "forbidden by the sysctl kernel.io_uring_disabled = 1 (EPERM); set it to 0, or join the group of "
                    + "kernel.io_uring_group"
            default:
                "\(step) is forbidden (\(errorNumber == EPERM ? "EPERM" : "EACCES")), most likely by a seccomp "
                    + "profile such as Docker's default; allow io_uring_setup, io_uring_enter and io_uring_register"
            }
        }

        private static func firstByte(of path: String) -> UInt8? {
            let fd = open(path, O_RDONLY | O_CLOEXEC)
            guard fd >= 0 else { return nil }
            defer { close(fd) }
            var byte: UInt8 = 0
            return read(fd, &byte, 1) == 1 ? byte : nil
        }

        private static func lockedMemoryLimit() -> String {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limit)
            return limit.rlim_cur == rlim_t.max ? "unlimited" : "\(limit.rlim_cur >> 10) KiB"
        }
    }
#endif
