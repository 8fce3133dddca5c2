public import Broker
public import IO

/// Everything an operator may set, checked: what `stampede serve` runs with.
///
/// `Config/stampede.yaml` documents every key; `Schema` connects keys and fields. A `Settings` that came from
/// `EffectiveSettings.load` keeps every range and every rule of `CrossChecks.swift`.
public struct Settings: Sendable {
    /// Where clients connect. At least one.
    public var listeners = [ListenAddress.standard]
    public var driver = DriverPreference.auto
    /// Worker threads as configured; 0 stands for one per available CPU. See `resolvedWorkerCount(availableCPUCount:)`.
    public var workerCount = 0
    public var driverOptions = DriverOptions()
    public var broker = BrokerOptions()
    public var logLevel = LogLevel.info
    public var logFormat = LogFormat.text

    /// The most workers: a worker costs a thread, a ring and its buffers, and beyond this many the mailboxes between
    /// them dominate.
    public static let workerCountMax = 128

    public init() {}

    /// The number of worker threads to start on a machine that offers `availableCPUCount` CPUs to this process.
    public func resolvedWorkerCount(availableCPUCount: Int) -> Int {
        workerCount > 0 ? workerCount : min(max(availableCPUCount, 1), Self.workerCountMax)
    }

    /// The addresses that other machines can reach, which earn a warning while no users can be configured.
    public var exposedListeners: [ListenAddress] {
        listeners.filter { !$0.isLoopback }
    }
}

/// Which driver the broker shall use.
public enum DriverPreference: String, Sendable, CaseIterable {
    /// io_uring where the kernel passes the self-test, else epoll.
    case auto
    /// io_uring or nothing: the start fails where the kernel refuses it.
    case uring
    case epoll
}

/// The least severe level that is logged. The names are those of swift-log.
public enum LogLevel: String, Sendable, CaseIterable {
    case trace, debug, info, notice, warning, error, critical
}

/// How a log line looks.
public enum LogFormat: String, Sendable, CaseIterable {
    /// `2026-01-31T12:00:00.000Z info     message key=value`
    case text
    /// One JSON object a line.
    case json
}
