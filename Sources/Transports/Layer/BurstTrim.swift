internal import Slabs

/// When a layer gives memory back to the kernel. After a burst of connections: once when less than half of them are left;
/// and what went unused for a while.
struct BurstTrim: BitwiseCopyable {
    /// The most records since the memory of a burst was given back.
    private var peak = 0
    private var isTrimming = false
    private var reserveChangesSeen: UInt32 = 0
    /// When memory that is kept for the next burst has gone unused for long enough. `.max`: none is, so far.
    private var restsAt: UInt64 = .max

    /// Unmapping a page takes a tenth of a microsecond, or ten times as long in a memory control group.
    private static var trimByteCountPerTurnMax: Int { 1 << 20 }
    private static var trimConnectionCountMin: Int { 1024 }
    /// As the core's own memory has it.
    static var restNanoseconds: UInt64 { 5_000_000_000 }

    /// To be called once a turn.
    mutating func turn<Record: SlabRecord>(_ blocks: inout BlockPool, _ records: inout Slab<Record>, now: UInt64) {
        if blocks.hasToUnmap { blocks.unmapSome() }
        if isTrimming {
            isTrimming = !blocks.trim(byteCountMax: Self.trimByteCountPerTurnMax)
            reserveChangesSeen = blocks.reserveChangeCount
        }
        if blocks.reserveChangeCount != reserveChangesSeen {
            reserveChangesSeen = blocks.reserveChangeCount
            restsAt = now &+ Self.restNanoseconds
        } else if now >= restsAt {
            restsAt = .max
            isTrimming = true
        }
        if records.liveCount > peak { peak = records.liveCount }
        guard peak > Self.trimConnectionCountMin, records.liveCount < peak / 2 else { return }
        peak = records.liveCount
        records.trim()
        isTrimming = true
    }

    /// When `turn` has something to do though nothing happens. 0: at once.
    func deadline(_ blocks: borrowing BlockPool) -> UInt64 { isTrimming || blocks.hasToUnmap ? 0 : restsAt }
}
