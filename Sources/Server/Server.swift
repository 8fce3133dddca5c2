public import Access
import Broker
public import Configuration
import Drivers
import Glibc
import IO
public import Logging
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
        let prefix = isFallback ? "using epoll: " : ""
        logger.log(level: isFallback ? .warning : .debug, "\(prefix)\(choice.reason)")
        for address in settings.exposedListeners where authenticator == nil {
            logger.warning(
                """
                other machines can reach \(address), and any login is accepted; protect it by a firewall or a proxy, or \
                listen on 127.0.0.1
                """)
        }
        do throws(DriverError) {
            return try serve(settings, authenticator, choice.kind, file, logger)
        } catch {
            // The rings of all workers need more memory than the ring of the self-test. No client was served yet, so
            // the broker can still switch to epoll.
            guard settings.driver == .auto, choice.kind == .uring, error.reason == .noMemory else { throw error }
            logger.warning(
                "using epoll: the kernel has no memory for the rings of all workers: \(error.description)")
            return try serve(settings, authenticator, .epoll, file, logger)
        }
    }

    private static func serve(
        _ settings: Settings, _ authenticator: Authenticator?, _ driver: DriverChoice.Kind, _ file: String?,
        _ logger: Logger
    ) throws(DriverError) -> Int32 {
        let workerCount = settings.resolvedWorkerCount(availableCPUCount: AvailableCPUs.count)
        let peers = try WakeDirectory(workerCount: workerCount)
        let fabric = Fabric(
            shardCount: workerCount, mailboxByteCountMax: settings.broker.limits.mailboxByteCountMax)
        var boundAddresses: [String] = []
        var listeners = [[Int32]](repeating: [], count: workerCount)
        for address in settings.listeners {
            var group = try ListenerGroup(
                address: address.description, workerCount: workerCount, options: settings.driverOptions)
            boundAddresses.append(group.boundAddress)
            for worker in 0..<workerCount { listeners[worker].append(group.take(worker: worker)) }
        }

        var driverOptions = settings.driverOptions
        var broker = settings.broker
        let access = authenticator.map { AccessPool($0, settings.access, &broker, peers) }
        driverOptions.findsPeerAddress = broker.needsAddresses
        broker.listeners = boundAddresses.map { ListenerOptions(address: $0) }
        broker.zeroCopyByteCountMin = driverOptions.zeroCopyByteCountMin
        if broker.seed == 0 { broker.seed = UInt64.random(in: 1...UInt64.max) }
        broker.identityKey = KeyedHash(low: .random(in: 0...UInt64.max), high: .random(in: 0...UInt64.max))

        let control = Control(workerCount: workerCount)
        var workers: [Worker] = []
        for index in 0..<workerCount {
            let worker = Worker(
                index: index, kind: driver, driverOptions: driverOptions, broker: broker, fabric: fabric,
                peers: peers, listeners: listeners[index], control: control, access: access, logger: logger)
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
                "listening": "\(boundAddresses.joined(separator: ","))", "driver": "\(driver.rawValue)",
                "features": "\(control.level)", "workers": .stringConvertible(workerCount),
                "connections-max": .stringConvertible(control.connectionCountMax),
            ])
        warnOfSmallCapacity(control.connectionCountMax, settings, logger)
        awaitEnd(control, peers, access, settings, logger)
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
        _ control: Control, _ peers: WakeDirectory, _ access: AccessPool?, _ settings: Settings, _ logger: Logger
    ) {
        while true {
            switch Signals.wait() {
            case SIGUSR1:
                control.requestReport()
                for worker in 0..<peers.count { peers[worker].wake() }
            case SIGHUP where access != nil:
                access?.reload(settings, logger)
            case SIGHUP:
                logger.warning(
                    "SIGHUP is ignored: the broker cannot reload its configuration yet; restart it after a change")
            case let signal:
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
