import Histogram

/// Microseconds from the time at which a message was made (paced: was due) to its delivery.
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

/// The result of one measurement of a scenario.
public struct Outcome: Codable, Sendable {
    public var scenario = ""
    public var server = ""
    public var seconds = 0.0
    public var clients = 0
    public var published = 0
    /// Deliveries. Without subscribers: messages that the server has confirmed.
    public var delivered = 0
    public var deliveredPerSecond = 0.0
    /// Microseconds of server CPU, user and system, per delivered message.
    public var serverMicrosecondsPerDelivery = 0.0
    /// Shares of one core, 1 = all of its time.
    public var serverShare = 0.0
    public var serverSystemShare = 0.0
    /// The share of time in which the server was ready to run but other processes had the core. 0 if the server has
    /// several threads.
    public var serverWaitShare = 0.0
    public var loadShare = 0.0
    public var loadWaitShare = 0.0
    public var latency = Latency()
    /// nil: messages are not confirmed one by one.
    public var confirmation: Confirmation?
    /// Bytes: the memory of the process at the end, and the growth of kernel memory since before the first connection.
    public var serverResidentBytes = 0
    public var kernelGrowthBytes = 0
    public var anomalies = Anomalies()
    /// Stalled subscribers that the server disconnected.
    public var cut = 0
    public var loadDriver = ""
    /// The version and the cipher of TLS, "TLSv1.3 TLS_AES_128_GCM_SHA256". nil: no TLS.
    public var cipher: String?
    /// What TLS carried in the measured time. nil: no TLS.
    public var encrypted: EncryptedCounts?
    /// The number of runs until one counted, or until the limit of runs.
    public var attempts = 1
    /// The runs that do not count, and those of them during which other load slowed the server's core down.
    public var thrownAway = 0
    public var thrownAwayBesideBusyCore = 0
    /// Milliseconds of a fixed loop on the server's core right before and right after the run. Empty: not calibrated.
    public var calibrations: [Double] = []
    public var failure: String?

    /// No messages lost or damaged, and no connection ended.
    public var isClean: Bool { failure == nil && anomalies.isClean }
    /// One side waited so long for a core that the figures are not reliable.
    public var isDisturbed: Bool { serverWaitShare > Self.waitShareMax || loadWaitShare > Self.waitShareMax }
    public static let waitShareMax = 0.05

    public init() {}
}

/// How long to measure.
public struct Schedule: Sendable {
    public var warmUpSeconds: Double
    public var seconds: Double
    /// How long to continue if a subscriber stalls, so that time limits can disconnect it too. This time is not
    /// measured.
    public var stallSeconds: Double

    public init(warmUpSeconds: Double = 1, seconds: Double = 3, stallSeconds: Double = 0) {
        self.warmUpSeconds = warmUpSeconds
        self.seconds = seconds
        self.stallSeconds = stallSeconds
    }
}
