/// A place in a slab and the life of that place it belongs to.
///
/// `index` counts from 1; 0 means "none", so that a record filled with zeros links to nothing. `generation` is 24 bits
/// wide (1 ... 0xFF_FFFF, then 1 again) because it travels in the upper bits of io_uring's `user_data`; it changes each
/// time the place is reused, which is how a stale handle or a late completion is recognised.
@frozen
public struct Slot: Hashable, BitwiseCopyable, Sendable {
    public var index: UInt32
    public var generation: UInt32

    @inlinable
    public init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// No place at all.
    @inlinable public static var none: Slot { Slot(index: 0, generation: 0) }
    @inlinable public var isNone: Bool { index == 0 }
}
