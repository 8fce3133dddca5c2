/// A timer, or the sentinel of a list of timers: 32 bytes.
@frozen @usableFromInline
struct TimerRecord: SlabRecord, Sendable {
    @usableFromInline var generation: UInt32
    @usableFromInline var kind: UInt32
    /// The links in a circular list with a sentinel. A timer can be removed without knowing its list.
    @usableFromInline var next: UInt32
    @usableFromInline var previous: UInt32
    @usableFromInline var owner: Slot
    @usableFromInline var tick: UInt64
}

/// Timers in a hierarchical wheel: 8 levels of 64 lists, each level 64 times coarser than the one below.
///
/// A tick is 2^22 ns (4.19 ms). The tick of a timer is compared with the current tick. The highest six-bit digit in
/// which they differ gives the level of the timer, and the value of that digit gives its list:
///
///     level      7 ... 3         2         1         0
///     tick    | digits ... | 6 bits  | 6 bits  | 6 bits |
///
/// So the lists of a level are all in the future and in order, and the first timer to expire is on the lowest level
/// that has timers. An advance over any distance moves whole lists to the expired list and distributes at most one list
/// over the levels below. One bit per list tells whether it has timers, so empty lists are never visited.
///
/// A timer never fires before its deadline. It fires when `advance` reaches the first tick that is not before the
/// deadline, and at least one tick after it was scheduled. So a loop over `popExpired` that schedules timers in the
/// past still ends. Deadlines may use all 64 bits of nanoseconds (584 years).
///
/// `schedule`, `cancel`, `popExpired` and `nextDeadline` take constant time. A timer takes 32 bytes.
@frozen
public struct TimerWheel: ~Copyable {
    private static var levelCount: Int { 8 }
    private static var tickShift: UInt64 { 22 }
    /// The sentinel of the list of expired timers. The sentinels of the wheel's lists have the indices 1 to this minus
    /// 1.
    private static var expiredList: UInt32 { UInt32(levelCount * 64 + 1) }

    @usableFromInline var timers: Slab<TimerRecord>
    /// One word per level, with one bit per list: set if the list has timers.
    @usableFromInline let occupied: UnsafeMutablePointer<UInt64>
    /// A bit per level, set if its word in `occupied` is not 0. It may be set although the last timer was cancelled.
    @usableFromInline var occupiedLevels: UInt64 = 0
    @usableFromInline var now: UInt64
    @usableFromInline var currentTick: UInt64

    /// A timer that has expired. It is already freed; `timer` tells the owner which of its references is no longer
    /// valid.
    @frozen
    public struct Expired: BitwiseCopyable, Sendable {
        public var kind: UInt8
        public var owner: Slot
        public var timer: UInt32
    }

    /// A wheel without timers. `now` is the current time, in nanoseconds of the clock of the deadlines.
    public init(timerCountMax: Int, now: UInt64) throws(SlabError) {
        guard timerCountMax >= 0, timerCountMax < Int(UInt32.max) - Int(Self.expiredList) else {
            throw .sizeOutOfRange(timerCountMax)
        }
        timers = try Slab(recordCountMax: timerCountMax + Int(Self.expiredList))
        occupied = .allocate(capacity: Self.levelCount)
        occupied.initialize(repeating: 0, count: Self.levelCount)
        self.now = now
        currentTick = now >> Self.tickShift
        for list in 1...Self.expiredList {
            let slot = timers.allocate()
            invariant(slot.index == list, "a new slab hands out its indices in order")
            timers[list].pointee.next = list
            timers[list].pointee.previous = list
        }
    }

    @inlinable deinit { occupied.deallocate() }

    /// The number of timers that are scheduled, or have expired and were not popped yet.
    public var count: Int { timers.liveCount - Int(Self.expiredList) }

    /// Schedules a timer. `kind` and `owner` are returned when it expires. Returns 0 if the wheel is full.
    public mutating func schedule(at deadlineNanoseconds: UInt64, kind: UInt8, owner: Slot) -> UInt32 {
        let slot = timers.allocate()
        guard !slot.isNone else { return 0 }
        let timer = timers[slot.index]
        timer.pointee.kind = UInt32(kind)
        timer.pointee.owner = owner
        timer.pointee.tick = max(Self.tick(notBefore: deadlineNanoseconds), currentTick + 1)
        place(slot.index)
        return slot.index
    }

    /// Removes a timer that was not popped yet, expired or not. 0 is ignored.
    public mutating func cancel(_ timer: UInt32) {
        guard timer != 0 else { return }
        invariant(timer > Self.expiredList, "what is cancelled is a timer")
        unlink(timer)
        timers.free(timer)
    }

    /// Sets the time to `now` and appends the timers that are due to the expired list.
    ///
    /// The lists are appended in the order of time. Within a list that is appended as a whole, the timers are in the
    /// order in which they were scheduled. A `now` in the past is ignored.
    public mutating func advance(to now: UInt64) {
        guard now > self.now else { return }
        self.now = now
        let newTick = now >> Self.tickShift
        guard newTick > currentTick else { return }
        let topLevel = Self.level(newTick ^ currentTick)
        // On levels below the highest digit that changes, all lists are between the current and the new tick.
        for level in 0..<topLevel { expireLists(of: level, where: ~0) }
        let digit = Self.digit(newTick, topLevel)
        expireLists(of: topLevel, where: 1 << digit &- 1)
        currentTick = newTick
        if occupied[topLevel] & 1 << digit != 0 { spread(topLevel, digit) }
    }

    /// Removes and frees the first timer of the expired list. nil: no timer is due.
    public mutating func popExpired() -> Expired? {
        let index = timers[Self.expiredList].pointee.next
        guard index != Self.expiredList else { return nil }
        let timer = timers[index].pointee
        unlink(index)
        timers.free(index)
        return Expired(kind: UInt8(truncatingIfNeeded: timer.kind), owner: timer.owner, timer: index)
    }

    /// When to call `advance` next, in nanoseconds. It is never later than the first deadline, rounded up to its tick.
    /// It may be earlier if timers must move to a finer level. If timers are already due, it is the current time. nil:
    /// there are no timers.
    public var nextDeadline: UInt64? {
        if timers[Self.expiredList].pointee.next != Self.expiredList { return now }
        var levels = occupiedLevels
        while levels != 0 {
            let level = levels.trailingZeroBitCount
            levels &= levels &- 1
            if occupied[level] == 0 { continue }
            let digit = UInt64(occupied[level].trailingZeroBitCount)
            let shift = UInt64(6 * level)
            let tick = (currentTick >> (shift + 6)) << (shift + 6) | digit << shift
            // A tick beyond 64 bits of nanoseconds is never reached.
            return tick > UInt64.max >> Self.tickShift ? UInt64.max : tick << Self.tickShift
        }
        return nil
    }

    /// Returns the memory of freed timers to the kernel.
    public mutating func trim() { timers.trim() }

    // MARK: Ticks

    /// The first tick that starts at or after `nanoseconds`.
    private static func tick(notBefore nanoseconds: UInt64) -> UInt64 {
        let remainder = nanoseconds & (1 << tickShift - 1)
        return nanoseconds >> tickShift + (remainder == 0 ? 0 : 1)
    }

    /// The level of the highest digit in which two ticks differ. `difference` is their exclusive or, which is not 0.
    private static func level(_ difference: UInt64) -> Int {
        (63 - difference.leadingZeroBitCount) / 6
    }

    private static func digit(_ tick: UInt64, _ level: Int) -> UInt64 {
        tick >> UInt64(6 * level) & 63
    }

    // MARK: Lists

    /// Adds a timer that is in no list to the list of its tick.
    private mutating func place(_ timer: UInt32) {
        let tick = timers[timer].pointee.tick
        guard tick > currentTick else { return append(timer, to: Self.expiredList) }
        let level = Self.level(tick ^ currentTick)
        let digit = Self.digit(tick, level)
        occupied[level] |= 1 << digit
        occupiedLevels |= 1 &<< UInt64(level)
        append(timer, to: UInt32(level * 64) + UInt32(digit) + 1)
    }

    private mutating func append(_ timer: UInt32, to list: UInt32) {
        let last = timers[list].pointee.previous
        timers[timer].pointee.next = list
        timers[timer].pointee.previous = last
        timers[last].pointee.next = timer
        timers[list].pointee.previous = timer
    }

    private mutating func unlink(_ timer: UInt32) {
        let next = timers[timer].pointee.next
        let previous = timers[timer].pointee.previous
        timers[previous].pointee.next = next
        timers[next].pointee.previous = previous
        // Both neighbours are the same sentinel: its list is empty now.
        if next == previous && next < Self.expiredList {
            occupied[Int(next - 1) >> 6] &= ~(1 << UInt64((next - 1) & 63))
        }
    }

    /// The lists of a level that are in `mask` have no timers any more.
    @inline(__always)
    private mutating func empty(_ level: Int, where mask: UInt64) {
        occupied[level] &= ~mask
        if occupied[level] == 0 { occupiedLevels &= ~(1 << UInt64(level)) }
    }

    /// Appends the non-empty lists of a level that are in `mask` to the expired list.
    private mutating func expireLists(of level: Int, where mask: UInt64) {
        var lists = occupied[level] & mask
        empty(level, where: mask)
        while lists != 0 {
            splice(UInt32(level * 64 + lists.trailingZeroBitCount + 1))
            lists &= lists - 1
        }
    }

    /// Appends all timers of a non-empty list to the expired list.
    private mutating func splice(_ list: UInt32) {
        let (first, last) = takeAll(list)
        let lastExpired = timers[Self.expiredList].pointee.previous
        timers[lastExpired].pointee.next = first
        timers[first].pointee.previous = lastExpired
        timers[last].pointee.next = Self.expiredList
        timers[Self.expiredList].pointee.previous = last
    }

    private mutating func takeAll(_ list: UInt32) -> (first: UInt32, last: UInt32) {
        let sentinel = timers[list]
        let ends = (first: sentinel.pointee.next, last: sentinel.pointee.previous)
        sentinel.pointee.next = list
        sentinel.pointee.previous = list
        return ends
    }

    /// Distributes the timers of a list over the levels below, because the current tick has reached its digit.
    private mutating func spread(_ level: Int, _ digit: UInt64) {
        empty(level, where: 1 << digit)
        let list = UInt32(level * 64) + UInt32(digit) + 1
        let (first, last) = takeAll(list)
        var timer = first
        var isLast = false
        while !isLast {
            isLast = timer == last
            let next = timers[timer].pointee.next
            place(timer)
            timer = next
        }
    }
}

// Only the wheel uses the memory of its pointers, so the wheel may move to another thread.
extension TimerWheel: @unchecked Sendable {}
