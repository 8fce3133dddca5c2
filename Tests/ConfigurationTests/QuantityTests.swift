import Testing

@testable import Configuration

@Suite("Quantities")
struct QuantityTests {
    @Test(
        "A size is read as bytes or with a binary suffix",
        arguments: [("0", 0), ("8192", 8192), ("8KiB", 8192), ("3MiB", 3 << 20), ("2GiB", 2 << 30), ("007", 7)])
    func size(text: String, value: Int) {
        #expect(Unit.bytes.parse(text) == value)
    }

    @Test(
        "A time is read as milliseconds or with a suffix",
        arguments: [("100", 100), ("100ms", 100), ("5s", 5000), ("1m", 60_000), ("2h", 7_200_000), ("1d", 86_400_000)])
    func time(text: String, value: Int) {
        #expect(Unit.milliseconds.parse(text) == value)
    }

    @Test(
        "What is no whole number with a known suffix is not read",
        arguments: [
            "", "-1", "+1", "1.5s", "1 s", "KiB", "1kib", "1KB", "1e3", "0x10", "1_000", "٣", "s", "5ss", "5s ",
            "9223372036854775808", "9007199254740993GiB",
        ])
    func nonsense(text: String) {
        #expect(Unit.bytes.parse(text) == nil)
        #expect(Unit.milliseconds.parse(text) == nil)
    }

    @Test("A plain count takes no suffix")
    func countHasNoSuffix() {
        #expect(Unit.count.parse("4") == 4)
        #expect(Unit.count.parse("4KiB") == nil)
        #expect(Unit.percent.parse("4%") == nil)
    }

    @Test("What a unit formats it reads back", arguments: Unit.allCases)
    func roundTrip(unit: Unit) {
        for value in [0, 1, 999, 1000, 1023, 1024, 1025, 4096, 60_000, 61_000, 3_600_000, 86_400_000, 1 << 30, Int.max]
        {
            #expect(unit.parse(unit.format(value)) == value)
            #expect(unit.parse(unit.describe(value)) == value)
        }
    }

    @Test("A power of two is demanded where the kernel takes nothing else")
    func powerOfTwo() {
        let quantity = Quantity(unit: .count, range: 16...64, isPowerOfTwo: true, zeroMeaning: "none")
        let accepted = (0...200).filter(quantity.accepts)
        #expect(accepted == [0, 16, 32, 64])
        #expect(quantity.allowed == "0 (none), or a power of two from 16 to 64")
    }

    @Test("CPUs are counted by affinity and by the control group's quota")
    func availableCPUs() {
        #expect(AvailableCPUs.count(status: "Name:\tx\nCpus_allowed:\tff,0000000f\nCpus_allowed_list:\t0-3\n") == 12)
        #expect(AvailableCPUs.count(status: "Name:\tx\n") == nil)
        #expect(AvailableCPUs.count(cgroupQuota: "150000 100000\n") == 2)
        #expect(AvailableCPUs.count(cgroupQuota: "100000 100000\n") == 1)
        #expect(AvailableCPUs.count(cgroupQuota: "max 100000\n") == nil)
        #expect(AvailableCPUs.count >= 1)
    }

    @Test("No workers configured means one per CPU, up to the bound")
    func resolvedWorkers() {
        var settings = Settings()
        #expect(settings.resolvedWorkerCount(availableCPUCount: 6) == 6)
        #expect(settings.resolvedWorkerCount(availableCPUCount: 500) == Settings.workerCountMax)
        settings.workerCount = 3
        #expect(settings.resolvedWorkerCount(availableCPUCount: 6) == 3)
    }
}

@Suite("Listen addresses")
struct ListenAddressTests {
    @Test(
        "An address is read and written in its canonical form",
        arguments: [
            ("127.0.0.1:61613", "127.0.0.1:61613"), ("localhost:0", "127.0.0.1:0"), ("0.0.0.0:65535", "0.0.0.0:65535"),
            ("[::1]:61613", "[::1]:61613"), ("[0:0::0]:1", "[::]:1"), ("[2001:DB8::1]:80", "[2001:db8::1]:80"),
        ])
    func canonical(text: String, expected: String) {
        #expect(ListenAddress(text)?.description == expected)
    }

    @Test(
        "What is no address with a port is refused",
        arguments: [
            "", ":", "127.0.0.1", "127.0.0.1:", ":61613", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1",
            "::1:61613",
            "[::1]", "[::1:61613", "[127.0.0.1]:61613", "example.org:61613", "127.1:61613", "256.0.0.1:1", "[]:1",
            "[:1",
            "127.0.0.1:61613 ", "[fe80::1%lo]:1",
        ])
    func refused(text: String) {
        #expect(ListenAddress(text) == nil)
    }

    @Test("Loopback is told from what others can reach")
    func loopback() throws {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            #expect(try #require(ListenAddress(text)).isLoopback)
        }
        var settings = Settings()
        #expect(settings.exposedListeners.isEmpty)
        settings.listeners = try ["0.0.0.0:1", "127.0.0.1:1", "[::]:1", "unix:/a"].map {
            try ListenerSettings($0)
        }
        #expect(settings.exposedListeners.map(\.description) == ["0.0.0.0:1", "[::]:1"])
    }

    @Test("Where passwords travel in the clear: what others can reach without TLS")
    func readable() throws {
        var settings = Settings()
        #expect(settings.readableListeners.isEmpty)
        settings.listeners = try [
            "0.0.0.0:1", "127.0.0.1:1", "ws://[::]:1", "ws://[::1]:1", "stomps://0.0.0.0:2", "wss://0.0.0.0:3",
            "unix:/a",
        ].map { try ListenerSettings($0) }
        #expect(settings.readableListeners.map(\.description) == ["0.0.0.0:1", "ws://[::]:1"])
    }
}
