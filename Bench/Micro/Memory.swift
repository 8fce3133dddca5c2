import Slabs

extension MicroCase {
    static let memory = [
        MicroCase(name: "slab", summary: "allocate and free a record of 64 bytes") { SlabChurn(liveCount: 0) },
        MicroCase(name: "slab-10000", summary: "free the oldest of 10,000 records and allocate one") {
            SlabChurn(liveCount: 10_000)
        },
        MicroCase(name: "name-table-find", summary: "find one of 10,000 names of 24 bytes") { Names(.find) },
        MicroCase(name: "name-table-miss", summary: "look for a name that is not among 10,000") { Names(.miss) },
        MicroCase(name: "name-table-churn", summary: "insert a name among 10,000 and remove it") { Names(.churn) },
        MicroCase(name: "block-pool", summary: "allocate and release a block of 256 bytes") { Blocks(liveCount: 0) },
        MicroCase(name: "block-pool-1000", summary: "release the oldest of 1,000 blocks and allocate one") {
            Blocks(liveCount: 1000)
        },
        MicroCase(name: "timer-cancel", summary: "schedule a timer and cancel it, among 10,000") { Timers(.cancel) },
        MicroCase(name: "timer-fire", summary: "schedule a timer, advance, and take it out, among 10,000") {
            Timers(.fire)
        },
        MicroCase(name: "mailbox", summary: "allocate a batch, post it, take it, free it") { MailboxRoundTrips() },
    ]
}

private struct Record: SlabRecord {
    var generation: UInt32
    var payload: (UInt32, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)
}

private final class SlabChurn: Workload {
    private var slab: Slab<Record>
    private var live: [Index<Record>]

    init(liveCount: Int) {
        slab = Self.makeSlab()
        live = []
        for _ in 0..<liveCount { live.append(slab.allocate().index) }
    }

    /// Address space only.
    private static func makeSlab() -> Slab<Record> { try! Slab<Record>(recordCountMax: 100_000) }

    func run(_ count: Int) { Self.run(count, &slab, &live) }

    private static func run(_ count: Int, _ slab: inout Slab<Record>, _ live: inout [Index<Record>]) {
        var sum = 0
        if live.isEmpty {
            for _ in 0..<count {
                let handle = slab.allocate()
                sum &+= Int(handle.generation)
                slab.free(handle.index)
            }
        } else {
            let liveCount = live.count
            live.withUnsafeMutableBufferPointer { live in
                var oldest = 0
                for _ in 0..<count {
                    slab.free(live[oldest])
                    live[oldest] = slab.allocate().index
                    oldest = oldest + 1 == liveCount ? 0 : oldest + 1
                }
                sum = Int(live[0].rawValue)
            }
        }
        keep(sum)
    }
}

private final class Names: Workload {
    enum Kind { case find, miss, churn }

    private static let nameCount = 10_000
    private static let nameByteCount = 24
    private let kind: Kind
    /// Twice as many names as the table holds, one after the other.
    private let bytes: UnsafeMutableRawPointer
    private var table: NameTable

    init(_ kind: Kind) {
        self.kind = kind
        bytes = .allocate(byteCount: 2 * Self.nameCount * Self.nameByteCount, alignment: 64)
        table = NameTable(seed: 42)
        for name in 0..<2 * Self.nameCount {
            let text = "/topic/sensors." + String(100_000_000 + name * 7919)
            let place = bytes + name * Self.nameByteCount
            for (offset, byte) in text.utf8.prefix(Self.nameByteCount).enumerated() {
                place.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
            }
            if name < Self.nameCount { table.insert(place, Self.nameByteCount, value: UInt32(name + 1)) }
        }
    }

    deinit { bytes.deallocate() }

    func run(_ count: Int) { Self.run(count, kind, bytes, &table) }

    private static func run(
        _ count: Int, _ kind: Kind, _ bytes: UnsafeMutableRawPointer, _ table: inout NameTable
    ) {
        var sum = 0
        // A stride without a common factor with the count visits every name.
        var name = 0
        for _ in 0..<count {
            name += 7919
            if name >= nameCount { name %= nameCount }
            let present = bytes + name * nameByteCount
            let absent = present + nameCount * nameByteCount
            switch kind {
            case .find: sum &+= Int(table.find(present, nameByteCount))
            case .miss: sum &+= Int(table.find(absent, nameByteCount))
            case .churn:
                table.insert(absent, nameByteCount, value: 1)
                sum &+= Int(table.remove(absent, nameByteCount))
            }
        }
        keep(sum)
    }
}

private final class Blocks: Workload {
    private var pool: BlockPool
    private var live: [BlockIndex] = []

    init(liveCount: Int) {
        pool = Self.makePool()
        for _ in 0..<liveCount { live.append(pool.allocate(byteCount: 256)) }
    }

    private static func makePool() -> BlockPool { try! BlockPool(byteCountMax: 64 << 20) }

    func run(_ count: Int) { Self.run(count, &pool, &live) }

    private static func run(_ count: Int, _ pool: inout BlockPool, _ live: inout [BlockIndex]) {
        var sum = 0
        if live.isEmpty {
            for _ in 0..<count {
                let block = pool.allocate(byteCount: 256)
                sum &+= Int(block)
                pool.release(block)
            }
        } else {
            let liveCount = live.count
            live.withUnsafeMutableBufferPointer { live in
                var oldest = 0
                for _ in 0..<count {
                    pool.release(live[oldest])
                    live[oldest] = pool.allocate(byteCount: 256)
                    oldest = oldest + 1 == liveCount ? 0 : oldest + 1
                }
                sum = Int(live[0])
            }
        }
        keep(sum)
    }
}

private final class Timers: Workload {
    enum Kind { case cancel, fire }

    private let kind: Kind
    private var wheel: TimerWheel
    private var now = Timers.start
    private static let start: UInt64 = 1_000_000_000
    private static let standingCount = 10_000
    private static let millisecond: UInt64 = 1_000_000

    init(_ kind: Kind) {
        self.kind = kind
        wheel = Self.makeWheel()
        // Distributed over a minute that begins in 13 days, so none of them expires during the run.
        for timer in 0..<Self.standingCount {
            let deadline = Self.start + (1 << 50) + UInt64(timer) * 6 * Self.millisecond
            _ = wheel.schedule(at: deadline, kind: 1, owner: Slot(index: UInt32(timer + 1), generation: 1))
        }
    }

    private static func makeWheel() -> TimerWheel { try! TimerWheel(timerCountMax: 100_000, now: start) }

    func run(_ count: Int) { Self.run(count, kind, &wheel, &now) }

    private static func run(_ count: Int, _ kind: Kind, _ wheel: inout TimerWheel, _ now: inout UInt64) {
        var sum = 0
        for _ in 0..<count {
            switch kind {
            case .cancel:
                let timer = wheel.schedule(at: now + 10_000 * millisecond, kind: 2, owner: .none)
                wheel.cancel(timer)
                sum &+= Int(timer)
            case .fire:
                _ = wheel.schedule(at: now + millisecond, kind: 2, owner: .none)
                now += 2 * millisecond
                wheel.advance(to: now)
                while let expired = wheel.popExpired() { sum &+= Int(expired.timer) }
            }
        }
        keep(sum)
    }
}

private final class MailboxRoundTrips: Workload {
    private let mailbox = Mailbox(byteCountMax: 1 << 20)

    func run(_ count: Int) {
        var sum = 0
        for _ in 0..<count {
            let batch = PeerBatches.allocate(capacity: 4096)
            batch.pointee.byteCount = 256
            _ = mailbox.post(batch)
            guard let taken = mailbox.takeAll() else { continue }
            sum &+= Int(taken.pointee.byteCount)
            PeerBatches.free(taken)
        }
        keep(sum)
    }
}
