import Histogram
import Slabs
import Synchronization

/// The commands to the threads of a load, and their reports while they run.
public final class Control: Sendable {
    public enum Phase: Int, Sendable {
        /// Connect, subscribe, wait.
        case connect
        /// Send. Nothing is recorded yet.
        case warmUp
        /// Send, and record latencies.
        case measure
        /// The consumers of a backlog subscribe.
        case unload
        /// Stop sending. Messages under way still arrive.
        case drain
        /// Close all connections and end.
        case close
    }

    private let phaseValue = Atomic<Int>(0)
    private let broadcastValue = Atomic<Int>(0)
    private let failureText = Guarded<String?>(nil)
    private let tallies: [Tally]

    init(threadCount: Int) {
        tallies = (0..<threadCount).map { _ in Tally() }
    }

    public var phase: Phase {
        get { Phase(rawValue: phaseValue.load(ordering: .acquiring))! }
        set { phaseValue.store(newValue.rawValue, ordering: .releasing) }
    }

    /// The number of messages that the first publisher of a `broadcast` plan must send in total.
    public var broadcastCount: Int {
        get { broadcastValue.load(ordering: .acquiring) }
        set { broadcastValue.store(newValue, ordering: .releasing) }
    }

    /// The first failure, if any.
    public var failure: String? { failureText.withLock { $0 } }

    public func fail(_ text: String) { failureText.withLock { if $0 == nil { $0 = text } } }

    func publish(_ counts: Counts, _ phase: Phase, thread: Int) { tallies[thread].store(counts, phase) }

    /// Whether every thread has seen the phase, so that its counts belong to that phase.
    func isEntered(_ phase: Phase) -> Bool { tallies.allSatisfy { $0.isEntered(phase) } }

    /// The sum of the latest reports of the threads.
    public var counts: Counts { tallies.reduce(into: Counts()) { $0.add($1.counts) } }
}

/// The counts so far.
public struct Counts: Sendable, Equatable {
    public var ready = 0
    public var published = 0
    public var delivered = 0
    /// Messages that the server has confirmed by receipts.
    public var confirmed = 0
    /// Messages that have not reached all subscribers yet.
    public var outstanding = 0
    public var ended = 0
    /// Heart-beats that arrived without a frame.
    public var beats = 0
    /// Stalled subscribers that the server disconnected.
    public var cut = 0
    public var encrypted = EncryptedCounts()

    mutating func add(_ other: Counts) {
        ready += other.ready
        published += other.published
        delivered += other.delivered
        confirmed += other.confirmed
        outstanding += other.outstanding
        ended += other.ended
        beats += other.beats
        cut += other.cut
        encrypted.add(other.encrypted)
    }
}

/// What TLS carried, as the clients count it. All zeros without TLS.
public struct EncryptedCounts: Codable, Sendable, Equatable {
    /// Plaintext from and to the server.
    public var receivedBytes = 0
    public var sentBytes = 0
    /// Records of the server, and the sends that they came from: a longer send is split into full records and a last one.
    public var records = 0
    public var sends = 0

    public init() {}

    mutating func add(_ other: EncryptedCounts) {
        receivedBytes += other.receivedBytes
        sentBytes += other.sentBytes
        records += other.records
        sends += other.sends
    }

    static func - (later: EncryptedCounts, earlier: EncryptedCounts) -> EncryptedCounts {
        var difference = EncryptedCounts()
        difference.receivedBytes = later.receivedBytes - earlier.receivedBytes
        difference.sentBytes = later.sentBytes - earlier.sentBytes
        difference.records = later.records - earlier.records
        difference.sends = later.sends - earlier.sends
        return difference
    }
}

private final class Tally: Sendable {
    private let ready = Atomic<Int>(0)
    private let published = Atomic<Int>(0)
    private let delivered = Atomic<Int>(0)
    private let confirmed = Atomic<Int>(0)
    private let outstanding = Atomic<Int>(0)
    private let ended = Atomic<Int>(0)
    private let beats = Atomic<Int>(0)
    private let cut = Atomic<Int>(0)
    private let encrypted = EncryptedTally()

    private let phase = Atomic<Int>(0)

    func isEntered(_ other: Control.Phase) -> Bool { phase.load(ordering: .acquiring) == other.rawValue }

    func store(_ counts: Counts, _ newPhase: Control.Phase) {
        ready.store(counts.ready, ordering: .relaxed)
        published.store(counts.published, ordering: .relaxed)
        delivered.store(counts.delivered, ordering: .relaxed)
        confirmed.store(counts.confirmed, ordering: .relaxed)
        outstanding.store(counts.outstanding, ordering: .relaxed)
        ended.store(counts.ended, ordering: .relaxed)
        beats.store(counts.beats, ordering: .relaxed)
        cut.store(counts.cut, ordering: .relaxed)
        encrypted.store(counts.encrypted)
        phase.store(newPhase.rawValue, ordering: .releasing)
    }

    var counts: Counts {
        Counts(
            ready: ready.load(ordering: .relaxed), published: published.load(ordering: .relaxed),
            delivered: delivered.load(ordering: .relaxed), confirmed: confirmed.load(ordering: .relaxed),
            outstanding: outstanding.load(ordering: .relaxed), ended: ended.load(ordering: .relaxed),
            beats: beats.load(ordering: .relaxed), cut: cut.load(ordering: .relaxed),
            encrypted: encrypted.counts)
    }
}

private final class EncryptedTally: Sendable {
    private let receivedBytes = Atomic<Int>(0)
    private let sentBytes = Atomic<Int>(0)
    private let records = Atomic<Int>(0)
    private let sends = Atomic<Int>(0)

    func store(_ counts: EncryptedCounts) {
        receivedBytes.store(counts.receivedBytes, ordering: .relaxed)
        sentBytes.store(counts.sentBytes, ordering: .relaxed)
        records.store(counts.records, ordering: .relaxed)
        sends.store(counts.sends, ordering: .relaxed)
    }

    var counts: EncryptedCounts {
        var counts = EncryptedCounts()
        counts.receivedBytes = receivedBytes.load(ordering: .relaxed)
        counts.sentBytes = sentBytes.load(ordering: .relaxed)
        counts.records = records.load(ordering: .relaxed)
        counts.sends = sends.load(ordering: .relaxed)
        return counts
    }
}

/// The errors in the deliveries. Only all zeros is a success.
public struct Anomalies: Codable, Sendable, Equatable {
    public var lost = 0
    public var duplicated = 0
    public var misordered = 0
    public var corrupt = 0
    /// Connections that the server or the network ended.
    public var ended = 0
    /// Messages that should have been confirmed and were not.
    public var unconfirmed = 0

    public init() {}

    public var isClean: Bool { self == Anomalies() }

    mutating func add(_ other: Anomalies) {
        lost += other.lost
        duplicated += other.duplicated
        misordered += other.misordered
        corrupt += other.corrupt
        ended += other.ended
        unconfirmed += other.unconfirmed
    }
}

/// The results of a thread.
struct ThreadReport: Sendable {
    var counts = Counts()
    var anomalies = Anomalies()
    /// Nanoseconds from the time at which a message was made (paced: was due) to its delivery.
    var latencies = Histogram<UInt64>(highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .two)
    /// Nanoseconds from the time at which a message was made to its confirmation.
    var confirmationLatencies = Histogram<UInt64>(
        highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .two)
    var silences = Silences()
    var driver = ""
    /// "TLSv1.3 TLS_AES_128_GCM_SHA256", as the first client has it. nil: no TLS.
    var cipher: String?
}
