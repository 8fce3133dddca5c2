// The slab by typed indices and handles: all that other modules see of it.
extension Slab {
    /// Takes a place for a record, filled with zeros except for its generation; `.none` when the slab is full.
    @_disfavoredOverload
    @inlinable @inline(__always)
    public mutating func allocate() -> Handle<Record> {
        let slot: Slot = allocate()
        return Handle(slot)
    }

    /// Ends the life of a record. Every handle that names it is stale from now on.
    @inlinable @inline(__always)
    public mutating func free(_ index: Index<Record>) { free(index.rawValue) }

    /// Where a live record is. Valid until the record is freed. Checked in debug builds only.
    @inlinable
    public subscript(_ index: Index<Record>) -> UnsafeMutablePointer<Record> {
        @inline(__always) get { pointer(index.rawValue) }
    }

    /// Where the record of `handle` is; nil when the handle is none, stale, or never was handed out.
    @inlinable @inline(__always)
    public func find(_ handle: Handle<Record>) -> UnsafeMutablePointer<Record>? { find(handle.slot) }

    /// Whether the record of `handle` is in the life that `handle` was handed out for.
    @inlinable @inline(__always)
    public func isLive(_ handle: Handle<Record>) -> Bool { isLive(handle.slot) }

    /// The handle of a live record.
    @inlinable @inline(__always)
    public func handle(_ index: Index<Record>) -> Handle<Record> {
        Handle(index: index, generation: pointer(index.rawValue).pointee.generation)
    }

    /// The first live record after `index` (none: the first of all); none when there is none. Linear in the places between.
    ///
    /// Records may be allocated and freed during a walk; one allocated behind the walk is not visited.
    @inlinable
    public func nextLive(after index: Index<Record>) -> Index<Record> { Index(nextLive(after: index.rawValue)) }
}
