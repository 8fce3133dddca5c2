import Testing

@testable import Capacity

@Suite("Machine snapshot")
struct SnapshotTests {
    /// A machine with default values, as files; a test changes some.
    static let files = [
        "/proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "/proc/self/status": "Name:\tx\nCapEff:\t000001fffeffffff\nSeccomp:\t0\n",
        "/proc/sys/fs/file-max": "9223372036854775807\n",
        "/proc/sys/fs/file-nr": "1504\t0\t9223372036854775807\n",
        "/proc/sys/fs/nr_open": "1048576\n",
        "/proc/sys/net/core/somaxconn": "4096\n",
        "/proc/sys/net/core/netdev_max_backlog": "1000\n",
        "/proc/sys/net/ipv4/tcp_mem": "287901\t383868\t575802\n",
        "/proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
        "/proc/sys/net/ipv4/ip_local_reserved_ports": "8080,40000-40009,60990-61100\n",
        "/proc/meminfo": "MemTotal:       24684092 kB\nMemFree:   1 kB\nMemAvailable:   23847044 kB\n",
        "/proc/self/cgroup": "0::/user.slice/session\n",
    ]

    private func snapshot(_ changes: [String: String] = [:]) -> MachineSnapshot {
        let files = Self.files.merging(changes) { $1 }
        return MachineSnapshot { files[$0] }
    }

    @Test("Values are read from their files, and those that are not there are nil")
    func values() {
        let machine = snapshot()
        #expect(machine.kernelRelease == "6.1.0-18-amd64")
        #expect(machine.kernelVersion == KernelVersion(6, 1))
        #expect(machine.fileMax == .max)
        #expect(machine.fileCount == 1504)
        #expect(machine.descriptorCeiling == 1_048_576)
        #expect(machine.acceptBacklogMax == 4096)
        #expect(machine.packetBacklogMax == 1000)
        #expect(machine.tcpPages == [287_901, 383_868, 575_802])
        #expect(machine.receiveBuffer == [4096, 131_072, 6_291_456])
        #expect(machine.sendBuffer == nil)
        #expect(machine.ringPolicy == nil)
        #expect(machine.trackedMax == nil)
        #expect(machine.memoryAvailable == 23_847_044 << 10)
        #expect(machine.groupMemoryLeft == nil)
        #expect(!machine.isFiltered)
    }

    @Test("Of reserved ports those in the range count")
    func ports() {
        let machine = snapshot()
        #expect(machine.portRange == 32768...60999)
        #expect(machine.reservedPortCount == 20)
    }

    @Test("Numbers beyond 64 bits and words are no values")
    func garbage() {
        let machine = snapshot([
            "/proc/sys/fs/file-max": "99999999999999999999999\n", "/proc/sys/net/core/somaxconn": "many\n",
            "/proc/sys/net/ipv4/tcp_mem": "1 2\n", "/proc/sys/net/ipv4/ip_local_port_range": "5 1\n",
        ])
        #expect(machine.fileMax == nil)
        #expect(machine.acceptBacklogMax == nil)
        #expect(machine.tcpPages == nil)
        #expect(machine.portRange == nil)
    }

    @Test("Capabilities and filters are read from the process's status")
    func status() {
        let machine = snapshot()
        #expect(machine.has(.ipcLock))
        #expect(!machine.has(.sysResource))
        #expect(snapshot(["/proc/self/status": "Seccomp:\t2\n"]).isFiltered)
    }

    @Test("The least that any cgroup above leaves is what is left")
    func groups() {
        #expect(
            snapshot([
                "/sys/fs/cgroup/user.slice/session/memory.max": "max\n",
                "/sys/fs/cgroup/user.slice/memory.max": "1000000\n",
                "/sys/fs/cgroup/user.slice/memory.current": "400000\n",
            ]).groupMemoryLeft == 600_000)
        #expect(
            snapshot([
                "/proc/self/cgroup": "4:memory:/box\n0::/\n",
                "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
            ]).groupMemoryLeft == nil)
        #expect(
            snapshot([
                "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "500\n",
                "/sys/fs/cgroup/memory.current": "700\n",
            ]).groupMemoryLeft == 0)
    }

    private static let marks: [([String: String], Surroundings)] = [
        (["/.dockerenv": ""], .docker),
        (["/run/.containerenv": ""], .podman),
        (["/.dockerenv": "", "/proc/1/environ": "A=b\0KUBERNETES_SERVICE_HOST=10.0.0.1\0"], .kubernetes),
        (["/proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"], .kubernetes),
        (["/proc/1/cgroup": "4:memory:/docker/0123\n"], .docker),
        (["/proc/1/cgroup": "0::/lxc/box\n"], .container("lxc")),
        (["/proc/1/environ": "PATH=/bin\0container=systemd-nspawn\0X=y\0"], .container("systemd-nspawn")),
        (["/proc/1/environ": "PATH=/bin\0"], .machine),
        ([:], .machine),
    ]

    @Test("A container is known by its marks", arguments: marks)
    func containers(files: [String: String], expected: Surroundings) {
        let found = Surroundings(files: { files[$0] })
        #expect(found == expected)
    }

    @Test("This machine can be read")
    func here() {
        let machine = MachineSnapshot.ofThisMachine(ringRefusal: nil)
        #expect(!machine.kernelRelease.isEmpty)
        #expect(machine.kernelVersion > KernelVersion(3, 0))
        #expect(machine.descriptors.hard >= machine.descriptors.soft)
        #expect(machine.memoryAvailable != nil)
    }
}
