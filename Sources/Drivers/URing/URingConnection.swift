#if URing
    /// The record of a connection in the io_uring driver. All zeros: not adopted.
    ///
    /// ```
    /// | file: 4 | generation: 4 | state: 4 | promotion: 2 | windowStart: 1 | fireCount: 1 |
    /// ```
    struct URingConnection: BitwiseCopyable {
        /// The index in the ring's table of direct descriptors, or the plain descriptor.
        var file: Int32 = 0
        var generation: UInt32 = 0
        var state: State = []
        /// The index in `PromotedList`. 0: not promoted.
        var promotion: UInt16 = 0
        /// The promotion window in which `fireCount` began to count: the clock in units of the window, modulo 256.
        var windowStart: UInt8 = 0
        /// With a POLL: how often it fired in this window. With a multishot RECV: how many receives in a row would have
        /// fitted the other buffer size better.
        var fireCount: UInt8 = 0

        struct State: OptionSet, BitwiseCopyable {
            let rawValue: UInt32

            // What the core wants.
            static let receives = State(rawValue: 1 << 0)
            static let isClosing = State(rawValue: 1 << 1)
            static let resetsOnClose = State(rawValue: 1 << 2)

            // Requests that the kernel holds. At most one of `isPolled`, `isMultishot` and `isWatched` is set.
            static let isPolled = State(rawValue: 1 << 3)
            static let isMultishot = State(rawValue: 1 << 4)
            /// A RECV, which completes within the submit.
            static let isReceiving = State(rawValue: 1 << 5)
            static let isWritablePolled = State(rawValue: 1 << 6)
            static let isShuttingDown = State(rawValue: 1 << 7)
            static let isBeingClosed = State(rawValue: 1 << 8)
            /// There was a zero-copy send. The kernel may still read its bytes.
            static let hasZeroCopy = State(rawValue: 1 << 9)
            /// The POLL or RECV is being cancelled.
            static let isReceiveEnding = State(rawValue: 1 << 10)
            static let isWritableEnding = State(rawValue: 1 << 11)

            // The state of the socket.
            /// The peer ended or reset the connection. The driver reads until it finds the end.
            static let hasHangup = State(rawValue: 1 << 12)
            /// The end or a failure was reported. The driver does not receive any more.
            static let hasEnded = State(rawValue: 1 << 13)
            /// Receives into large buffers.
            static let isLarge = State(rawValue: 1 << 14)
            /// The armed multishot RECV takes large buffers.
            static let isArmedLarge = State(rawValue: 1 << 15)
            /// Is in `again` or `newcomers`, to be looked at in the next round.
            static let isQueued = State(rawValue: 1 << 16)
            /// The RECV under way takes a large buffer.
            static let isReceivingLarge = State(rawValue: 1 << 17)
            /// The driver opens the connection: a SOCKET or CONNECT is under way.
            static let isConnecting = State(rawValue: 1 << 18)
            /// A POLL that reports only failures, while receiving is paused.
            static let isWatched = State(rawValue: 1 << 19)
            /// A failure was reported.
            static let hasFailed = State(rawValue: 1 << 20)
            /// Was not read yet.
            static let isNew = State(rawValue: 1 << 21)

            static let armed: State = [.isPolled, .isMultishot, .isWatched]
            /// The descriptor is not closed while one of these is set.
            static let keepsFile: State = [
                .isPolled, .isMultishot, .isWatched, .isReceiving, .isWritablePolled, .isShuttingDown, .isConnecting,
            ]
        }
    }

    /// The connections that were promoted to a multishot RECV, in the order in which they are checked for silence.
    ///
    /// This is a second-chance list. A receive only stores the time. When a check finds that the connection was busy,
    /// the entry moves to the end. So the list is never scanned, and costs nothing while no connection is promoted.
    struct PromotedList: ~Copyable {
        struct Entry {
            var index: UInt32 = 0
            var next: UInt16 = 0
            var previous: UInt16 = 0
            var lastReceiveMilliseconds: UInt64 = 0
            var checkMilliseconds: UInt64 = 0
        }

        private(set) var count = 0
        let countMax: Int
        private let entries: UnsafeMutablePointer<Entry>
        private var firstFree: UInt16 = 0
        private(set) var first: UInt16 = 0
        private var last: UInt16 = 0

        init(countMax: Int) {
            self.countMax = min(max(countMax, 0), Int(UInt16.max) - 1)
            entries = .allocate(capacity: self.countMax + 1)
            for place in 0...self.countMax {
                (entries + place).initialize(to: Entry())
                entries[place].next = place > 0 && place < self.countMax ? UInt16(place + 1) : 0
            }
            firstFree = self.countMax > 0 ? 1 : 0
        }

        deinit { entries.deallocate() }

        var isFull: Bool { firstFree == 0 }

        subscript(place: UInt16) -> Entry { entries[Int(place)] }

        mutating func noteReceive(_ place: UInt16, nowMilliseconds: UInt64) {
            entries[Int(place)].lastReceiveMilliseconds = nowMilliseconds
        }

        /// Adds an entry and returns its index. The list must not be full.
        mutating func add(index: UInt32, nowMilliseconds: UInt64, checkMilliseconds: UInt64) -> UInt16 {
            let place = firstFree
            invariant(place != 0, "a connection was promoted though the list is full")
            firstFree = entries[Int(place)].next
            entries[Int(place)] = Entry(
                index: index, lastReceiveMilliseconds: nowMilliseconds, checkMilliseconds: checkMilliseconds)
            append(place)
            count += 1
            return place
        }

        mutating func remove(_ place: UInt16) {
            unlink(place)
            entries[Int(place)] = Entry(next: firstFree)
            firstFree = place
            count -= 1
        }

        mutating func moveToEnd(_ place: UInt16, checkMilliseconds: UInt64) {
            unlink(place)
            entries[Int(place)].checkMilliseconds = checkMilliseconds
            append(place)
        }

        private mutating func append(_ place: UInt16) {
            entries[Int(place)].previous = last
            entries[Int(place)].next = 0
            if last != 0 { entries[Int(last)].next = place } else { first = place }
            last = place
        }

        private mutating func unlink(_ place: UInt16) {
            let entry = entries[Int(place)]
            if entry.previous != 0 { entries[Int(entry.previous)].next = entry.next } else { first = entry.next }
            if entry.next != 0 { entries[Int(entry.next)].previous = entry.previous } else { last = entry.previous }
        }
    }

    import Slabs
#endif
