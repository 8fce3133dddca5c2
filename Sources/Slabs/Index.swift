/// The index of a record in a `Slab<Record>`: 4 bytes. A slab of another type does not accept it.
///
/// Indices count from 1. 0 means "none", so a record of zeros refers to nothing. An index does not tell whether its
/// record is still the same one. It is for links that are removed before the record is freed. `Handle` is for other
/// references.
@frozen
public struct Index<Record>: Hashable, BitwiseCopyable, Sendable {
    /// The index as a number, for tables of numbers and for text. 0: none.
    public var rawValue: UInt32

    @inlinable @inline(__always)
    public init(_ rawValue: UInt32) { self.rawValue = rawValue }

    /// No record.
    @inlinable @inline(__always) public static var none: Index { Index(0) }
    @inlinable @inline(__always) public var isNone: Bool { rawValue == 0 }

    // Written out, because a derived function is not inlined into other modules.

    @inlinable @inline(__always)
    public static func == (a: Index, b: Index) -> Bool { a.rawValue == b.rawValue }

    @inlinable
    public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }
}

/// A reference to a record of a `Slab<Record>` that may outlive the record: 8 bytes. The generation tells whether the
/// record is still the same one.
///
/// `Slot` is the same without the type. It is passed in peer messages and through timers and drivers, which do not know
/// the record types.
@frozen
public struct Handle<Record>: Hashable, BitwiseCopyable, Sendable {
    public var index: Index<Record>
    public var generation: UInt32

    @inlinable @inline(__always)
    public init(index: Index<Record>, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// The handle that was sent as `slot`. The caller must know that the slot was made from a handle of this type.
    /// Otherwise the handle may be stale or refer to another record.
    @inlinable @inline(__always)
    public init(_ slot: Slot) {
        index = Index(slot.index)
        generation = slot.generation
    }

    @inlinable @inline(__always)
    public var slot: Slot { Slot(index: index.rawValue, generation: generation) }

    /// No record.
    @inlinable @inline(__always) public static var none: Handle { Handle(index: .none, generation: 0) }
    @inlinable @inline(__always) public var isNone: Bool { index.isNone }

    @inlinable @inline(__always)
    public static func == (a: Handle, b: Handle) -> Bool { a.index == b.index && a.generation == b.generation }

    @inlinable
    public func hash(into hasher: inout Hasher) {
        hasher.combine(index)
        hasher.combine(generation)
    }
}
