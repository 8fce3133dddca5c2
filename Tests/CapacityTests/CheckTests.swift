import Testing

@testable import Capacity

@Suite("Capacity check")
struct CheckTests {
    /// A machine on which nothing is in the way of a million connections.
    static var ample: MachineSnapshot {
        var machine = MachineSnapshot { SnapshotTests.files[$0] }
        machine.descriptors = ResourceLimit(soft: 1024, hard: 1_048_576)
        machine.lockedBytes = ResourceLimit(soft: 8 << 20, hard: 8 << 20)
        machine.packetBacklogMax = 262_144
        machine.handshakeBacklogMax = 2048
        machine.handshakeCookies = 1
        machine.ringPolicy = 0
        machine.sendBuffer = [4096, 16384, 4_194_304]
        machine.tcpPages = [750_000, 1_000_000, 2_000_000]
        machine.mappingMax = 65530
        machine.overcommit = 0
        machine.epollWatchMax = 5_000_000
        machine.portRange = 32768...60999
        machine.reservedPortCount = 0
        return machine
    }

    static func broker(_ count: Int, _ driver: Party.Driver = .uring, workers: Int = 2) -> Party {
        var party = Party(.broker, connectionCount: count, driver: driver)
        party.workerCount = workers
        return party
    }

    static func clients(_ count: Int, _ machine: MachineSnapshot = ample) -> Party {
        .loadGenerator(connectionCount: count, usesRing: true, descriptorMax: machine.descriptors.hard)
    }

    private func finding(
        _ name: String, _ parties: [Party] = [broker(1_000_000)], on machine: MachineSnapshot
    ) throws -> Finding {
        let report = CapacityCheck(parties, on: machine).report
        return try #require(report.findings.first { $0.name.hasPrefix(name) }, "\(report.lines)")
    }

    private func changed(_ change: (inout MachineSnapshot) -> Void) -> MachineSnapshot {
        var machine = Self.ample
        change(&machine)
        return machine
    }

    @Test("On an ample machine everything is met, and no line asks for anything")
    func ample() {
        let report = CapacityCheck([Self.broker(1_000_000), Self.clients(1_000_000)], on: Self.ample).report
        #expect(report.isMet, "\(report.complaints)")
        #expect(report.findings.allSatisfy { $0.verdict != .met || $0.remedies.isEmpty })
        #expect(report.lines.last == "all checks passed")
    }

    // MARK: Descriptors

    @Test("With RLIMIT_NOFILE 20,000 a million connections take as many rings as hold them, and the check says so")
    func rings() throws {
        let machine = changed { $0.descriptors = ResourceLimit(soft: 20_000, hard: 20_000) }
        let two = try finding("rings", on: machine)
        #expect(two.verdict == .missing)
        #expect(two.found == "39,872 (2 with room for 19,936 each)")
        #expect(two.remedies.first == "io.workers: 52")
        #expect(try finding("rings", [Self.broker(1_000_000, workers: 52)], on: machine).verdict == .met)
        // 51 rings hold them all, but the hash that spreads connections is not even.
        #expect(try finding("rings", [Self.broker(1_000_000, workers: 51)], on: machine).verdict == .advice)
        #expect(try finding("RLIMIT_NOFILE", on: machine).verdict == .met)
    }

    @Test("A configured limit of a ring counts as much as the table's")
    func configuredRings() throws {
        var party = Self.broker(40_000)
        party.connectionsPerWorkerMax = 10_000
        let result = try finding("rings", [party], on: Self.ample)
        #expect(result.verdict == .missing)
        #expect(result.found == "20,000 (2 with room for 10,000 each)")
    }

    @Test("Where more rings than there may be would be needed, the limit has to be raised")
    func tooManyRings() throws {
        let machine = changed { $0.descriptors = ResourceLimit(soft: 256, hard: 1024) }
        let result = try finding("rings", on: machine)
        #expect(result.remedies.allSatisfy { !$0.contains("io.workers") })
        #expect(result.remedies.contains { $0.contains("LimitNOFILE=502893") }, "\(result.remedies)")
    }

    @Test("With epoll each connection is a descriptor, and fs.nr_open bounds what can be asked for")
    func epoll() throws {
        let party = Self.broker(2_000_000, .epoll)
        let descriptors = try finding("RLIMIT_NOFILE", [party], on: Self.ample)
        #expect(descriptors.verdict == .missing && descriptors.needed == "2,000,072")
        let ceiling = try finding("fs.nr_open", [party], on: Self.ample)
        #expect(ceiling.verdict == .missing && ceiling.remedies == ["sysctl -w fs.nr_open=2000072"])
        #expect(try finding("fs.epoll", [party], on: Self.ample).verdict == .met)
    }

    @Test("Sockets count against fs.file-max, those of both sides")
    func files() throws {
        let machine = changed { $0.fileMax = 1_500_000 }
        #expect(try finding("fs.file-max", on: machine).verdict == .met)
        let both = try finding("fs.file-max", [Self.broker(1_000_000), Self.clients(1_000_000)], on: machine)
        #expect(both.verdict == .missing && both.remedies == ["sysctl -w fs.file-max=2011504"])
        #expect(try finding("fs.file-max", on: changed { $0.fileMax = nil }).verdict == .unknown)
    }

    // MARK: io_uring

    @Test("Where io_uring is refused, epoll will do as long as there are descriptors")
    func refused() throws {
        let machine = changed {
            $0.ringRefusal = "forbidden"
            $0.ringPolicy = 2
        }
        #expect(try finding("io_uring", [Self.broker(10_000, .epoll)], on: machine).verdict == .advice)
        let missing = try finding("io_uring", [Self.broker(2_000_000, .epoll)], on: machine)
        #expect(missing.verdict == .missing)
        #expect(missing.remedies == ["sysctl -w kernel.io_uring_disabled=0"])
        var insists = Self.broker(10_000, .uring)
        insists.insistsOnRing = true
        #expect(try finding("io_uring", [insists], on: machine).verdict == .missing)
    }

    @Test("Where the ring has plain descriptors, each connection takes one, and there is no table to fill")
    func plainDescriptors() throws {
        var broker = Self.broker(30_000, .uring)
        broker.hasDirectDescriptors = false
        let machine = changed { $0.descriptors = ResourceLimit(soft: 20_000, hard: 20_000) }
        let finding = try finding("RLIMIT_NOFILE", [broker], on: machine)
        #expect(finding.verdict == .missing && finding.note.contains("Linux 6.13"))
        #expect(!CapacityCheck([broker], on: machine).report.findings.contains { $0.name == "rings" })
    }

    @Test("In a container it is the seccomp profile that forbids io_uring, and the host that has to allow it")
    func filtered() throws {
        let machine = changed {
            $0.ringRefusal = "forbidden"
            $0.isFiltered = true
            $0.surroundings = .docker
        }
        let result = try finding("io_uring", [Self.broker(2_000_000, .epoll)], on: machine)
        #expect(result.remedies.first?.hasPrefix("docker run --security-opt seccomp=PROFILE.json") == true)
    }

    private static let lockedMemoryCases: [(KernelVersion, UInt64, Finding.Verdict)] = [
        (KernelVersion(5, 10), 0, .missing), (KernelVersion(6, 1), 0, .met), (KernelVersion(6, 18), 0, .missing),
        (KernelVersion(6, 18), 1 << 14, .met),
    ]

    @Test(
        "Rings count as locked memory before Linux 5.12 and as of 6.14, unless CAP_IPC_LOCK lifts it",
        arguments: lockedMemoryCases)
    func lockedMemory(version: KernelVersion, capabilities: UInt64, verdict: Finding.Verdict) throws {
        let machine = changed {
            $0.kernelVersion = version
            $0.capabilities = capabilities
        }
        #expect(try finding("RLIMIT_MEMLOCK", [Self.broker(1_000_000, workers: 53)], on: machine).verdict == verdict)
        // As measured: ten such rings fit 8 MiB, eleven do not.
        let ten = try finding("RLIMIT_MEMLOCK", [Self.broker(1000, workers: 10)], on: machine)
        #expect(ten.verdict == .met)
        #expect(
            try finding("RLIMIT_MEMLOCK", [Self.broker(1000, workers: 11)], on: machine).verdict == verdict)
    }

    // MARK: Network

    @Test("A backlog of handshakes matters only without SYN cookies")
    func handshakes() throws {
        #expect(try finding("net.ipv4.tcp_max_syn_backlog", on: Self.ample).verdict == .met)
        let machine = changed { $0.handshakeCookies = 0 }
        let result = try finding("net.ipv4.tcp_max_syn_backlog", on: machine)
        #expect(result.verdict == .missing)
        #expect(result.remedies.first == "sysctl -w net.ipv4.tcp_syncookies=1")
    }

    @Test("somaxconn is asked for in the words of where the process runs")
    func backlog() throws {
        func remedy(_ surroundings: Surroundings) throws -> String {
            let machine = changed {
                $0.acceptBacklogMax = 128
                $0.surroundings = surroundings
            }
            return try #require(try finding("net.core.somaxconn", on: machine).remedies.first)
        }
        #expect(try remedy(.machine) == "sysctl -w net.core.somaxconn=4096")
        #expect(try remedy(.docker).hasPrefix("docker run --sysctl net.core.somaxconn=4096 "))
        #expect(try remedy(.podman).hasPrefix("podman run --sysctl net.core.somaxconn=4096 "))
        #expect(try remedy(.kubernetes).contains("name: net.core.somaxconn, value: \"4096\""))
    }

    @Test("Keepalive probes of silent clients on this machine have to fit a CPU's queue")
    func packetBacklog() throws {
        let parties = [Self.broker(1_000_000), Self.clients(1_000_000)]
        let name = "net.core.netdev_max_backlog"
        #expect(try finding(name, parties, on: Self.ample).verdict == .met)
        let machine = changed { $0.packetBacklogMax = 1000 }
        let result = try finding(name, parties, on: machine)
        #expect(result.verdict == .advice)
        #expect(result.remedies == ["sysctl -w net.core.netdev_max_backlog=262144"])
        #expect(try finding(name, [Self.broker(900), Self.clients(900)], on: machine).verdict == .met)
        // Clients elsewhere are behind a network card, whose queue pushes back.
        let remote = CapacityCheck([Self.broker(1_000_000)], on: machine).report
        #expect(!remote.findings.contains { $0.name == name })
    }

    @Test("What is the machine's alone is asked of the host, from within a container")
    func host() throws {
        let machine = changed {
            $0.fileMax = 10
            $0.surroundings = .podman
        }
        #expect(try finding("fs.file-max", on: machine).remedies == ["on the host: sysctl -w fs.file-max=1011504"])
        #expect(try finding("net.ipv4.tcp_mem", on: changed { $0.tcpPages = nil }).verdict == .unknown)
    }

    @Test("Clients of one machine need ports, and a broker that listens on many addresses")
    func ports() throws {
        let parties = [Self.broker(100_000), Self.clients(100_000)]
        #expect(try finding("net.ipv4.ip_local_port_range", parties, on: Self.ample).verdict == .met)
        let narrow = changed { $0.portRange = 50_000...60_000 }
        let result = try finding("net.ipv4.ip_local_port_range", parties, on: narrow)
        #expect(
            result.verdict == .missing
                && result.remedies == ["sysctl -w net.ipv4.ip_local_port_range=\"16384 60999\""])
        #expect(
            !CapacityCheck([Self.broker(100_000)], on: narrow).report.findings.contains {
                $0.name.contains("port_range")
            })
        var local = Self.broker(100_000)
        local.listensOnEveryAddress = false
        #expect(try finding("listeners", [local, Self.clients(100_000)], on: Self.ample).verdict == .missing)
    }

    @Test("Connection tracking counts where something is tracked, and is a warning where nothing is")
    func tracking() throws {
        let idle = changed { ($0.trackedMax, $0.trackedCount) = (262_144, 0) }
        #expect(try finding("net.netfilter.nf_conntrack_max", on: idle).verdict == .advice)
        let busy = changed { ($0.trackedMax, $0.trackedCount) = (262_144, 17) }
        #expect(try finding("net.netfilter.nf_conntrack_max", on: busy).verdict == .missing)
        #expect(
            !CapacityCheck([Self.broker(1000)], on: Self.ample).report.findings.contains {
                $0.name.contains("conntrack")
            })
    }

    // MARK: Memory

    @Test("The estimate counts both ends, both kinds of memory, and the cgroup's limit")
    func memory() throws {
        let one = CapacityCheck([Self.broker(1_000_000)], on: Self.ample).estimate
        let both = CapacityCheck([Self.broker(1_000_000), Self.clients(1_000_000)], on: Self.ample).estimate
        #expect(one.user > 256_000_000 && one.user < 400_000_000)
        #expect(one.kernel > 4_096_000_000 && one.kernel < 4_800_000_000)
        #expect(both.kernel > one.kernel * 19 / 10)
        let small = changed {
            $0.groupMemoryLeft = 1 << 30
            $0.surroundings = .docker
        }
        let result = try finding("memory (limit of the cgroup)", on: small)
        #expect(result.verdict == .missing)
        #expect(result.remedies.first?.hasPrefix("docker run --memory ") == true)
        #expect(try finding("memory", on: changed { $0.memoryAvailable = 1 << 30 }).verdict == .missing)
    }

    @Test("Strict accounting of memory is refused, and limits of the broker's own are")
    func ownLimits() throws {
        #expect(try finding("vm.overcommit_memory", on: changed { $0.overcommit = 2 }).verdict == .missing)
        var party = Self.broker(1_000_000)
        party.ownLimits = [.init(name: "limits.subscriptions-max", total: 20_000, isPerWorker: true)]
        let result = try finding("limits.subscriptions-max", [party], on: Self.ample)
        #expect(result.verdict == .missing && result.remedies == ["limits.subscriptions-max: 550000"])
        party.ownLimits = [.init(name: "hosts[0].connections-max", total: 10, isPerWorker: false, isPartial: true)]
        let partial = try finding("hosts[0].connections-max", [party], on: Self.ample)
        #expect(partial.verdict == .advice && partial.remedies == ["hosts[0].connections-max: 1000000"])
    }

    // MARK: The report

    @Test("Nothing that no longer exists is advised")
    func nothingOutdated() {
        let machine = MachineSnapshot { _ in nil }
        for surroundings in [Surroundings.machine, .docker, .podman, .kubernetes, .container("lxc")] {
            var poor = machine
            poor.surroundings = surroundings
            poor.fileMax = 1
            poor.descriptors = ResourceLimit(soft: 64, hard: 64)
            poor.lockedBytes = ResourceLimit(soft: 0, hard: 0)
            poor.acceptBacklogMax = 1
            poor.tcpPages = [1, 1, 1]
            poor.portRange = 1...2
            poor.memoryAvailable = 1
            let text = CapacityCheck([Self.broker(1000), Self.clients(1000, poor)], on: poor).report.lines.joined()
            for name in ["tcp_tw_recycle", "tcp_tw_reuse", "tcp_fin_timeout"] {
                #expect(!text.contains(name))
            }
        }
    }

    @Test("The report says in each line what was found, and ends with the verdict")
    func report() {
        let machine = changed { $0.acceptBacklogMax = 128 }
        let report = CapacityCheck([Self.broker(50_000)], on: machine).report
        #expect(!report.isMet)
        #expect(report.lines[0] == "50,000 connections on Linux 6.1.0-18-amd64, no sign of a container:")
        #expect(
            report.lines.contains {
                $0.hasPrefix("MISSING  net.core.somaxconn") && $0.contains("found: 128, needed: 4,096")
            })
        #expect(report.lines.contains { $0.trimmingPrefix("         ") == "do: sysctl -w net.core.somaxconn=4096" })
        #expect(report.lines.last?.hasPrefix("1 of ") == true)
        #expect(report.complaints.count == 5)
    }
}
