// Access to the slab by typed indices and handles. Other modules use only this interface.
extension Slab {
    /// Allocates a record of zeros, except for its generation. `.none`: the slab is full.
    @_disfavoredOverload
    @inlinable @inline(__always)
    public mutating func allocate() -> Handle<Record> {
        let slot: Slot = allocate()
        return Handle(slot)
    }

    /// Frees a record. All handles to it are stale from now on.
    @inlinable @inline(__always)
    public mutating func free(_ index: Index<Record>) { free(index.rawValue) }

    /// The address of a live record, valid until the record is freed. Only debug builds check that it is live.
    @inlinable
    public subscript(_ index: Index<Record>) -> UnsafeMutablePointer<Record> {
        @inline(__always) get { pointer(index.rawValue) }
    }

    /// The address of the record of `handle`. nil: the handle is none, stale or invalid.
    @inlinable @inline(__always)
    public func find(_ handle: Handle<Record>) -> UnsafeMutablePointer<Record>? { find(handle.slot) }

    /// Whether the record of `handle` was not freed since the handle was made.
    @inlinable @inline(__always)
    public func isLive(_ handle: Handle<Record>) -> Bool { isLive(handle.slot) }

    /// The handle of a live record.
    @inlinable @inline(__always)
    public func handle(_ index: Index<Record>) -> Handle<Record> {
        Handle(index: index, generation: pointer(index.rawValue).pointee.generation)
    }

    /// The first live record after `index` (none: the first record of the slab). None: there are no more. Complexity:
    /// linear in the places between.
    ///
    /// Records may be allocated and freed during a walk. The walk does not visit a record that is allocated before its
    /// position.
    @inlinable
    public func nextLive(after index: Index<Record>) -> Index<Record> { Index(nextLive(after: index.rawValue)) }
}
