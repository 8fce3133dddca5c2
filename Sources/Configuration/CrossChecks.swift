import Broker
import IO

/// The rules between values. Each value is already valid by itself.
extension EffectiveSettings {
    mutating func crossCheck() {
        checkBuild()
        checkListeners()
        checkTLS()
        checkRing()
        checkKeepalive()
        checkFrames()
        checkMemory()
        checkStorage()
        checkStorageSize()
        checkDestinations()
        checkHosts()
        checkAccess()
    }

    // MARK: Driver

    private mutating func checkBuild() {
        #if !URing
            if settings.driver == .uring {
                report(
                    origin(of: "io.driver"), "io.driver",
                    "found \"uring\", but this build has epoll only; allowed: auto, epoll")
            }
        #endif
    }

    /// The most bytes of each pool of a worker.
    private static var receiveBufferByteCountMax: Int { 1 << 30 }

    private mutating func checkRing() {
        requireAtMost("io.uring.sq-entries", "io.uring.cq-entries")
        requireAtMost("io.uring.send-batch", "io.uring.sq-entries")
        requireAtMost("io.uring.wait-completions", "io.uring.cq-entries")
        requireAtMost("io.uring.receive-buffers.bytes", "io.uring.large-receive-buffers.bytes")
        let bytesMax = Self.receiveBufferByteCountMax
        for pool in ["io.uring.receive-buffers", "io.uring.large-receive-buffers"] {
            let product = integer(at: "\(pool).count") * integer(at: "\(pool).bytes")
            if product > bytesMax {
                report(
                    blamed(["\(pool).count", "\(pool).bytes"]), pool,
                    "found count times bytes = \(Unit.bytes.format(product)); allowed: at most "
                        + "\(Unit.bytes.format(bytesMax)) a worker")
            }
        }
    }

    /// A few lost probes must not disconnect a healthy peer: many probes are sent at the same moment, and the kernel
    /// drops some.
    private mutating func checkKeepalive() {
        let lostProbesMin = 3
        let idle = integer(at: "io.keepalive-ms")
        let needed = idle + lostProbesMin * DriverOptions.keepaliveIntervalMilliseconds
        guard idle > 0, integer(at: "io.user-timeout-ms") < needed else { return }
        report(
            blamed(["io.user-timeout-ms", "io.keepalive-ms"]), "io.user-timeout-ms",
            "found \(described("io.user-timeout-ms")); allowed: at least io.keepalive-ms + "
                + "\(Unit.milliseconds.format(needed - idle)) = \(Unit.milliseconds.format(needed)), so that "
                + "\(lostProbesMin) probes may be lost")
    }

    // MARK: Limits

    /// A limit must have room for the largest permitted frame. Otherwise such a frame would always be refused or wait
    /// forever.
    private mutating func checkFrames() {
        requireAtMost("limits.header-bytes", "limits.headers-bytes")
        requireAtMost("limits.command-bytes", "limits.pre-connect-bytes")
        requireAtMost("limits.destination-name-bytes", "limits.header-bytes")
        let small = [
            "limits.transaction-bytes", "limits.output-bytes", "limits.prefetch-bytes", "limits.mailbox-bytes",
        ].filter { integer(at: $0) < frameByteCountMax }
        for path in small where origins[path] != nil {
            report(
                origin(of: path), path,
                "found \(described(path)), less than a largest frame; allowed: at least \(frameNote)")
        }
        reportLargeFrame(small.filter { origins[$0] == nil })
    }

    private static let frameKeys = ["limits.body-bytes", "limits.headers-bytes"]

    /// Reports one error, at the key that made frames larger, with all limits that must be raised too. There is no
    /// error at each of these limits.
    private mutating func reportLargeFrame(_ small: [String]) {
        let memory = "limits.message-memory-bytes"
        let isMemorySmall = origins[memory] == nil && integer(at: memory) / 16 < frameByteCountMax
        let segment = "storage.segment-bytes"
        let isSegmentSmall = frameNeedsLargerSegment
        guard !small.isEmpty || isMemorySmall || isSegmentSmall,
            let path = Self.frameKeys.first(where: { origins[$0] != nil })
        else {
            return
        }
        var wants: [String] = []
        if !small.isEmpty { wants.append("\(small.joined(separator: ", ")) of at least \(frameNote)") }
        if isMemorySmall { wants.append("\(memory) of at least \(Unit.bytes.format(frameByteCountMax * 16))") }
        if isSegmentSmall {
            let transaction = max(frameByteCountMax, integer(at: "limits.transaction-bytes"))
            let needed = segmentByteCountMin(transactionByteCount: transaction)
            wants.append("\(segment) of at least \(Unit.bytes.format(needed))")
        }
        report(
            origin(of: path), path,
            "found \(described(path)), which needs larger limits beside it: \(wants.joined(separator: "; and "))")
    }

    /// The broker stops reading publishers at three quarters of the memory and refuses messages at the limit. Bytes
    /// that are under way must fit into the quarter between. Otherwise publishers would get "Out of memory" instead of
    /// waiting.
    private mutating func checkMemory() {
        let path = "limits.message-memory-bytes"
        let options = settings.driverOptions
        let ringByteCount =
            options.receiveBufferCount * options.receiveBufferByteCount + options.largeReceiveBufferCount
            * options.largeReceiveBufferByteCount
        var needs: [(byteCount: Int, keys: [String], text: String)] = [
            // A frame that arrives in pieces is collected in a block that doubles, and is then copied into a block of
            // its own.
            (
                frameByteCountMax * 4, Self.frameKeys,
                "four largest frames (\(frameNote))"
            )
        ]
        if settings.driver != .epoll, ringByteCount <= Self.receiveBufferByteCountMax {
            let pools = ["io.uring.receive-buffers", "io.uring.large-receive-buffers"]
            needs.append(
                (
                    ringByteCount, pools.flatMap { ["\($0).count", "\($0).bytes"] },
                    "all of io.uring.receive-buffers and io.uring.large-receive-buffers"
                ))
        }
        if settings.driver != .uring {
            needs.append((DriverOptions.epollByteCountPerTurnMax, [], "what epoll receives in a turn"))
        }
        if settings.workerCount != 1 {
            needs.append(
                (
                    integer(at: "limits.mailbox-bytes"), ["limits.mailbox-bytes"],
                    "what other workers may have sent (limits.mailbox-bytes)"
                ))
        }
        guard let most = needs.max(by: { $0.byteCount < $1.byteCount }), integer(at: path) / 4 < most.byteCount else {
            return
        }
        // `reportLargeFrame` reports it.
        if most.keys == Self.frameKeys, origins[path] == nil { return }
        report(
            blamed([path] + most.keys), path,
            "found \(described(path)), a quarter of which is less than \(most.text) = "
                + "\(Unit.bytes.format(most.byteCount)); allowed: at least \(Unit.bytes.format(most.byteCount * 4))")
    }

    /// The size of the largest frame that a client may send.
    var frameByteCountMax: Int {
        integer(at: "limits.body-bytes") + integer(at: "limits.headers-bytes")
    }

    var frameNote: String {
        "limits.body-bytes + limits.headers-bytes = \(Unit.bytes.format(frameByteCountMax))"
    }

    /// A segment has room for the largest transaction, twice, so that not each one begins a new segment. A largest frame is
    /// no larger.
    private mutating func checkStorage() {
        let path = "storage.segment-bytes"
        if settings.storage.isEnabled, integer(at: path) % Self.blockByteCount != 0 {
            report(
                origin(of: path), path,
                "found \(described(path)); allowed: a multiple of \(Unit.bytes.format(Self.blockByteCount))")
        }
        let keys = ["limits.transaction-bytes", "limits.frames-per-transaction-max"]
        let needed = segmentByteCountMin(transactionByteCount: integer(at: keys[0]))
        guard settings.storage.isEnabled, integer(at: path) < needed else { return }
        // `reportLargeFrame` reports it.
        if frameNeedsLargerSegment { return }
        report(
            blamed([path] + keys), path,
            "found \(described(path)); allowed: twice what \(keys.joined(separator: " and ")) may take on disk, at "
                + "least \(Unit.bytes.format(needed)); or storage.enabled: false")
    }

    /// Larger frames alone have made a segment of the default size too small.
    private var frameNeedsLargerSegment: Bool {
        let path = "storage.segment-bytes"
        return settings.storage.isEnabled && origins[path] == nil
            && Self.frameKeys.contains { origins[$0] != nil }
            && integer(at: path) < segmentByteCountMin(transactionByteCount: frameByteCountMax)
    }

    /// Each worker has its share. The next segment is made before the last one is full, and before any can go.
    private mutating func checkStorageSize() {
        let (path, segment, workers) = ("storage.bytes-max", "storage.segment-bytes", "io.workers")
        let (most, segmentByteCount) = (integer(at: path), integer(at: segment))
        let workerCount = settings.resolvedWorkerCount(availableCPUCount: AvailableCPUs.count)
        guard settings.storage.isEnabled, most > 0, most / workerCount < 2 * segmentByteCount else { return }
        report(
            blamed([path, segment, workers]), path,
            "found \(described(path)); allowed: two segments (\(segment) = \(described(segment))) of each of "
                + "\(workerCount) workers (\(workers)), at least \(Unit.bytes.format(2 * segmentByteCount * workerCount)); "
                + "or lower one of these two")
    }

    /// What is written at once past the page cache; records begin at multiples of less.
    private static let blockByteCount = 4096

    /// What is stored beside a frame: the record's header and fields, and zeros up to a multiple of 64.
    private static let recordByteCount = 192

    private func segmentByteCountMin(transactionByteCount: Int) -> Int {
        2 * (transactionByteCount + integer(at: "limits.frames-per-transaction-max") * Self.recordByteCount)
    }

    // MARK: Pieces

    func integer(at path: String) -> Int {
        guard case .integer(let value)? = Schema.setting(at: path)?.get(settings) else { return 0 }
        return value
    }

    /// The value as text, with its origin if that is not the place of the report.
    func described(_ path: String) -> String {
        guard let setting = Schema.setting(at: path) else { return "" }
        return setting.format(setting.get(settings))
    }

    private mutating func requireAtMost(_ smaller: String, _ larger: String) {
        guard integer(at: smaller) > integer(at: larger) else { return }
        report(
            blamed([smaller, larger]), smaller,
            "found \(described(smaller)); allowed: at most \(larger) = \(described(larger)) (\(origin(of: larger)))")
    }

    /// The origin of the first of these keys that was set. A default is reported only if none was set.
    func blamed(_ paths: [String]) -> Origin {
        paths.lazy.compactMap { origins[$0] }.first ?? .builtIn
    }
}
