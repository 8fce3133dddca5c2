import Glibc
import TestSupport
import Testing

extension Scale {
    private static let idleCount = 15_000
    private static let byteCountMax = 256

    @Test(
        "15,000 idle connections with a subscription each cost at most 256 bytes of resident memory each",
        arguments: DriverUnderTest.available)
    func idleConnections(driver: DriverUnderTest) throws {
        try raiseDescriptorLimit()
        let broker = try BrokerProcess(BrokerProcess.Settings(driver))
        let connections = IdleConnections(to: broker)
        // What the first connections cost is paid once: the pages of code and tables.
        try connections.open(100, subscribingTo: "/topic/idle")
        let before = try residentByteCount(of: broker)
        try connections.open(Self.idleCount, subscribingTo: "/topic/idle")
        let growth = try residentByteCount(of: broker) - before
        #expect(growth <= Self.idleCount * Self.byteCountMax, "\(growth / Self.idleCount) bytes a connection")

        // All of them are there.
        let publisher = try RawClient(broker, .v1_2)
        try publisher.publish(to: "/topic/idle", "wake up")
        try connections.expectMessage("wake up")
    }

    /// Both ends of the connections need their descriptors; the broker inherits the limit.
    private func raiseDescriptorLimit() throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        // The other tests that run meanwhile have the rest.
        let isEnough = limit.rlim_cur >= rlim_t(Self.idleCount) + 1_000
        try #require(isEnough, "RLIMIT_NOFILE allows \(limit.rlim_cur) descriptors")
    }

    /// All resident memory (VmRSS), code and shared memory included, in bytes.
    private func residentByteCount(of broker: BrokerProcess) throws -> Int {
        let status = try #require(fopen("/proc/\(broker.process.pid)/status", "r"))
        defer { fclose(status) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, Int32(line.count), status) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            if let match = text.firstMatch(of: /^VmRSS:\s+(\d+) kB/) { return Int(match.1)! * 1024 }
        }
        throw Failure("no VmRSS of process \(broker.process.pid)", at: Place(#fileID, #line))
    }
}
