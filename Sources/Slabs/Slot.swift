/// Names a record of a slab, without the type of the record: its index and its generation.
///
/// `index` counts from 1. 0 means "none", so a record of zeros links to nothing. `generation` has 24 bits (1 ...
/// 0xFF_FFFF, then 1 again), because it must fit the upper bits of io_uring's `user_data`. It changes each time the
/// place is reused, so a stale handle or a late completion is detected.
@frozen
public struct Slot: Hashable, BitwiseCopyable, Sendable {
    public var index: UInt32
    public var generation: UInt32

    @inlinable
    public init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// No record.
    @inlinable public static var none: Slot { Slot(index: 0, generation: 0) }
    @inlinable public var isNone: Bool { index == 0 }
}
