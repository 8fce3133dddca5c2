import Histogram

/// Microseconds from when a message was made (paced: was due) to its delivery.
public struct Latency: Codable, Sendable {
    public var p50 = 0.0
    public var p90 = 0.0
    public var p99 = 0.0
    public var p999 = 0.0
    public var max = 0.0

    public init() {}

    init(_ histogram: Histogram<UInt64>) {
        guard histogram.totalCount > 0 else { return }
        func microseconds(_ percentile: Double) -> Double {
            Double(histogram.valueAtPercentile(percentile)) / 1000
        }
        p50 = microseconds(50)
        p90 = microseconds(90)
        p99 = microseconds(99)
        p999 = microseconds(99.9)
        max = Double(histogram.max) / 1000
    }
}

/// What one measurement of one scenario found.
public struct Outcome: Codable, Sendable {
    public var scenario = ""
    public var server = ""
    public var seconds = 0.0
    public var clients = 0
    public var published = 0
    /// Deliveries; where nobody subscribes, messages that the server has confirmed.
    public var delivered = 0
    public var deliveredPerSecond = 0.0
    /// Microseconds of server CPU, user and system, per delivered message.
    public var serverMicrosecondsPerDelivery = 0.0
    /// Shares of one core, 1 = all of its time.
    public var serverShare = 0.0
    public var serverSystemShare = 0.0
    /// The time in which the server was ready to run and others had the core; 0 where several threads share its work.
    public var serverWaitShare = 0.0
    public var loadShare = 0.0
    public var loadWaitShare = 0.0
    public var latency = Latency()
    /// Bytes: the process at the end, and what kernel memory grew by from before the first connection.
    public var serverResidentBytes = 0
    public var kernelGrowthBytes = 0
    public var anomalies = Anomalies()
    /// Stalled subscribers that the server cut.
    public var cut = 0
    public var loadDriver = ""
    /// Runs it took to get one that counts, or the best of those that do not.
    public var attempts = 1
    /// The other ones, and those of them beside which something else kept the server's core busy.
    public var thrownAway = 0
    public var thrownAwayBesideBusyCore = 0
    /// Milliseconds that a fixed loop took on the server's core right before and right after the run. Empty: nobody asked.
    public var calibrations: [Double] = []
    public var failure: String?

    /// Nothing lost, nothing damaged, nobody cut off.
    public var isClean: Bool { failure == nil && anomalies.isClean }
    /// One side waited so long for a core that the figures say little.
    public var isDisturbed: Bool { serverWaitShare > Self.waitShareMax || loadWaitShare > Self.waitShareMax }
    public static let waitShareMax = 0.05

    public init() {}
}

/// How long to measure.
public struct Schedule: Sendable {
    public var warmUpSeconds: Double
    public var seconds: Double
    /// How long to go on where a subscriber stalls, so that limits of time can cut it too. It is not measured.
    public var stallSeconds: Double

    public init(warmUpSeconds: Double = 1, seconds: Double = 3, stallSeconds: Double = 0) {
        self.warmUpSeconds = warmUpSeconds
        self.seconds = seconds
        self.stallSeconds = stallSeconds
    }
}
