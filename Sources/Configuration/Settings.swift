public import Access
public import Broker
public import IO

/// All settings of the broker, checked. `stampede serve` runs with them.
///
/// `Config/stampede.yaml` documents every key. `Schema` connects keys and fields. `EffectiveSettings.load` guarantees
/// all ranges and all rules of `CrossChecks.swift`.
public struct Settings: Sendable {
    /// Where clients connect. At least one.
    public var listeners = [ListenerSettings.standard]
    /// Certificates and rules of listeners with TLS.
    public var tls = TLSSettings()
    public var driver = DriverPreference.auto
    /// The configured number of worker threads. 0: one per available CPU. See
    /// `resolvedWorkerCount(availableCPUCount:)`.
    public var workerCount = 0
    public var driverOptions = DriverOptions()
    public var broker = BrokerOptions()
    public var storage = StorageSettings()
    public var access = AccessSettings()
    public var logLevel = LogLevel.info
    public var logFormat = LogFormat.text

    /// The most workers. Each takes a thread, a ring and buffers. With more workers, the mailboxes between them would
    /// take most of the time.
    public static let workerCountMax = 128

    public init() {}

    /// The number of worker threads to start on a machine that offers `availableCPUCount` CPUs to this process.
    public func resolvedWorkerCount(availableCPUCount: Int) -> Int {
        workerCount > 0 ? workerCount : min(max(availableCPUCount, 1), Self.workerCountMax)
    }

    /// What patterns of destinations can match at all.
    public var patternLimits: PatternLimits {
        PatternLimits(
            nameByteCountMax: broker.limits.destinationNameByteCountMax,
            levelCountMax: broker.limits.destinationLevelCountMax)
    }

    /// The listeners that other machines can reach and that require no certificate. The broker warns about them where it
    /// asks nobody who they are.
    public var exposedListeners: [ListenerSettings] {
        listeners.filter { !$0.isLoopback && !($0.transport.usesTLS && tls.clientCertificates == .required) }
    }

    /// The listeners that other machines can reach, and where whoever is between can read along. The broker warns about
    /// them where clients have to show passcodes.
    public var readableListeners: [ListenerSettings] { listeners.filter { !$0.isLoopback && !$0.transport.usesTLS } }
}

/// The driver that the operator asks for.
public enum DriverPreference: String, Sendable, CaseIterable {
    /// io_uring if the kernel passes the self-test, else epoll.
    case auto
    /// io_uring. The broker does not start if the kernel refuses it.
    case uring
    case epoll
}

/// The least severe level that is logged. The names are those of swift-log.
public enum LogLevel: String, Sendable, CaseIterable {
    case trace, debug, info, notice, warning, error, critical
}

/// The format of log lines.
public enum LogFormat: String, Sendable, CaseIterable {
    /// `2026-01-31T12:00:00.000Z info     message key=value`
    case text
    /// One JSON object per line.
    case json
}
