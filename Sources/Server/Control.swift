import Broker
import Drivers
import Glibc
import Logging
import Slabs
import Synchronization
import Transports

/// The state that the main thread and the workers share: start and failure of workers, drain, reports and totals.
final class Control: Sendable {
    private struct State {
        var startedCount = 0
        var failure: DriverError?
        var level = ""
        /// The latest report of each worker, by worker, and the number of the request that it answers.
        var reports: [Int: (number: Int, report: WorkerReport)] = [:]
        /// The latest request that all workers have answered.
        var answeredCount = 0
        var connectionCountMax = 0
    }

    private let workerCount: Int
    private let state = Guarded(State())
    private let drain = Atomic<Bool>(false)
    private let reports = Atomic<Int>(0)
    /// Each worker posts it once, when it has started or failed.
    private nonisolated(unsafe) let started: UnsafeMutablePointer<sem_t>
    /// Posted once for each worker, when all workers have started or failed.
    private nonisolated(unsafe) let settled: UnsafeMutablePointer<sem_t>

    init(workerCount: Int) {
        self.workerCount = workerCount
        started = .allocate(capacity: 1)
        sem_init(started, 0, 0)
        settled = .allocate(capacity: 1)
        sem_init(settled, 0, 0)
    }

    deinit {
        for semaphore in [started, settled] {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }
    }

    func didStart(level: String, connectionCountMax: Int) {
        state.withLock {
            $0.startedCount += 1
            $0.level = level
            $0.connectionCountMax += connectionCountMax
        }
        sem_post(started)
    }

    func didFail(_ error: DriverError) {
        state.withLock { $0.failure = $0.failure ?? error }
        sem_post(started)
    }

    /// Called by each worker that has started. Returns when all workers have started or failed.
    ///
    /// - Returns: false if a worker has failed. Then all workers end.
    func mayServe() -> Bool {
        while sem_wait(settled) != 0 && errno == EINTR {}
        return state.withLock { $0.failure == nil }
    }

    /// Waits until every worker has started or failed. Returns the first failure.
    func awaitStarted() -> DriverError? {
        for _ in 0..<workerCount {
            while sem_wait(started) != 0 && errno == EINTR {}
        }
        for _ in 0..<workerCount { sem_post(settled) }
        return state.withLock { $0.failure }
    }

    var level: String { state.withLock { $0.level } }
    /// The number of connections that all workers together can hold.
    var connectionCountMax: Int { state.withLock { $0.connectionCountMax } }

    func requestDrain() { drain.store(true, ordering: .releasing) }
    var isDraining: Bool { drain.load(ordering: .acquiring) }

    func requestReport() { reports.add(1, ordering: .releasing) }
    /// The number of requests so far. A worker reports when it has changed.
    var reportCount: Int { reports.load(ordering: .acquiring) }

    /// Takes the report of a worker, as its answer to request `number`.
    ///
    /// - Returns: the reports of all workers, ordered by worker, if this was the last answer. Else none.
    func take(_ report: WorkerReport, number: Int) -> [WorkerReport] {
        state.withLock { state in
            state.reports[report.worker] = (number, report)
            let answered = state.reports.values.map(\.number).min() ?? 0
            guard state.reports.count == workerCount, answered > state.answeredCount else { return [] }
            let isOver = answered == Int.max
            defer { state.answeredCount = answered }
            // All workers have ended and no request waits. The totals are logged when the broker stops.
            if isOver, reports.load(ordering: .acquiring) <= state.answeredCount { return [] }
            return state.reports.values.map(\.report).sorted { $0.worker < $1.worker }
        }
    }

    /// Takes the last report of a worker that ends. It answers all later requests.
    func takeLast(_ report: WorkerReport) -> [WorkerReport] { take(report, number: .max) }

    func totals() -> Logger.Metadata {
        state.withLock { state in
            WorkerReport.sum(state.reports.values.map(\.report)).totals
        }
    }
}

/// The counters of a worker, and what it holds at the moment.
struct WorkerReport {
    var worker = 0
    var counters = Counters()
    var driverCounters = DriverCounters()
    var transportCounters = TransportCounters()
    var tlsCounters = TLSCounters()
    var connectionCount = 0
    var blockByteCount = 0
    /// Of all workers together. Empty: there are no virtual hosts.
    var hosts: [HostFigures] = []

    var metadata: Logger.Metadata {
        var metadata = totals
        metadata["connections-now"] = .stringConvertible(connectionCount)
        metadata["memory"] = .stringConvertible(blockByteCount)
        return metadata
    }

    /// What was counted since the start.
    var totals: Logger.Metadata {
        var metadata = counters.metadata(with: driverCounters)
        for (name, count) in transportCounters.named + tlsCounters.named { metadata[name] = .stringConvertible(count) }
        return metadata
    }

    static func sum(_ reports: [WorkerReport]) -> WorkerReport {
        var sum = WorkerReport()
        for report in reports {
            sum.counters.add(report.counters)
            sum.transportCounters.add(report.transportCounters)
            sum.tlsCounters.add(report.tlsCounters)
            sum.driverCounters.completionQueueOverflow &+= report.driverCounters.completionQueueOverflow
            sum.driverCounters.receiveBufferExhausted &+= report.driverCounters.receiveBufferExhausted
            sum.connectionCount += report.connectionCount
            sum.blockByteCount += report.blockByteCount
            if sum.hosts.isEmpty { sum.hosts = report.hosts }
        }
        return sum
    }
}

extension Counters {
    /// The most important counters of broker and driver for an operator. Each limit that was reached appears as
    /// `limit.` and its key.
    func metadata(with driver: DriverCounters) -> Logger.Metadata {
        var figures: [String: UInt64] = [
            "connections": connectionsAccepted, "refused": connectionsRefused,
            "messages-received": messagesReceived, "messages-delivered": messagesDelivered,
            "messages-acknowledged": messagesAcknowledged, "messages-redelivered": messagesRedelivered,
            "messages-expired": messagesExpired, "messages-dead-lettered": messagesDeadLettered,
            "messages-delayed": messagesDelayed, "messages-deduplicated": messagesDeduplicated,
            "messages-dropped": messagesDropped, "messages-refused": messagesRefused,
            "messages-cooled": messagesCooled, "messages-warmed": messagesWarmed,
            "messages-unrouted": messagesUnrouted, "errors": errorsSent,
            "logins-refused": loginsRefused, "access-refused": accessRefused,
            "clients-slowed": clientsSlowed, "slow-consumers": slowConsumers,
            "heart-beats-missed": heartBeatsMissed, "bytes-received": bytesReceived, "bytes-sent": bytesSent,
            "log-lines-suppressed": noticesSuppressed, "completion-queue-overflows": driver.completionQueueOverflow,
            "receive-buffers-exhausted": driver.receiveBufferExhausted,
        ]
        for limit in LimitKind.allCases where limits[limit] > 0 { figures["limit.\(limit.key)"] = limits[limit] }
        return figures.mapValues { .stringConvertible($0) }
    }
}
