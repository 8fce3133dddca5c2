import Broker
import Configuration
import Drivers
import Glibc
import Journal
import Logging

/// The store of this run: locked, read, and ready to hand over what lives.
final class RecoveredStore: Sendable {
    let path: String
    let life: UInt32
    let state: RecoveredState
    /// Of messages that are not to be taken again, the oldest first.
    private let ids: [RecoveredID]
    private let settings: StorageSettings
    /// Of appends: see `StorageOptions.blockByteCount`.
    private let blockByteCount: Int
    /// Holds the lock, and is what the shards' loaders read in.
    private let directory: HeldDirectory

    /// A `StorageDirectory` that several threads read in.
    private final class HeldDirectory: Sendable {
        let directory: StorageDirectory
        init(_ directory: consuming StorageDirectory) { self.directory = directory }
    }

    init(_ directory: consuming StorageDirectory, _ state: consuming RecoveredState, _ settings: StorageSettings) {
        path = directory.path
        life = state.lifeMax + 1
        ids = state.ids.sorted { $0.acceptedAt < $1.acceptedAt }
        self.state = state
        self.settings = settings
        let isAligned = settings.segmentByteCount % DirectAccess.blockByteCount == 0
        let isDirect = settings.writesDirectly && isAligned && directory.takesDirectWrites()
        blockByteCount = isDirect ? DirectAccess.blockByteCount : 1
        self.directory = HeldDirectory(directory)
    }

    /// What the shards are told.
    func options(workerCount: Int) -> StorageOptions {
        var options = StorageOptions(directory: Array(path.utf8), life: life)
        options.segmentByteCount = settings.segmentByteCount
        options.byteCountMax = settings.byteCountMax / workerCount
        options.sync =
            switch settings.sync {
            case .receipt: .receipt
            case .interval: .interval(milliseconds: settings.syncIntervalMilliseconds)
            }
        options.commit = settings.commit == .durableWrite ? .durableAppend : .appendAndSync
        options.blockByteCount = blockByteCount
        options.onError = settings.onError == .stop ? .stop : .refuse
        options.stagedByteCountMax = settings.stagedByteCountMax
        options.earlier = EarlierSegments(state.segments, redeliveredLifeMax: state.live.redeliveredLifeMax)
        return options
    }

    /// Gives a shard what lives of the queues and topics that it owns, and what any topic retains. Called before its first turn, on its thread.
    func restore(_ shard: inout Shard) throws(StorageError) {
        let index = shard.index
        let isOwned = state.queues.map { queue in
            queue.name.withUnsafeBytes { Shard.owner(ofQueue: $0, shardCount: shard.shardCount) } == index
        }
        // All workers hear of all of them, for they publish to their topics.
        for queue in state.queues where queue.isDurableSubscription {
            var outcome = RestoreOutcome.restored
            queue.withSubscription { outcome = shard.restore($0) }
            try judge(outcome, index)
        }
        for (queue, isOwned) in zip(state.queues, isOwned) where isOwned {
            var outcome = RestoreOutcome.restored
            queue.withRecord { outcome = shard.restore($0) }
            try judge(outcome, index)
            if let end = queue.offsetEnd {
                try judge(queue.name.withUnsafeBytes { shard.restore(topicName: $0, offsetEnd: end) }, index)
            }
        }
        for id in ids
        where id.destination.withUnsafeBytes({ Shard.owner(ofQueue: $0, shardCount: shard.shardCount) })
            == index
        {
            shard.restore(id)
        }
        var windows = RecordWindows(directory.directory)
        try state.live.forEach { (message) throws(StorageError) in
            guard isOwned[Int(message.queue)] || message.isRetained else { return }
            let name = state.queues[Int(message.queue)].name
            guard shard.canKeep(message) else { throw tooLarge(message, name) }
            // Beyond some of them, messages stay where they are: nothing of them is read now.
            let outcome = name.withUnsafeBytes { shard.restoreCold(message, queueName: $0) }
            if let outcome { return try judge(outcome, index) }
            let found = try windows.read(message, in: state.segments[Int(message.segment)])
            var record = found.message
            record.failureCount = message.failureCount
            record.orderKey = message.orderKey
            if message.isRedelivered { record.flags.insert(.isRedelivered) }
            try judge(shard.restore(RecoveredMessage(reference: message.reference, record: record)), index)
        }
        if index == 0 { shard.restore(transactions: state.unsealedTransactions) }
    }

    private func judge(_ outcome: RestoreOutcome, _ worker: Int) throws(StorageError) {
        switch outcome {
        case .restored: break
        case .noMemory: throw tooMuch(worker, "limits.message-memory-bytes")
        case .tooMany:
            throw tooMuch(
                worker, "limits.queued-messages-max, limits.cold-messages-max, limits.destinations-max")
        case .tooManyRetained: throw tooMuch(worker, "limits.retained-messages-max")
        }
    }

    private func tooLarge(_ message: LiveMessage, _ queue: [UInt8]) -> StorageError {
        let mebibyte = 1 << 20
        let needed = ((message.size.byteCount + 4096) / mebibyte + 1) * mebibyte
        let text = String(decoding: queue.filter { $0 >= 0x20 }, as: UTF8.self)
        return StorageError(
            description: """
                \(path) holds a message of \(text) that takes \(message.size.byteCount) bytes, and a segment has \
                \(settings.segmentByteCount): set storage.segment-bytes to \(needed) or more until it is consumed
                """)
    }

    private func tooMuch(_ worker: Int, _ keys: String) -> StorageError {
        StorageError(
            description: """
                \(path) holds more than worker \(worker) has room for: \(state.liveMessageCount) messages in all; raise \
                \(keys), or io.workers
                """)
    }
}

/// Opens the store at start and reads it.
enum StorageRecovery {
    /// Findings that are logged one by one.
    private static let findingCountMax = 20

    /// Returns nil if a signal that ends the broker came meanwhile.
    ///
    /// - Parameter idsSince: see `Shard.idsSince`.
    static func open(
        _ settings: StorageSettings, idsSince: UInt64, _ logger: Logger
    ) throws(StorageError) -> RecoveredStore? {
        let environment = Dictionary(
            uniqueKeysWithValues: ["STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"].compactMap { (name: String) in
                getenv(name).map { (name, String(cString: $0)) }
            })
        guard let path = settings.directory(environment: environment) else {
            throw StorageError(
                description: """
                    there is no place for the store: STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set; set \
                    storage.directory, or storage.enabled: false
                    """)
        }
        let directory = try openDirectory(path)
        let started = Clock.monotonicNanoseconds
        guard
            let state = try read(directory, syncs: true, idsSince: idsSince, progress: Progress(logger, since: started))
        else {
            return nil
        }
        try judge(state, directory.path, logger)
        guard state.lifeMax < JournalFormat.lifeMax else {
            throw StorageError(
                description: "\(directory.path) has been used by \(state.lifeMax) runs of the broker, and there are no "
                    + "more numbers; move it away when its queues are empty")
        }
        try directory.begin(life: state.lifeMax + 1)
        let elapsed = Clock.monotonicNanoseconds - started
        logger.notice(
            "storage",
            metadata: [
                "directory": "\(directory.path)", "run": .stringConvertible(state.lifeMax + 1),
                "messages": .stringConvertible(state.liveMessageCount),
                "segments": .stringConvertible(state.segments.count),
                "milliseconds": .stringConvertible(elapsed / 1_000_000),
            ])
        return RecoveredStore(directory, state, settings)
    }

    private static func openDirectory(_ path: String) throws(StorageError) -> StorageDirectory {
        do throws(StorageError) {
            return try StorageDirectory.open(path, for: .broker)
        } catch {
            throw StorageError(
                description: "storage.directory: \(error). The broker needs a directory of its own, or "
                    + "storage.enabled: false")
        }
    }

    /// Reads all segments. nil: `progress` stopped it.
    static func read(
        _ directory: borrowing StorageDirectory, syncs: Bool, idsSince: UInt64 = .max, progress: Progress? = nil
    ) throws(StorageError) -> RecoveredState? {
        let names = try directory.segmentNames()
        var progress = progress
        progress?.expect(names, in: directory)
        var recovery = Recovery(idsSince: idsSince)
        var buffer = SegmentBuffer()
        for name in names {
            let bytes = try buffer.read(name, in: directory, syncs: syncs) { progress?.advance($0) ?? true }
            guard let bytes else { return nil }
            recovery.read(name, bytes)
        }
        return recovery.finish(lifeBegun: try directory.lifeBegun(lifeMax: names.last?.life ?? 0))
    }

    /// Tells of damage; throws if the broker must not start.
    private static func judge(_ state: RecoveredState, _ path: String, _ logger: Logger) throws(StorageError) {
        for finding in state.findings.prefix(findingCountMax) {
            logger.log(level: finding.isFatal ? .error : .warning, "\(path)/\(finding.description)")
        }
        if state.findings.count > findingCountMax {
            logger.warning("\(path): \(state.findings.count - findingCountMax) more places like these")
        }
        let fatalCount = state.findings.count { $0.isFatal }
        guard fatalCount > 0 else { return }
        throw StorageError(
            description: """
                \(path) is damaged in \(fatalCount) \(fatalCount == 1 ? "place" : "places"), and nothing is given up \
                unasked: `stampede storage verify \(path)` shows what is intact, `stampede storage repair \(path)` \
                gives up what is not
                """)
    }
}

/// Logs how far the reading is, when it takes long, and sees whether a signal ends the broker.
struct Progress {
    private let logger: Logger
    private let intervalNanoseconds: UInt64 = 2_000_000_000
    private var toldAt: UInt64
    private var byteCount = 0
    private var byteCountMax = 0

    init(_ logger: Logger, since: UInt64) {
        self.logger = logger
        toldAt = since
    }

    mutating func expect(_ names: [SegmentName], in directory: borrowing StorageDirectory) {
        for name in names {
            var information = stat()
            if fstatat(directory.descriptor, name.description, &information, 0) == 0 {
                byteCountMax += Int(information.st_size)
            }
        }
    }

    /// So many bytes more were read. False: a signal ends the broker.
    mutating func advance(_ count: Int) -> Bool {
        byteCount += count
        let now = Clock.monotonicNanoseconds
        if now - toldAt >= intervalNanoseconds {
            toldAt = now
            logger.notice(
                "reading the store",
                metadata: [
                    "MiB": .stringConvertible(byteCount >> 20), "of": .stringConvertible(byteCountMax >> 20),
                    "percent": .stringConvertible(byteCount * 100 / max(byteCountMax, 1)),
                ])
        }
        return !Signals.isEnding
    }
}
