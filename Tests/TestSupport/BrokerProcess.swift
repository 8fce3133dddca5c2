import Glibc
import IO

/// A broker under test: `stampede serve` on a free port of the loopback interface.
public final class BrokerProcess: Sendable {
    /// How a broker is started.
    public struct Settings: Hashable, Sendable {
        public var driver: DriverUnderTest
        public var workers: Int
        /// Configuration keys that differ from their defaults, as `--set` takes them.
        public var values: [String: String]
        /// The text of a configuration file, for what `--set` cannot say. Empty: none.
        public var file: String
        public var logFormat: String
        /// The arguments of `--listen`, separated by commas. Empty: the listeners are in `file`. One has to be on
        /// 127.0.0.1.
        public var address: String
        /// The errno with which io_uring's system calls fail. 0: they work.
        public var ioUringErrno: Int32
        /// RLIMIT_NOFILE of the broker. 0: that of the tests.
        public var descriptorCountMax = 0
        /// RLIMIT_MEMLOCK of the broker. 0: that of the tests.
        public var lockedByteCountMax = 0
        /// The argument of `--driver`, where it is not the driver under test.
        public var driverArgument: String?

        public init(
            _ driver: DriverUnderTest, workers: Int = 1, _ values: [String: String] = [:], file: String = "",
            logFormat: String = "text", address: String = "127.0.0.1:0", ioUringErrno: Int32 = 0,
            driverArgument: String? = nil
        ) {
            self.driver = driver
            self.workers = workers
            self.values = values
            self.file = file
            self.logFormat = logFormat
            let transport = driver.transport
            let isStandard = address == "127.0.0.1:0" && !transport.isPlain
            self.address = isStandard ? "\(transport.scheme)://\(address)" : address
            if transport.usesTLS {
                let pair = TestCertificates.shared.pair("server")
                self.values.merge(["tls.certificate": pair.chainFile, "tls.key": pair.keyFile]) { given, _ in given }
            }
            self.ioUringErrno = ioUringErrno
            self.driverArgument = driverArgument
        }

        var arguments: [String] {
            var arguments = ["serve"] + address.split(separator: ",").flatMap { ["--listen", String($0)] }
            arguments += ["--driver", driverArgument ?? driver.argument]
            arguments += ["--workers", "\(workers)", "--log-format", logFormat]
            if values["storage.directory"] != nil { arguments += ["--set", "storage.enabled=true"] }
            let values = values.merging(patientLimits) { given, _ in given }
            for (key, value) in values.sorted(by: { $0.key < $1.key }) { arguments += ["--set", "\(key)=\(value)"] }
            return arguments
        }

        /// Where everything takes longer, clients are also late: their CONNECT, and the rest of a frame.
        private var patientLimits: [String: String] {
            guard Deadline.patience > 1, file.isEmpty else { return [:] }
            return [
                "limits.connect-timeout-ms": "\(5 * Deadline.patience)s",
                "limits.frame-timeout-ms": "\(30 * Deadline.patience)s",
            ]
        }
    }

    public let process: ChildProcess
    public let port: UInt16
    public let readyLine: String
    /// How its clients' frames travel.
    let transport: TransportKind

    /// Starts a broker and waits until it accepts connections.
    public init(_ settings: Settings, _ fileID: String = #fileID, _ line: Int = #line) throws {
        process = try Self.start(settings)
        guard let readyLine = try process.errorLine(where: { $0.contains("ready") }) else {
            let status = try process.waitForExit()
            throw Failure("the broker ended (\(status)): \(process.errorLines)", at: Place(fileID, line))
        }
        guard let match = readyLine.firstMatch(of: /127\.0\.0\.1:(\d+)/), let port = UInt16(match.1) else {
            throw Failure("no port in the ready line: \(readyLine)", at: Place(fileID, line))
        }
        self.readyLine = readyLine
        transport = settings.driver.transport
        self.port = port
    }

    /// Starts the broker's program without waiting for it to be ready: for starts that are to fail.
    public static func start(_ settings: Settings) throws -> ChildProcess {
        var arguments = settings.arguments
        let file = settings.file.isEmpty ? nil : try TemporaryFile(holding: settings.file, suffix: ".yaml")
        if let file { arguments += ["--config", file.path] }
        var options = ChildProcess.Options()
        options.ioUringErrno = settings.ioUringErrno
        options.descriptorCountMax = settings.descriptorCountMax
        options.lockedByteCountMax = settings.lockedByteCountMax
        return try withExtendedLifetime(file) {
            let process = try ChildProcess(BuildDirectory.path(of: "stampede"), arguments, options)
            // The file goes when this function returns, so the broker has to have read it: its first line says so.
            if file != nil { _ = try process.errorLine { _ in true } }
            return process
        }
    }

    /// The broker that all tests with the same settings share. It is started when the first asks, and ends with the
    /// test process. One that died is replaced, so that a crash fails the test that caused it and not all others.
    public static func shared(_ settings: Settings) throws -> BrokerProcess {
        try sharedBrokers.withLock { brokers in
            if let broker = brokers[settings] {
                guard let status = broker.process.status else { return broker }
                let log = broker.process.errorLines.suffix(20).joined(separator: "\n")
                print("the shared broker of \(settings) ended (\(status)):\n\(log)")
            }
            let broker = try BrokerProcess(settings)
            brokers[settings] = broker
            return broker
        }
    }

    private static let sharedBrokers = Monitor<[Settings: BrokerProcess]>([:])

    /// Asks for an orderly end, waits for it and returns how it went.
    public func terminate(within seconds: Int = Deadline.defaultSeconds) throws -> ExitStatus {
        process.signal(SIGTERM)
        return try process.waitForExit(within: seconds)
    }

    /// Resident memory that is the process's own (anonymous and shared memory, not its code), in bytes.
    public func residentByteCount() throws -> Int {
        let text = try TemporaryFile.contents(of: "/proc/\(process.pid)/status")
        return text.split(separator: "\n").reduce(0) { sum, line in
            guard let match = line.firstMatch(of: /^Rss(?:Anon|Shmem):\s+(\d+) kB/) else { return sum }
            return sum + Int(match.1)! * 1024
        }
    }
}
