public import Drivers
import Glibc

/// One measurement: connect, warm up, measure, drain, check.
public struct Measurement: Sendable {
    public var plan: Plan
    public var target: Load.Target
    public var server: ServerProcess?
    public var schedule: Schedule

    public init(_ plan: Plan, target: Load.Target, server: ServerProcess?, schedule: Schedule) {
        self.plan = plan
        self.target = target
        self.server = server
        self.schedule = schedule
    }

    /// Runs the measurement on new threads. `progress` is called some hundred times a second.
    public func run(progress: (String) -> Void = { _ in }) throws(DriverError) -> Outcome {
        let kernelBefore = KernelMemory.current.total
        var outcome = Outcome()
        outcome.scenario = plan.name
        outcome.clients = plan.clientCount
        if plan.usesJetStream, let failure = JetStream.make(plan, target: target) {
            outcome.failure = failure
            return outcome
        }
        defer { if plan.usesJetStream { _ = JetStream.remove(plan, target: target) } }
        let load = try Load(plan, target: target)
        let isReady = load.awaitReady { progress("connecting \($0.ready)/\(plan.clientCount)") }
        if isReady {
            load.phase = .warmUp
            pause(schedule.warmUpSeconds, load) { progress("warming up, \($0.delivered) delivered") }
            load.phase = .measure
            let before = Sample(server, load)
            pause(schedule.seconds, load) { progress("measuring, \($0.delivered) delivered") }
            let after = Sample(server, load)
            outcome.fill(from: before, to: after, plan)
            if target.tls != nil { outcome.encrypted = after.counts.encrypted - before.counts.encrypted }
            if plan.isConfirmed {
                outcome.confirmation = before.confirming.confirmation(until: after.confirming)
                outcome.confirmation?.isPersistent = plan.isPersistent
            }
            outcome.serverResidentBytes = server?.residentByteCount ?? 0
            outcome.kernelGrowthBytes = KernelMemory.current.total - kernelBefore
            if plan.stalledPerDestination > 0 {
                pause(schedule.stallSeconds, load) { progress("waiting for limits, \($0.delivered) delivered") }
            }
            _ = load.drain { progress("draining, \($0.outstanding) under way") }
            if plan.stalledPerDestination > 0 { awaitCut(load) }
        } else {
            load.control.fail("only \(load.control.counts.ready) of \(plan.clientCount) clients could subscribe")
        }
        let report = load.end()
        outcome.anomalies = report.anomalies
        outcome.cut = report.counts.cut
        outcome.latency = report.latency
        outcome.confirmation?.latency = report.confirmationLatency
        outcome.loadDriver = report.driver
        outcome.cipher = report.cipher
        outcome.failure = load.control.failure
        return outcome
    }

    /// Stalled subscribers now read again: first the bytes in the kernel, then the last frames of the server.
    private func awaitCut(_ load: Load) {
        let wanted = plan.destinationCount * plan.stalledPerDestination
        let patienceSeconds = 2.0
        _ = load.wait(seconds: patienceSeconds) { _ in
        } until: {
            $0.cut >= wanted
        } measure: {
            $0.cut
        }
    }

    private func pause(_ seconds: Double, _ load: Load, _ progress: (Counts) -> Void) {
        let stepMicroseconds: UInt32 = 50_000
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while load.control.failure == nil {
            let now = monotonicNanoseconds()
            guard now < end else { return }
            progress(load.control.counts)
            usleep(min(stepMicroseconds, UInt32((end - now) / 1000 + 1)))
        }
    }
}

/// The values that are read at the start and at the end of the measured time.
private struct Sample {
    var time: UInt64
    var counts: Counts
    var server: ServerProcess.Times?
    var load: ServerProcess.Times
    var confirming: ConfirmationSample

    init(_ server: ServerProcess?, _ load: Load) {
        self.server = server?.times
        self.load = ServerProcess.current.times
        counts = load.control.counts
        confirming = ConfirmationSample(server, counts)
        time = monotonicNanoseconds()
    }
}

extension Outcome {
    fileprivate mutating func fill(from before: Sample, to after: Sample, _ plan: Plan) {
        let nanoseconds = Double(after.time - before.time)
        seconds = nanoseconds / 1e9
        published = after.counts.published - before.counts.published
        delivered = after.counts.delivered - before.counts.delivered
        if plan.usesReceipts { delivered = after.counts.confirmed - before.counts.confirmed }
        deliveredPerSecond = Double(delivered) / seconds
        let load = after.load - before.load
        loadShare = Double(load.running) / nanoseconds
        loadWaitShare = Double(load.waiting) / nanoseconds
        guard let early = before.server, let late = after.server else { return }
        let server = late - early
        serverShare = Double(server.running) / nanoseconds
        serverWaitShare = Double(server.waitingForOthers) / nanoseconds
        let split = Double(server.system) / max(Double(server.user + server.system), 1)
        serverSystemShare = serverShare * split
        serverMicrosecondsPerDelivery = Double(server.running) / 1000 / Double(max(delivered, 1))
    }
}
