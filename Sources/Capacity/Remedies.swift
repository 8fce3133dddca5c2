/// The commands and settings that raise a limit, depending on the environment of this process. On a machine the
/// operator runs them. For a container, whoever starts it must grant them.
struct Remedies {
    let surroundings: Surroundings

    /// A sysctl of the network namespace. A container has its own namespace, and whoever starts it sets the value.
    func networkSysctl(_ name: String, _ value: String) -> [String] {
        let quoted = value.contains(" ") ? "\"\(value)\"" : value
        switch surroundings {
        case .machine:
            return ["sysctl -w \(name)=\(quoted)"]
        case .docker:
            return ["docker run --sysctl \(name)=\(quoted) ... (with --network host: sysctl -w on the host)"]
        case .podman:
            return ["podman run --sysctl \(name)=\(quoted) ... (with --network host: sysctl -w on the host)"]
        case .kubernetes:
            return [
                "in the pod: securityContext: {sysctls: [{name: \(name), value: \"\(value)\"}]}; unless Kubernetes calls "
                    + "it safe, kubelet --allowed-unsafe-sysctls=\(name) too"
            ]
        case .container:
            return ["sysctl -w \(name)=\(quoted), by whoever starts the container, in its network namespace"]
        }
    }

    /// A sysctl of the whole machine. A container cannot set it for itself.
    func hostSysctl(_ name: String, _ value: String) -> [String] {
        let quoted = value.contains(" ") ? "\"\(value)\"" : value
        return ["\(surroundings.isContainer ? "on the host: " : "")sysctl -w \(name)=\(quoted)"]
    }

    /// - Parameter mayRaise: the process may raise its own hard limit (CAP_SYS_RESOURCE).
    func descriptors(_ count: Int, mayRaise: Bool) -> [String] {
        switch surroundings {
        case .machine:
            let shell = mayRaise ? "ulimit -n \(count)" : "as root: ulimit -n \(count), then start it from that shell"
            return [shell, "in the service of systemd: LimitNOFILE=\(count)"]
        case .docker: return ["docker run --ulimit nofile=\(count):\(count) ..."]
        case .podman: return ["podman run --ulimit nofile=\(count):\(count) ..."]
        case .kubernetes:
            return [
                "on the node, in the service of containerd or CRI-O: LimitNOFILE=\(count) (a pod cannot ask for it)"
            ]
        case .container: return ["RLIMIT_NOFILE \(count), by whoever starts the container"]
        }
    }

    func lockedMemory(_ byteCount: Int) -> [String] {
        switch surroundings {
        case .machine:
            return ["ulimit -l \(byteCount / 1024) (as root)", "in the service of systemd: LimitMEMLOCK=\(byteCount)"]
        case .docker: return ["docker run --ulimit memlock=\(byteCount):\(byteCount) ...", "--cap-add IPC_LOCK"]
        case .podman: return ["podman run --ulimit memlock=\(byteCount):\(byteCount) ...", "--cap-add IPC_LOCK"]
        case .kubernetes:
            return [
                "in the container: securityContext: {capabilities: {add: [IPC_LOCK]}}",
                "on the node, in the service of containerd or CRI-O: LimitMEMLOCK=\(byteCount)",
            ]
        case .container: return ["RLIMIT_MEMLOCK \(byteCount), or CAP_IPC_LOCK, by whoever starts the container"]
        }
    }

    func memory(_ byteCount: Int, isGroupLimit: Bool) -> [String] {
        let mebibytes = (byteCount >> 20) + 1
        guard isGroupLimit else { return ["more memory, or fewer connections"] }
        switch surroundings {
        case .machine: return ["in the service of systemd: MemoryMax=\(mebibytes)M, or no limit of the cgroup at all"]
        case .docker: return ["docker run --memory \(mebibytes)m ..."]
        case .podman: return ["podman run --memory \(mebibytes)m ..."]
        case .kubernetes: return ["in the container: resources: {limits: {memory: \(mebibytes)Mi}}"]
        case .container: return ["a memory limit of \(mebibytes) MiB, by whoever starts the container"]
        }
    }

    /// The system calls that a seccomp filter must allow.
    var ringFilter: [String] {
        let calls = "io_uring_setup, io_uring_enter and io_uring_register"
        switch surroundings {
        case .machine: return ["let the seccomp filter of the service pass them: SystemCallFilter=\(calls.spaced)"]
        case .docker, .podman:
            let program = surroundings == .docker ? "docker" : "podman"
            return [
                "\(program) run --security-opt seccomp=PROFILE.json ..., the default profile with \(calls) allowed",
                "\(program) run --security-opt seccomp=unconfined ... (to try it)",
            ]
        case .kubernetes:
            return [
                "in the pod: securityContext: {seccompProfile: {type: Localhost, localhostProfile: PROFILE.json}}, the "
                    + "default profile with \(calls) allowed"
            ]
        case .container: return ["a seccomp profile that allows \(calls), by whoever starts the container"]
        }
    }
}

extension String {
    /// "a, b and c" -> "a b c"
    fileprivate var spaced: String {
        split(separator: " ").filter { $0 != "and" }.map { $0.filter { $0 != "," } }.joined(separator: " ")
    }
}
