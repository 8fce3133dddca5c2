/// The place of a record in a `Slab<Record>`: 4 bytes that no slab of another type takes.
///
/// Places count from 1; 0 means "none", so that a record filled with zeros refers to nothing. An index says nothing about
/// the life of its place: it is for links that are cut before the record ends. For others there is `Handle`.
@frozen
public struct Index<Record>: Hashable, BitwiseCopyable, Sendable {
    /// As a number: for tables that hold numbers, and for text. 0: none.
    public var rawValue: UInt32

    @inlinable @inline(__always)
    public init(_ rawValue: UInt32) { self.rawValue = rawValue }

    /// No place at all.
    @inlinable @inline(__always) public static var none: Index { Index(0) }
    @inlinable @inline(__always) public var isNone: Bool { rawValue == 0 }

    // Written out, for what the compiler derives is not inlined into other modules.

    @inlinable @inline(__always)
    public static func == (a: Index, b: Index) -> Bool { a.rawValue == b.rawValue }

    @inlinable
    public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }
}

/// A record of a `Slab<Record>` in one life of its place: 8 bytes, for references that may outlive the record.
///
/// `Slot` is the same without the type: it travels through peer messages, timers and drivers, which do not know the record types.
@frozen
public struct Handle<Record>: Hashable, BitwiseCopyable, Sendable {
    public var index: Index<Record>
    public var generation: UInt32

    @inlinable @inline(__always)
    public init(index: Index<Record>, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// The handle that was sent as `slot`. One that was not is found in no slab, or is another record's of the same type:
    /// whoever reads a slot knows what it was written for.
    @inlinable @inline(__always)
    public init(_ slot: Slot) {
        index = Index(slot.index)
        generation = slot.generation
    }

    @inlinable @inline(__always)
    public var slot: Slot { Slot(index: index.rawValue, generation: generation) }

    /// No record at all.
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
