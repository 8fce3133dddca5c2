import Broker
import Drivers
import Glibc
import Logging
import Slabs
import Synchronization

/// What the main thread and the workers tell each other: started, failed, drain, report, totals.
final class Control: Sendable {
    private struct State {
        var startedCount = 0
        var failure: DriverError?
        var level = ""
        /// The newest of each worker, and the number of the request that it answers.
        var reports: [Int: (number: Int, report: WorkerReport)] = [:]
        /// The newest request that was answered by all.
        var answeredCount = 0
        var connectionCountMax = 0
    }

    private let workerCount: Int
    private let state = Guarded(State())
    private let drain = Atomic<Bool>(false)
    private let reports = Atomic<Int>(0)
    /// Posted once by each worker when it has what it needs, or has failed.
    private nonisolated(unsafe) let started: UnsafeMutablePointer<sem_t>
    /// Posted once for each worker when all have.
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

    /// Called by each worker that has started. Returns when all have; false: one has failed, and nobody serves.
    func mayServe() -> Bool {
        while sem_wait(settled) != 0 && errno == EINTR {}
        return state.withLock { $0.failure == nil }
    }

    /// Returns when every worker has started or failed, with the first failure.
    func awaitStarted() -> DriverError? {
        for _ in 0..<workerCount {
            while sem_wait(started) != 0 && errno == EINTR {}
        }
        for _ in 0..<workerCount { sem_post(settled) }
        return state.withLock { $0.failure }
    }

    var level: String { state.withLock { $0.level } }
    /// Connections that all workers together can hold.
    var connectionCountMax: Int { state.withLock { $0.connectionCountMax } }

    func requestDrain() { drain.store(true, ordering: .releasing) }
    var isDraining: Bool { drain.load(ordering: .acquiring) }

    func requestReport() { reports.add(1, ordering: .releasing) }
    /// Grows with each request; a worker reports when it has changed.
    var reportCount: Int { reports.load(ordering: .acquiring) }

    /// A worker's figures, in answer to the request of that number. Returns those of all workers, in order, to the last one
    /// that answers; else none.
    func take(_ report: WorkerReport, number: Int) -> [WorkerReport] {
        state.withLock { state in
            state.reports[report.worker] = (number, report)
            let answered = state.reports.values.map(\.number).min() ?? 0
            guard state.reports.count == workerCount, answered > state.answeredCount else { return [] }
            let isOver = answered == Int.max
            defer { state.answeredCount = answered }
            // All have ended, and no request waits: the totals are told when the broker stops.
            if isOver, reports.load(ordering: .acquiring) <= state.answeredCount { return [] }
            return state.reports.values.map(\.report).sorted { $0.worker < $1.worker }
        }
    }

    /// What a worker that ends has counted: it answers every request from now on.
    func takeLast(_ report: WorkerReport) -> [WorkerReport] { take(report, number: .max) }

    func totals() -> Logger.Metadata {
        state.withLock { state in
            let sum = WorkerReport.sum(state.reports.values.map(\.report))
            return sum.counters.metadata(with: sum.driverCounters)
        }
    }
}

/// What a worker has counted, and holds now.
struct WorkerReport {
    var worker = 0
    var counters = Counters()
    var driverCounters = DriverCounters()
    var connectionCount = 0
    var blockByteCount = 0

    var metadata: Logger.Metadata {
        var metadata = counters.metadata(with: driverCounters)
        metadata["connections-now"] = .stringConvertible(connectionCount)
        metadata["memory"] = .stringConvertible(blockByteCount)
        return metadata
    }

    static func sum(_ reports: [WorkerReport]) -> WorkerReport {
        var sum = WorkerReport()
        for report in reports {
            sum.counters.add(report.counters)
            sum.driverCounters.completionQueueOverflow &+= report.driverCounters.completionQueueOverflow
            sum.driverCounters.receiveBufferExhausted &+= report.driverCounters.receiveBufferExhausted
            sum.connectionCount += report.connectionCount
            sum.blockByteCount += report.blockByteCount
        }
        return sum
    }
}

extension Counters {
    /// The figures that an operator looks for first, those of the driver too, and each limit that has acted as `limit.`
    /// and its key.
    func metadata(with driver: DriverCounters) -> Logger.Metadata {
        var figures: [String: UInt64] = [
            "connections": connectionsAccepted, "refused": connectionsRefused,
            "messages-received": messagesReceived, "messages-delivered": messagesDelivered,
            "messages-acknowledged": messagesAcknowledged, "messages-redelivered": messagesRedelivered,
            "messages-expired": messagesExpired, "messages-dead-lettered": messagesDeadLettered,
            "messages-dropped": messagesDropped, "messages-refused": messagesRefused,
            "messages-unrouted": messagesUnrouted, "errors": errorsSent, "slow-consumers": slowConsumers,
            "heart-beats-missed": heartBeatsMissed, "bytes-received": bytesReceived, "bytes-sent": bytesSent,
            "log-lines-suppressed": noticesSuppressed, "completion-queue-overflows": driver.completionQueueOverflow,
            "receive-buffers-exhausted": driver.receiveBufferExhausted,
        ]
        for limit in LimitKind.allCases where limits[limit] > 0 { figures["limit.\(limit.key)"] = limits[limit] }
        return figures.mapValues { .stringConvertible($0) }
    }
}
