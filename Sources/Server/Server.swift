public import Access
import Broker
public import Configuration
import Drivers
import Glibc
import IO
public import Logging
import Permissions
import Slabs

/// The broker as a process: listeners, worker threads, signals.
public enum StampedeServer {
    /// Runs the broker until a signal ends it. Returns the exit code of the process: 0 after a drain, 1 if the broker
    /// could not start.
    ///
    /// - Parameters:
    ///   - authenticator: decides who may connect. nil: nobody is asked.
    ///   - file: the configuration file, for the log line "ready". nil: none was read.
    public static func run(
        _ settings: Settings, authenticator: Authenticator? = nil, file: String? = nil, logger: Logger
    ) -> Int32 {
        Signals.block()
        raiseDescriptorLimit()
        do throws(DriverError) {
            return try serve(settings, authenticator, file, logger)
        } catch {
            logger.error("\(error.description)")
            return 1
        }
    }

    private static func serve(
        _ settings: Settings, _ authenticator: Authenticator?, _ file: String?, _ logger: Logger
    ) throws(DriverError) -> Int32 {
        let choice = try DriverChoice(settings.driver).choose(descriptors: settings.driverOptions.descriptors)
        // A warning if io_uring could not be used.
        let isFallback = settings.driver == .auto && choice.kind == .epoll
        let reason = choice.reason.isEmpty ? "" : ": \(choice.reason)"
        logger.log(level: isFallback ? .warning : .debug, "using \(choice.kind.rawValue)\(reason)")
        warnOfExposedListeners(settings, hasLogins: authenticator != nil, logger)
        let certificates = try Certificates(settings)
        let store = try openStore(settings, logger)
        if settings.storage.isEnabled, store == nil {
            logger.notice("stopped while the store was read")
            return 0
        }
        let parts = ServerParts(authenticator: authenticator, certificates: certificates, store: store)
        do throws(DriverError) {
            return try serve(settings, parts, choice.kind, file, logger)
        } catch {
            // The rings of all workers need more memory than the ring of the self-test. No client was served yet, so
            // the broker can still switch to epoll.
            guard settings.driver == .auto, choice.kind == .uring, error.reason == .noMemory else { throw error }
            logger.warning(
                "using epoll: the kernel has no memory for the rings of all workers: \(error.description)")
            return try serve(settings, parts, .epoll, file, logger)
        }
    }

    private static func warnOfExposedListeners(_ settings: Settings, hasLogins: Bool, _ logger: Logger) {
        for listener in settings.exposedListeners where !hasLogins {
            logger.warning(
                """
                other machines can reach \(listener), and any login is accepted; protect it by a firewall or a proxy, \
                or listen on 127.0.0.1
                """)
        }
        for listener in settings.readableListeners where hasLogins {
            let remedy = listener.transport.usesWebSocket ? "wss://" : "stomps://"
            logger.warning(
                """
                other machines can reach \(listener), where passwords and tokens travel in the clear; listen on \
                \(remedy) with tls.certificate, or on 127.0.0.1 behind a proxy that ends TLS
                """)
        }
    }

    /// Locks and reads the store. nil: there is none, or a signal came.
    private static func openStore(
        _ settings: Settings, _ logger: Logger
    ) throws(DriverError) -> RecoveredStore? {
        guard settings.storage.isEnabled else { return nil }
        do throws(StorageError) {
            let idsSince = Shard.idsSince(settings.broker, now: Clock.wallMilliseconds)
            return try StorageRecovery.open(settings.storage, idsSince: idsSince, logger)
        } catch {
            throw DriverError(.other, error.description)
        }
    }

    private static func serve(
        _ settings: Settings, _ parts: ServerParts, _ driver: DriverChoice.Kind, _ file: String?,
        _ logger: Logger
    ) throws(DriverError) -> Int32 {
        let workerCount = settings.resolvedWorkerCount(availableCPUCount: AvailableCPUs.count)
        let peers = try WakeDirectory(workerCount: workerCount)
        let fabric = Fabric(
            shardCount: workerCount, mailboxByteCountMax: settings.broker.limits.mailboxByteCountMax,
            listenerCount: settings.listeners.count, hostCount: settings.broker.hosts.count)
        var listeners = try Listeners(settings, workerCount: workerCount)

        var driverOptions = settings.driverOptions
        var broker = settings.broker
        var access: AccessPool?
        if let authenticator = parts.authenticator {
            access = try AccessPool(authenticator, settings, &broker, peers, logger)
        }
        let listenerRules = settings.access.listenerRules
        if access == nil, !listenerRules.isEmpty { broker.access = AccessTable(forAnybodyOn: listenerRules) }
        driverOptions.findsPeerAddress = broker.needsAddresses
        driverOptions.usesFiles = parts.store != nil
        broker.listeners = listeners.options
        broker.zeroCopyByteCountMin = driverOptions.zeroCopyByteCountMin
        if broker.seed == 0 { broker.seed = UInt64.random(in: 1...UInt64.max) }
        broker.identityKey = KeyedHash(low: .random(in: 0...UInt64.max), high: .random(in: 0...UInt64.max))

        parts.store?.warnOfUnknownHosts(broker.hosts, logger)
        broker.storage = parts.store?.options(workerCount: workerCount)

        let control = Control(workerCount: workerCount)
        var workers: [Worker] = []
        for index in 0..<workerCount {
            let worker = Worker(
                index: index, kind: driver, driverOptions: driverOptions, broker: broker, store: parts.store,
                fabric: fabric, peers: peers, listeners: listeners.descriptors[index],
                transports: listeners.transports, tlsOptions: parts.certificates.layerOptions, control: control,
                access: access, logger: logger)
            worker.start()
            workers.append(worker)
        }
        if let failure = control.awaitStarted() {
            for worker in workers { worker.join() }
            throw failure
        }
        access?.start()
        logger.notice(
            "ready",
            metadata: [
                "version": "\(settings.broker.version)", "config": "\(file ?? "none")",
                "listening": "\(listeners.options.map(\.address).joined(separator: ","))",
                "driver": "\(driver.rawValue)",
                "features": "\(control.level)", "workers": .stringConvertible(workerCount),
                "connections-max": .stringConvertible(control.connectionCountMax),
            ])
        warnOfSmallCapacity(control.connectionCountMax, settings, logger)
        parts.certificates.warnOfExpiry(logger)
        awaitEnd(control, peers, parts.certificates, access, settings, logger)
        // Workers close what they listen on themselves. A new broker may take the names of Unix sockets.
        listeners.removeFiles()
        for worker in workers { worker.join() }
        access?.stop()
        logger.notice("stopped", metadata: control.totals())
        return 0
    }

    /// Warns if there is room for few connections, unless the configuration limits them. RLIMIT_NOFILE is then probably
    /// too low by mistake.
    private static func warnOfSmallCapacity(_ count: Int, _ settings: Settings, _ logger: Logger) {
        let plenty = 4000
        guard count < plenty, settings.broker.limits.connectionCountMax == 0,
            settings.driverOptions.connectionCountMax == 0
        else { return }
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        logger.warning(
            """
            there is room for only \(count) connections, because RLIMIT_NOFILE is \(limit.rlim_max); raise it with \
            ulimit -Hn, LimitNOFILE= (systemd) or --ulimit nofile= (Docker)
            """)
    }

    /// Handles signals until one ends the broker; then starts the drain. A second one ends the process at once.
    private static func awaitEnd(
        _ control: Control, _ peers: WakeDirectory, _ certificates: Certificates, _ access: AccessPool?,
        _ settings: Settings, _ logger: Logger
    ) {
        let interval = UInt64(Certificates.warningIntervalSeconds)
        var warnsAt = Clock.monotonicNanoseconds / 1_000_000_000 + interval
        while true {
            let now = Clock.monotonicNanoseconds / 1_000_000_000
            switch Signals.wait(secondsMax: Int(warnsAt - min(warnsAt, now))) {
            case nil:
                certificates.warnOfExpiry(logger)
                warnsAt = Clock.monotonicNanoseconds / 1_000_000_000 + interval
            case SIGUSR1:
                control.requestReport()
                for worker in 0..<peers.count { peers[worker].wake() }
            case SIGHUP where certificates.areUsed || access != nil:
                certificates.reload(logger)
                access?.reload(settings, logger)
            case SIGHUP:
                logger.warning(
                    """
                    SIGHUP has no effect: there are no certificates and no users to read again, and the rest of the \
                    configuration is read at the start only
                    """)
            case let signal?:
                logger.notice("draining", metadata: ["signal": "\(Signals.name(signal))"])
                control.requestDrain()
                for worker in 0..<peers.count { peers[worker].wake() }
                Signals.exitOnNext()
                return
            }
        }
    }

    /// Raises the soft limit of descriptors to the hard limit. The operator limits connections with the hard limit.
    private static func raiseDescriptorLimit() {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0 else { return }
        limits.rlim_cur = limits.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    }
}

extension DriverChoice {
    init(_ preference: DriverPreference) {
        switch preference {
        case .auto: self = .auto
        case .uring: self = .uring
        case .epoll: self = .epoll
        }
    }
}

/// What is read from files before the workers start.
private struct ServerParts {
    /// nil: nobody is asked who may connect.
    var authenticator: Authenticator?
    var certificates: Certificates
    /// nil: nothing is stored.
    var store: RecoveredStore?
}
