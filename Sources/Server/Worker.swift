import Broker
import Drivers
import Glibc
import IO
import Logging
import Slabs
import Transports

/// A worker: a thread with its own shard and driver.
final class Worker: @unchecked Sendable {
    let index: Int
    private let kind: DriverChoice.Kind
    private let driverOptions: DriverOptions
    let broker: BrokerOptions
    /// Until the shard has what it owns of it.
    private var store: RecoveredStore?
    private let fabric: Fabric
    private let peers: WakeDirectory
    private let listeners: [Int32]
    /// By `ListenerID`.
    private let transports: [ListenerTransport]
    /// nil: no listener has TLS.
    private let tlsOptions: TLSLayerOptions?
    let control: Control
    /// nil: nobody is asked who may connect.
    private let access: AccessPool?
    let logger: Logger
    private var thread = pthread_t()
    private var isRunning = false

    init(
        index: Int, kind: DriverChoice.Kind, driverOptions: DriverOptions, broker: BrokerOptions,
        store: RecoveredStore?, fabric: Fabric, peers: WakeDirectory, listeners: [Int32],
        transports: [ListenerTransport], tlsOptions: TLSLayerOptions?, control: Control, access: AccessPool?,
        logger: Logger
    ) {
        self.index = index
        self.kind = kind
        self.driverOptions = driverOptions
        self.broker = broker
        self.store = store
        self.fabric = fabric
        self.peers = peers
        self.listeners = listeners
        self.transports = transports
        self.tlsOptions = tlsOptions
        self.control = control
        self.access = access
        var logger = logger
        logger[metadataKey: "worker"] = .stringConvertible(index)
        self.logger = logger
    }

    func start() {
        let result = pthread_create(
            &thread, nil,
            { argument in
                let worker = Unmanaged<Worker>.fromOpaque(argument!).takeRetainedValue()
                worker.main()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        isRunning = result == 0
        if isRunning { return }
        Unmanaged.passUnretained(self).release()
        control.didFail(
            DriverError(
                .other, errorNumber: result,
                """
                the thread of worker \(index) cannot be started: \(String(cString: strerror(result))); raise ulimit -u, \
                TasksMax= (systemd) or --pids-limit (Docker), or lower io.workers
                """))
    }

    func join() { if isRunning { pthread_join(thread, nil) } }

    private func main() {
        switch kind {
        case .epoll: main(EpollDriver.self)
        case .uring:
            #if URing
                main(URingDriver.self)
            #else
                control.didFail(DriverError(.notSupported, "built without io_uring"))
            #endif
        }
    }

    /// Generic, so that the compiler specialises the loop for each driver and the loop has no dynamic calls.
    private func main<D: Driver & ~Copyable>(_ type: D.Type) {
        do throws(DriverError) {
            let driver = try D(
                options: driverOptions, listeners: listeners, wake: peers[index], peers: peers)
            do throws(SlabError) {
                var shard = try Shard(
                    index: index, options: broker, fabric: fabric, connectionCountMax: driver.connectionCountMax,
                    now: Clock.monotonicNanoseconds, wallMilliseconds: Clock.wallMilliseconds)
                do throws(StorageError) {
                    try store?.restore(&shard)
                    store = nil
                } catch {
                    driver.shutDown()
                    return control.didFail(DriverError(.other, error.description))
                }
                let tableCount = driver.connectionCountMax
                // A broker whose listeners are all plain has no layer.
                let layer =
                    transports.allSatisfy(\.isPlain)
                    ? nil : try TransportLayer(listeners: transports, connectionCountMax: tableCount)
                let tls = try makeTLSLayer(connectionCountMax: tableCount)
                let limit = broker.limits.connectionCountMax
                control.didStart(
                    level: driver.level, connectionCountMax: limit == 0 ? tableCount : min(limit, tableCount))
                guard control.mayServe() else { return driver.shutDown() }
                loop(shard, driver, layer, tls)
            } catch {
                driver.shutDown()
                throw DriverError(.other, error.explanation(worker: index))
            }
        } catch {
            control.didFail(error)
        }
    }

    private func makeTLSLayer(connectionCountMax: Int) throws(SlabError) -> TLSLayer? {
        guard let tlsOptions else { return nil }
        return try TLSLayer(
            listeners: tlsOptions.listeners, tickets: tlsOptions.tickets, connectionCountMax: connectionCountMax,
            nowSeconds: Clock.wallSeconds)
    }

    private func loop<D: Driver & ~Copyable>(
        _ shard: consuming Shard, _ driver: consuming D, _ layer: consuming TransportLayer?,
        _ tls: consuming TLSLayer?
    ) {
        let mailbox = fabric.mailbox(index)
        var completions = Batch<Completion>(capacity: 4096)
        var part = Batch<Submission>(capacity: 256)
        var reportCount = 0
        var accessNumber = 0
        var now = Clock.monotonicNanoseconds
        let hasLayer = layer != nil
        let hasTLS = tls != nil
        var endsIfStorageFails = false
        if case .stop = broker.storage?.onError { endsIfStorageFails = true }
        while true {
            var deadline = shard.deadline
            if let access, access.hasAnswers(worker: index) { deadline = 0 }
            if hasLayer { deadline = min(deadline, layer!.lower(&shard.submissions, now: now)) }
            if hasTLS {
                deadline = min(deadline, lower(&shard.submissions, &part, &tls!, &driver, &completions, now: now))
            }
            // A batch that was posted since the turn makes `prepareToSleep` return false. The sender of a later batch
            // sees that this worker sleeps, and wakes it.
            if deadline != 0, !mailbox.prepareToSleep() { deadline = 0 }
            driver.poll(shard.submissions, deadline: deadline, completions: &completions)
            mailbox.didWake()
            if hasTLS { raise(&completions, &tls!, &driver) }
            if hasLayer { raise(&completions, &layer!, &driver) }
            if control.isDraining { shard.beginDrain() }
            if let access { accessNumber = bring(access, &shard, accessNumber) }
            now = Clock.monotonicNanoseconds
            shard.turn(completions, now: now, wallMilliseconds: Clock.wallMilliseconds)
            completions.removeAll()
            if let access, shard.hasQuestions { ask(access, shard.takeQuestions(), &driver, &layer, &tls) }
            if shard.hasNotices { log(shard.takeNotices(), &driver, &layer) }
            if control.reportCount != reportCount {
                reportCount = control.reportCount
                let report = WorkerReport(
                    worker: index, counters: shard.counters, driverCounters: driver.counters,
                    transportCounters: hasLayer ? layer!.currentCounters() : TransportCounters(),
                    tlsCounters: hasTLS ? tls!.currentCounters() : TLSCounters(),
                    connectionCount: shard.connectionCount, blockByteCount: shard.blockByteCount,
                    hosts: shard.hostFigures())
                log(control.take(report, number: reportCount))
            }
            if shard.hasStorageFailed, endsIfStorageFails { endForWantOfStorage() }
            if shard.isDrained { break }
        }
        log(
            control.takeLast(
                WorkerReport(
                    worker: index, counters: shard.counters, driverCounters: driver.counters,
                    transportCounters: hasLayer ? layer!.currentCounters() : TransportCounters(),
                    tlsCounters: hasTLS ? tls!.currentCounters() : TLSCounters())))
        driver.shutDown()
    }

    /// The log can be written no more, and the operator wants the broker to end then. It does not drain: what clients were
    /// promised is on disk, and no promise can be made any more.
    private func endForWantOfStorage() -> Never {
        logger.critical("the store cannot be used any more: the broker ends (storage.on-error: stop)")
        _exit(1)
    }

    /// Logs the totals, then the counters of each worker.
    private func log(_ reports: [WorkerReport]) {
        guard !reports.isEmpty else { return }
        var logger = logger
        logger[metadataKey: "worker"] = nil
        let sum = WorkerReport.sum(reports)
        logger.notice("counters of all workers", metadata: sum.metadata.merging(sum.hostMetadata) { $1 })
        for report in reports {
            var metadata = report.metadata
            metadata["worker"] = .stringConvertible(report.worker)
            logger.notice("counters", metadata: metadata)
        }
    }

    private func log<D: Driver & ~Copyable>(
        _ notices: [Notice], _ driver: inout D, _ layer: inout TransportLayer?
    ) {
        for notice in notices {
            let kind = notice.kind.rawValue
            if notice.occurrenceCount > 0 {
                logger.log(
                    level: Self.level(of: notice.kind),
                    "\(kind): \(notice.occurrenceCount) lines like this within a second, \(notice.loggedCount) logged",
                    metadata: [
                        "occurred": .stringConvertible(notice.occurrenceCount),
                        "logged": .stringConvertible(notice.loggedCount),
                    ])
                continue
            }
            if notice.kind == .undelivered {
                logger.warning(
                    "undelivered messages are lost",
                    metadata: ["queue": "\(notice.text)", "messages": .stringConvertible(notice.messageCount)])
                continue
            }
            let level = Self.level(of: notice.kind)
            guard logger.logLevel <= level else { continue }
            var metadata = notice.client.map { who($0, &driver, &layer) } ?? [:]
            if !notice.subscription.isEmpty { metadata["subscription"] = "\(notice.subscription)" }
            if !notice.destination.isEmpty {
                metadata["destination"] = "\(notice.destination)"
            }
            logger.log(level: level, "\(kind): \(notice.text)", metadata: metadata)
        }
    }

    private static func level(of kind: Notice.Kind) -> Logger.Level {
        switch kind {
        case .protocolError, .connectionFailed, .clientSlowed, .sessionExpired: .info
        case .connectionRefused, .slowConsumer, .acceptFailed, .messagesDropped, .memoryLimit, .tooManyDestinations,
            .notPersistent, .undelivered, .diskFull, .loginRefused, .accessRefused, .subscriptionExpired:
            .warning
        case .storageFailed: .error
        }
    }

    /// The log fields of a client: its number, which is unique in this process, its address, listener, session and
    /// login.
    private func who<D: Driver & ~Copyable>(
        _ client: Notice.Client, _ driver: inout D, _ layer: inout TransportLayer?
    ) -> Logger.Metadata {
        var metadata: Logger.Metadata = [:]
        if client.number != 0 { metadata["connection"] = .stringConvertible(client.number) }
        let address =
            client.connection.isNone
            ? driver.peerAddress(ofAccepted: client.descriptor) : driver.peerAddress(of: client.connection)
        if let address { metadata["address"] = "\(address)" }
        if layer != nil, let source = layer!.clientAddress(of: client.connection) {
            metadata["address"] = "\(source)"
            if let address { metadata["proxy"] = "\(address)" }
        }
        let listener = Int(client.listener.rawValue)
        if listener < broker.listeners.count, broker.listeners[listener].isUnix,
            let peer = credentials(client, &driver)
        {
            metadata["peer"] = "\(peer)"
        }
        if broker.listeners.count > 1, listener < broker.listeners.count {
            metadata["listener"] = "\(broker.listeners[listener].address)"
        }
        if !client.session.isEmpty { metadata["session"] = "\(client.session)" }
        if !client.login.isEmpty { metadata["login"] = "\(client.login)" }
        if !client.host.isEmpty { metadata["host"] = "\(client.host)" }
        return metadata
    }

    /// The process at the other end of a Unix socket.
    private func credentials<D: Driver & ~Copyable>(_ client: Notice.Client, _ driver: inout D) -> PeerCredentials? {
        client.connection.isNone
            ? driver.peerCredentials(ofAccepted: client.descriptor) : driver.peerCredentials(of: client.connection)
    }
}

/// The clocks. The core does not read them; the worker passes the time to each turn.
enum Clock {
    static var monotonicNanoseconds: UInt64 { read(CLOCK_MONOTONIC) }
    static var wallMilliseconds: UInt64 { read(CLOCK_REALTIME) / 1_000_000 }
    static var wallSeconds: Int64 { Int64(read(CLOCK_REALTIME) / 1_000_000_000) }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}

extension SlabError {
    /// The error, and what the operator can change.
    fileprivate func explanation(worker: Int) -> String {
        switch self {
        case .addressSpaceRefused(let byteCount, let number):
            """
            worker \(worker): the kernel refused \((byteCount + (1 << 20) - 1) >> 20) MiB of address space for a table: \
            \(String(cString: strerror(number))). Tables are reserved for their largest size, and filled as they are \
            used: raise or lift RLIMIT_AS (ulimit -v unlimited; LimitAS= of systemd), set vm.overcommit_memory to 0 or \
            1, or lower limits.queued-messages-max, limits.subscriptions-max and io.workers
            """
        case .sizeOutOfRange(let count):
            """
            worker \(worker): a table of \(count) records is too large; lower limits.queued-messages-max, \
            limits.subscriptions-max or limits.connections-max
            """
        }
    }
}
