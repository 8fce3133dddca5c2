import Glibc
import TestSupport
import Testing

/// System calls of a broker that runs fail as a test wants: by strace(1). What io_uring does for the broker is no system call of
/// its own, and cannot be made to fail so.
enum Strace {
    static let isPermitted: Bool = {
        let process = try? ChildProcess("strace", ["-qq", "-o", "/dev/null", "true"])
        return (try? process?.waitForExit()) == .exited(0)
    }()

    /// Attaches strace(1) to a broker; when it returns, the faults are there.
    static func inject(_ faults: String..., into broker: BrokerProcess) throws -> ChildProcess {
        let calls = faults.map { $0.prefix { $0 != ":" } }.joined(separator: ",")
        var arguments = ["-f", "-p", "\(broker.process.pid)", "-o", "/dev/null", "-e", "trace=\(calls)"]
        for fault in faults { arguments += ["-e", "inject=\(fault)"] }
        let strace = try ChildProcess("strace", arguments)
        _ = try #require(strace.errorLine { $0.contains("attached") }, "\(strace.errorLines)")
        return strace
    }

    /// Detaches: the broker goes on as if nothing had been.
    static func end(_ strace: ChildProcess) throws {
        strace.signal(SIGINT)
        _ = try strace.waitForExit()
    }
}
