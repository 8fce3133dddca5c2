import ArgumentParser
import Capacity
import Configuration
import Drivers
import Foundation

/// `stampede probe`: prints the features and limits of this machine, and the driver that the broker would choose.
struct Probe: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print what this kernel offers, the limits that matter, and which driver the broker would choose.",
        discussion: """
            With --connections N: checks whether this machine, and the broker as it is configured, can hold N \
            connections, and prints for each failed check the command that helps. Exit code 1 if a check failed.
            """)

    @OptionGroup var options: SettingsOptions

    @Option(parsing: .unconditional, help: ArgumentHelp("Check this machine for N connections.", valueName: "n"))
    var connections: Int?

    @Flag(help: "The clients run on this machine too, as with stampede-bench.")
    var localClients = false

    @Flag(help: "Print the check as JSON.")
    var json = false

    func validate() throws {
        guard connections != nil || !(json || localClients) else {
            throw ValidationError("--json and --local-clients go with --connections")
        }
        if let connections, !(1...100_000_000 ~= connections) {
            throw ValidationError("--connections: found \(connections); allowed: 1 to 100000000")
        }
    }

    func run() throws {
        let settings = try options.load(readsCertificates: false).settings
        guard let connections else {
            for line in MachineReport.lines(settings) + probeLines(settings) {
                Console.write(line + "\n", to: STDOUT_FILENO)
            }
            return
        }
        let report = check(connections, settings)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            Console.write(String(decoding: try encoder.encode(report), as: UTF8.self) + "\n", to: STDOUT_FILENO)
        } else {
            for line in report.lines { Console.write(line + "\n", to: STDOUT_FILENO) }
        }
        if !report.isMet { throw ExitCode(Failure.operation) }
    }

    private func check(_ connections: Int, _ settings: Settings) -> CapacityReport {
        let ring = URingProbe.run(descriptors: settings.driverOptions.descriptors)
        let machine = MachineSnapshot.ofThisMachine(ringRefusal: ring.isAvailable ? nil : ring.reason)
        let broker = settings.party(
            connectionCount: connections, ringIsAvailable: ring.isAvailable && ring.whyNotPreferred.isEmpty,
            ringIsPlain: ring.isPlain, availableCPUCount: AvailableCPUs.count, hasLocalClients: localClients)
        var parties = [broker]
        if localClients {
            var clients = Party.loadGenerator(
                connectionCount: connections, usesRing: ring.isAvailable, descriptorMax: machine.descriptors.hard)
            clients.hasDirectDescriptors = ring.isAvailable && !ring.isPlain
            parties.append(clients)
        }
        return CapacityCheck(parties, on: machine).report
    }
}

/// The results of the self-tests of the drivers, and which driver the broker would choose.
func probeLines(_ settings: Settings) -> [String] {
    let choice: DriverChoice =
        switch settings.driver {
        case .auto: .auto
        case .uring: .uring
        case .epoll: .epoll
        }
    let descriptors = settings.driverOptions.descriptors
    var lines = URingProbe.run(descriptors: descriptors).lines
    do throws(DriverError) {
        let (kind, reason) = try choice.choose(descriptors: descriptors)
        lines.append("the broker would choose   \(kind.rawValue)" + (reason.isEmpty ? "" : " (\(reason))"))
    } catch {
        lines.append("the broker would not start: \(error.description)")
    }
    return lines
}

/// The limits of the machine that matter for the broker, one per line: name, value, and a note if needed.
enum MachineReport {
    static func lines(_ settings: Settings) -> [String] {
        let cpus = AvailableCPUs.count
        return [
            row("kernel", kernel),
            row("container", Surroundings(files: MachineSnapshot.contents).description),
            row("seccomp", seccomp),
            row("CPUs", "\(cpus) available; workers: \(settings.resolvedWorkerCount(availableCPUCount: cpus))"),
            row("memory limit", contents("/sys/fs/cgroup/memory.max").map(memory) ?? "not known (no cgroup v2)"),
            row("RLIMIT_NOFILE", limit(RLIMIT_NOFILE) + " (descriptors; slots of a ring's table, if it has one)"),
            row("RLIMIT_MEMLOCK", limit(__RLIMIT_MEMLOCK) + " (bytes; rings count before Linux 5.12 and as of 6.14)"),
            row("fs.file-max", contents("/proc/sys/fs/file-max") ?? "not readable"),
            row("net.core.somaxconn", contents("/proc/sys/net/core/somaxconn") ?? "not readable"),
            row("kernel.io_uring_disabled", ringPolicy),
        ]
    }

    private static func row(_ name: String, _ value: String) -> String {
        name + String(repeating: " ", count: 26 - name.count) + value
    }

    private static var kernel: String {
        var names = utsname()
        guard uname(&names) == 0 else { return "not known" }
        return "\(text(of: names.sysname)) \(text(of: names.release)) \(text(of: names.machine))"
    }

    /// The text of a field of utsname, a tuple of bytes that ends with a NUL.
    private static func text<Field>(of field: Field) -> String {
        withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// A seccomp filter may make io_uring_setup return EPERM or ENOSYS even if the kernel supports it.
    private static var seccomp: String {
        let status = contents("/proc/self/status") ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("Seccomp:") }
        switch line?.split(whereSeparator: \.isWhitespace).last {
        case "0": return "no filter"
        case "1": return "strict"
        case "2": return "filter (may forbid io_uring)"
        default: return "not known"
        }
    }

    private static var ringPolicy: String {
        switch contents("/proc/sys/kernel/io_uring_disabled") {
        case nil: "not present: this kernel allows it to all (Linux 6.6 brought the setting)"
        case "0": "0 (allowed to all)"
        case "1": "1 (allowed to CAP_SYS_ADMIN and kernel.io_uring_group)"
        case "2": "2 (forbidden)"
        case let other?: other
        }
    }

    private static func memory(_ text: String) -> String {
        text == "max" ? "none (cgroup v2)" : "\(text) bytes (cgroup v2)"
    }

    private static func limit(_ resource: __rlimit_resource) -> String {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(resource.rawValue), &limits) == 0 else { return "not readable" }
        func number(_ value: rlim_t) -> String { value == rlim_t.max ? "unlimited" : "\(value)" }
        return limits.rlim_cur == limits.rlim_max
            ? number(limits.rlim_cur) : "\(number(limits.rlim_cur)), can be raised to \(number(limits.rlim_max))"
    }

    /// The contents of a file of /proc or /sys, without the last line feed.
    private static func contents(_ path: String) -> String? {
        guard let text = MachineSnapshot.contents(path), !text.isEmpty else { return nil }
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
}
