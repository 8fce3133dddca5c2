// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is built in the Swift 6 language mode with warnings that matter kept visible.
let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
    name: "stampede",
    products: [
        .executable(name: "stampede", targets: ["stampede"]),
        .executable(name: "stampede-bench", targets: ["stampede-bench"]),
        // Preloaded into a broker by the tests that count its allocations, so it has to be a file of its own.
        .library(name: "AllocationCounter", type: .dynamic, targets: ["CAllocationCounter"]),
    ],
    traits: [
        .trait(
            name: "URing",
            description: "The io_uring driver. Needs liburing-dev (2.3 or later). Without it: the epoll build."),
        .default(enabledTraits: ["URing"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // The C shim over liburing. Empty, and linked to nothing, in the epoll build.
        .target(
            name: "CURing",
            cSettings: [.define("STAMPEDE_URING", .when(traits: ["URing"]))],
            linkerSettings: [.linkedLibrary("uring", .when(traits: ["URing"]))]),
        // What the kernel can do with pages and Swift cannot call.
        .target(name: "CPages"),
        .target(name: "Slabs", dependencies: ["CPages"], swiftSettings: swiftSettings),
        .target(name: "IO", dependencies: ["Slabs"], swiftSettings: swiftSettings),
        // The vector instructions that the parser searches with, as inline functions.
        .target(name: "COctets"),
        .target(name: "STOMP", dependencies: ["COctets", "Slabs"], swiftSettings: swiftSettings),
        // What clients may do: patterns of destinations, compared with names and with each other.
        .target(name: "Permissions", swiftSettings: swiftSettings),
        // When delayed messages are due: headers, cron entries, and the line that says so.
        .target(name: "Schedules", swiftSettings: swiftSettings),
        .target(
            name: "Broker", dependencies: ["IO", "Journal", "Permissions", "STOMP", "Schedules", "Slabs"],
            swiftSettings: swiftSettings),
        // The C shim over OpenSSL 3 (libssl-dev). No trait: a broker that can be reached from outside is not an option.
        .target(name: "CTLS", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        // The C shim over zlib (zlib1g-dev).
        .target(name: "CDeflate", linkerSettings: [.linkedLibrary("z")]),
        // PROXY headers, TLS and WebSocket: byte machines, and the layers of them between core and driver.
        .target(
            name: "Transports", dependencies: ["CDeflate", "COctets", "CTLS", "IO", "Slabs"],
            swiftSettings: swiftSettings),
        // The C shim over crypt(3) of libxcrypt and OpenSSL's digests and signatures.
        .target(name: "CAccess", linkerSettings: [.linkedLibrary("crypt"), .linkedLibrary("crypto")]),
        // Who clients are: users file, password hashes, tokens.
        .target(
            name: "Access",
            dependencies: ["CAccess", "Permissions", .product(name: "Yams", package: "Yams")],
            swiftSettings: swiftSettings),
        .target(name: "Drivers", dependencies: ["IO", "Slabs", "CURing"], swiftSettings: swiftSettings),
        // What a machine allows, and what N connections take: values alone, for the probe of both programs.
        .target(name: "Capacity", swiftSettings: swiftSettings),
        // CRC32C by the processor's instruction.
        .target(name: "CJournal"),
        // What is on disk: records, segments, and what recovery makes of them. It does no I/O.
        .target(name: "Journal", dependencies: ["CJournal", "Slabs"], swiftSettings: swiftSettings),
        .target(
            name: "Configuration",
            dependencies: [
                "Access", "Broker", "Capacity", "IO", "Permissions", "Transports",
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: swiftSettings),
        .target(
            name: "Server",
            dependencies: [
                "Access", "Broker", "Configuration", "Drivers", "IO", "Journal", "Permissions", "Schedules", "Slabs",
                "Transports", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: swiftSettings),
        // A client's end of a WebSocket, as a machine without a socket: for the commands, the load generator and tests.
        .target(name: "ClientWebSocket", swiftSettings: swiftSettings),
        .executableTarget(
            name: "stampede",
            dependencies: [
                "Access", "Broker", "Capacity", "ClientWebSocket", "Configuration", "Drivers", "IO", "Journal", "STOMP",
                "Server", "Transports",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: swiftSettings),
        .target(name: "CProcess", path: "Bench/CProcess"),
        // The load generator: clients in great number on the broker's own drivers.
        .target(
            name: "Load",
            dependencies: [
                "ClientWebSocket", "Drivers", "IO", "Slabs", "Transports",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Bench/Load",
            swiftSettings: swiftSettings),
        // The least that a durable queue can cost: the yardstick of `stampede-bench durable`.
        .executableTarget(
            name: "floor_log", path: "Bench/floors",
            cSettings: [.define("STAMPEDE_URING", .when(traits: ["URing"]))],
            linkerSettings: [.linkedLibrary("uring", .when(traits: ["URing"])), .linkedLibrary("pthread")]),
        // Bad clients of every kind, and a bound on the memory of a process: for the tests and for `stampede-bench`.
        .target(
            name: "Attacks", dependencies: ["CProcess", "Slabs"], path: "Bench/Attacks", swiftSettings: swiftSettings),
        // The broker's inner parts, one operation at a time.
        .target(
            name: "Micro", dependencies: ["Broker", "CProcess", "FakeKernel", "IO", "STOMP", "Slabs", "Transports"],
            path: "Bench/Micro", swiftSettings: swiftSettings),
        .executableTarget(
            name: "stampede-bench",
            dependencies: [
                "Attacks", "CProcess", "Capacity", "Drivers", "Load", "Micro",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Bench/stampede-bench",
            swiftSettings: swiftSettings),
        // What stands below shards where there is no driver: in unit tests, in benchmarks, under the fuzzer.
        .target(
            name: "FakeKernel", dependencies: ["Broker", "IO", "Slabs"], path: "Tests/FakeKernel",
            swiftSettings: swiftSettings),
        // The broker on a simulated kernel, with simulated clients and an oracle that judges what they see.
        .target(
            name: "Simulator",
            dependencies: [
                "Broker", "CTLS", "ClientWebSocket", "IO", "Journal", "Permissions", "Slabs", "Transports",
            ],
            path: "Tests/Simulator",
            // A run is one thread's. Debug builds check that accesses are exclusive; a campaign would spend a tenth of its
            // time on it.
            swiftSettings: swiftSettings + [
                .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))
            ]),
        .executableTarget(
            name: "stampede-simulate",
            dependencies: ["Simulator", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Tests/SimulatorMain", swiftSettings: swiftSettings),
        .testTarget(
            name: "SimulatorTests", dependencies: ["Simulator", "TestSupport", "stampede-simulate"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "LoadTests",
            // The programs themselves too: the load is put on a broker that runs.
            dependencies: [
                "Attacks", "CProcess", "Load", "floor_log", "stampede-bench", "stampede",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: swiftSettings),
        // What is fuzzed, and what replays the corpus in every test run.
        .target(
            name: "FuzzFrames", dependencies: ["STOMP"], path: "Tests/Fuzz/Frames", swiftSettings: swiftSettings),
        .target(
            name: "FuzzBroker",
            dependencies: [
                "Access", "Broker", "Configuration", "FakeKernel", "FuzzFrames", "IO", "Permissions", "STOMP",
                "Simulator",
            ],
            path: "Tests/Fuzz/Broker", swiftSettings: swiftSettings),
        .target(
            name: "FuzzJournal", dependencies: ["FuzzFrames", "Journal", "JournalFixtures"], path: "Tests/Fuzz/Journal",
            swiftSettings: swiftSettings),
        .target(
            name: "FuzzTransports", dependencies: ["FuzzFrames", "Transports"], path: "Tests/Fuzz/Transports",
            swiftSettings: swiftSettings),
        .testTarget(
            name: "FuzzTests", dependencies: ["FuzzBroker", "FuzzFrames", "FuzzJournal", "FuzzTransports"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ClientWebSocketTests", dependencies: ["ClientWebSocket"], swiftSettings: swiftSettings),
        .testTarget(name: "SlabsTests", dependencies: ["Slabs"], swiftSettings: swiftSettings),
        .testTarget(name: "STOMPTests", dependencies: ["STOMP", "Slabs"], swiftSettings: swiftSettings),
        .testTarget(name: "SchedulesTests", dependencies: ["Schedules"], swiftSettings: swiftSettings),
        .testTarget(name: "PermissionsTests", dependencies: ["Permissions"], swiftSettings: swiftSettings),
        .testTarget(name: "AccessTests", dependencies: ["Access", "Permissions"], swiftSettings: swiftSettings),
        .testTarget(
            name: "BrokerTests",
            dependencies: ["Broker", "FakeKernel", "IO", "Journal", "Permissions", "STOMP", "Slabs"],
            swiftSettings: swiftSettings),
        // Echoes WebSocket messages, for suites that test servers from outside.
        .executableTarget(
            name: "stampede-websocket-echo", dependencies: ["Transports"], path: "Tests/WebSocketEcho",
            swiftSettings: swiftSettings),
        .testTarget(
            name: "TransportsTests",
            dependencies: ["CDeflate", "COctets", "CTLS", "IO", "Slabs", "TestSupport", "Transports"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "DriversTests", dependencies: ["Drivers", "IO", "Slabs", "CURing"], swiftSettings: swiftSettings),
        // Logs as the broker writes them, for tests and for the fuzzer.
        .target(
            name: "JournalFixtures", dependencies: ["Journal"], path: "Tests/JournalFixtures",
            swiftSettings: swiftSettings),
        .testTarget(
            name: "JournalTests", dependencies: ["CJournal", "Journal", "JournalFixtures"],
            swiftSettings: swiftSettings),
        .testTarget(name: "CapacityTests", dependencies: ["Capacity"], swiftSettings: swiftSettings),
        .testTarget(
            name: "ConfigurationTests",
            // The executable itself, because the command line is tested by running it.
            dependencies: [
                "Access", "Capacity", "ClientWebSocket", "Configuration", "Broker", "IO", "Journal", "JournalFixtures",
                "STOMP", "Server", "stampede",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: swiftSettings),
        .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
        .target(name: "CTestSupport", path: "Tests/CTestSupport"),
        // The broker as a process, and clients that talk to it over real sockets.
        .target(
            name: "TestSupport", dependencies: ["CTestSupport", "ClientWebSocket", "IO", "Transports"],
            path: "Tests/TestSupport",
            swiftSettings: swiftSettings),
        .testTarget(
            name: "Conformance", dependencies: ["CAccess", "TestSupport", "stampede"], swiftSettings: swiftSettings),
        .testTarget(
            name: "Integration", dependencies: ["Attacks", "IO", "Journal", "TestSupport", "stampede"],
            exclude: ["clients"],
            swiftSettings: swiftSettings),
    ]
)

// The fuzzer itself needs libFuzzer, which only `-sanitize=fuzzer` links: `Tests/Fuzz/run` builds it.
if Context.environment["STAMPEDE_FUZZING"] == "1" {
    package.targets += [
        .target(name: "CLibFuzzer", path: "Tests/Fuzz/CLibFuzzer"),
        .target(
            name: "FuzzDriver", dependencies: ["CLibFuzzer", "FuzzFrames"], path: "Tests/Fuzz/Driver",
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "stampede-fuzz-frames", dependencies: ["FuzzDriver", "FuzzFrames"], path: "Tests/Fuzz/MainFrames",
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "stampede-fuzz-journal", dependencies: ["FuzzDriver", "FuzzFrames", "FuzzJournal"],
            path: "Tests/Fuzz/MainJournal", swiftSettings: swiftSettings),
        .executableTarget(
            name: "stampede-fuzz-transports", dependencies: ["FuzzDriver", "FuzzFrames", "FuzzTransports"],
            path: "Tests/Fuzz/MainTransports", swiftSettings: swiftSettings),
        .executableTarget(
            name: "stampede-fuzz", dependencies: ["FuzzBroker", "FuzzDriver", "FuzzFrames"], path: "Tests/Fuzz/Main",
            swiftSettings: swiftSettings),
    ]
}

// `.ci/sanitize` and `.ci/coverage` run some of the tests alone, and need not build the others and what only they need.
if let wanted = Context.environment["STAMPEDE_TESTS"] {
    var kept: Set<String> = []
    var next = wanted.split(separator: " ").map(String.init)
    while let name = next.popLast() {
        guard kept.insert(name).inserted else { continue }
        guard let target = package.targets.first(where: { $0.name == name }) else { continue }
        for case .byNameItem(let dependency, _) in target.dependencies { next.append(dependency) }
    }
    package.targets.removeAll { !kept.contains($0.name) }
    package.products.removeAll { ["stampede", "stampede-bench", "AllocationCounter"].contains($0.name) }
}

// Only `.ci/documentation` needs the plugin: nobody else has to fetch it.
if Context.environment["STAMPEDE_DOCUMENTATION"] == "1" {
    package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.4.0"))
}
