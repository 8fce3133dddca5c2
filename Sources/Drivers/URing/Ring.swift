#if URing
    internal import CURing
    import Glibc
    import IO

    /// How much of what makes io_uring fast this kernel has: the rungs of the set-up ladder, worst first.
    enum RingLevel: Int, CaseIterable, Comparable, Sendable {
        /// 5.19: completions run when the thread enters the kernel, without an interrupt.
        case cooperative
        /// 6.0: and the ring knows that only one thread submits.
        case singleIssuer
        /// 6.1: and completions run only when asked for. This is where the gain over epoll is.
        case deferred

        var flags: UInt32 {
            switch self {
            case .cooperative: curing_setup_common | curing_setup_cooperative
            case .singleIssuer: curing_setup_common | curing_setup_single_cooperative
            case .deferred: curing_setup_common | curing_setup_deferred
            }
        }

        var text: String {
            switch self {
            case .cooperative: "cooperative task work (Linux 5.19 and later)"
            case .singleIssuer: "single issuer, cooperative task work (Linux 6.0 and later)"
            case .deferred: "single issuer, deferred task work (Linux 6.1 and later)"
            }
        }

        static func < (left: RingLevel, right: RingLevel) -> Bool { left.rawValue < right.rawValue }
    }

    /// An io_uring: the queues, and the system call that drives them. Owns the ring.
    struct Ring: ~Copyable {
        let raw: UnsafeMutablePointer<io_uring>
        let level: RingLevel
        private(set) var isRegistered = false

        /// Creates a ring at the highest level that the kernel takes, `best` at most.
        static func make(
            entryCount: Int, completionEntryCount: Int, best: RingLevel, isDisabled: Bool
        ) throws(DriverError) -> Ring {
            let raw = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
            var result: Int32 = -EINVAL
            for level in RingLevel.allCases.reversed() where level <= best {
                let flags = level.flags | (isDisabled ? curing_setup_disabled : 0)
                result = curing_create(raw, UInt32(entryCount), UInt32(completionEntryCount), flags)
                if result == 0 { return Ring(raw: raw, level: level) }
                guard result == -EINVAL else { break }
            }
            raw.deallocate()
            throw DriverError.ring(step: "io_uring_setup", errorNumber: -result)
        }

        private init(raw: UnsafeMutablePointer<io_uring>, level: RingLevel) {
            self.raw = raw
            self.level = level
        }

        deinit {
            curing_destroy(raw)
            raw.deallocate()
        }

        var fd: Int32 { raw.pointee.ring_fd }

        /// Makes the table of direct descriptors: of `count`, or of as many as the kernel grants, `countMin` at least.
        /// Returns how many.
        func makeFileTable(count: Int, countMin: Int) throws(DriverError) -> Int {
            let granted = curing_register_files(raw, UInt32(count), UInt32(countMin))
            guard granted > 0 else {
                throw DriverError.ring(step: "a table of \(count) direct descriptors", errorNumber: -granted)
            }
            return Int(granted)
        }

        /// Spares each enter the look-up of the ring's descriptor. Belongs to the calling thread.
        mutating func register() { isRegistered = io_uring_register_ring_fd(raw) == 1 }

        /// Submits what was prepared, and no more: neither waits nor runs deferred work. Entries taken, or -errno.
        func submit() -> Int32 { curing_enter(raw, isRegistered, false, false, 0, 0, nil) }

        /// Submits what was prepared and waits.
        /// - Parameters:
        ///   - completionCount: how many completions end the wait; 0: does not wait, but runs deferred work.
        ///   - minWaitMicroseconds: after so long, one completion is enough.
        ///   - timeout: nanoseconds, absolute (CLOCK_MONOTONIC) or relative as the kernel can; nil: none.
        func enter(
            completionCount: Int, minWaitMicroseconds: Int = 0, timeout: UInt64? = nil, isAbsolute: Bool = false
        ) -> Int32 {
            guard let timeout else {
                return curing_enter(raw, isRegistered, true, false, UInt32(completionCount), 0, nil)
            }
            var value = __kernel_timespec()
            value.tv_sec = Int64(timeout / 1_000_000_000)
            value.tv_nsec = Int64(timeout % 1_000_000_000)
            return curing_enter(
                raw, isRegistered, true, isAbsolute, UInt32(completionCount), UInt32(minWaitMicroseconds), &value)
        }

        var pendingCount: Int { Int(curing_pending(raw)) }
        var completionCount: Int { Int(curing_completion_tail(raw) &- curing_completion_head(raw)) }

        /// Takes the oldest completion off the queue.
        func takeCompletion() -> RingCompletion? {
            let head = curing_completion_head(raw)
            guard head != curing_completion_tail(raw) else { return nil }
            let cqe = curing_completion(raw, head)!.pointee
            curing_set_completion_head(raw, head &+ 1)
            return RingCompletion(userData: UserData(rawValue: cqe.user_data), result: cqe.res, flags: cqe.flags)
        }
    }

    /// A completion as the kernel wrote it.
    struct RingCompletion: BitwiseCopyable {
        var userData: UserData
        /// A count, or -errno.
        var result: Int32
        var flags: UInt32

        /// The request stays armed: more completions follow.
        var hasMore: Bool { flags & curing_cqe_more != 0 }
        var buffer: UInt16? { flags & curing_cqe_buffer != 0 ? UInt16(flags >> 16) : nil }
        /// The socket holds more bytes than were received.
        var isSocketNonempty: Bool { flags & curing_cqe_nonempty != 0 }
        var isNotification: Bool { flags & curing_cqe_notification != 0 }
    }

    /// What a completion belongs to.
    ///
    /// ```
    /// | 63 ... 56 | 55 ... 32  | 31 ... 0 |
    /// | operation | generation | slot     |
    /// ```
    struct UserData: BitwiseCopyable, RawRepresentable {
        var rawValue: UInt64

        init(rawValue: UInt64) { self.rawValue = rawValue }

        init(_ operation: RingOperation, _ connection: Slot) {
            rawValue =
                UInt64(operation.rawValue) << 56 | UInt64(connection.generation & 0xFF_FFFF) << 32
                | UInt64(connection.index)
        }

        init(_ operation: RingOperation, index: UInt32 = 0) {
            rawValue = UInt64(operation.rawValue) << 56 | UInt64(index)
        }

        /// The origin takes the place of generation and slot.
        init(_ operation: RingOperation, _ origin: ConnectionOrigin) {
            rawValue = UInt64(operation.rawValue) << 56 | origin.packed
        }

        var operation: RingOperation { RingOperation(rawValue: UInt8(rawValue >> 56)) ?? .ignored }
        var index: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
        var origin: ConnectionOrigin { ConnectionOrigin(packed: rawValue) }
        var connection: Slot { Slot(index: index, generation: UInt32(truncatingIfNeeded: rawValue >> 32) & 0xFF_FFFF) }
    }

    enum RingOperation: UInt8 {
        /// Nothing depends on the outcome.
        case ignored
        /// Slot: the listener's index.
        case accept
        /// The POLL on our eventfd.
        case wakePoll
        /// Posted by another worker's ring.
        case wakeMessage
        /// Our message to another worker's ring. Slot: the worker.
        case wakePeer
        case receivePoll
        case receive
        case receiveMultishot
        /// The POLL of a connection whose receiving is paused.
        case failurePoll
        case writablePoll
        /// Silent on success.
        case send
        /// Where silence does not work. Slot: a place in this round's list of sends.
        case sendCounted
        /// Slot: a place in the list of zero-copy sends.
        case sendZeroCopy
        case shutdown
        /// A plain descriptor for shutdown(2).
        case install
        /// A NOP; shutdown(2) of the plain descriptor follows.
        case shutdownPlain
        case close
        /// Slot and generation: the connection whose request is to end.
        case cancelReceive
        case cancelWritable
        case cancelEverything
        /// Slot: our file index.
        case handOff
        /// Posted by another worker's ring, with a file of our table. Generation and slot: its origin.
        case handedOn
        /// Slot: a place in the list of connections being opened.
        case socket
        case connect
        /// Answered within the submit, and taken out there.
        case peerName
        case cancelConnect
        /// Slot: a place in the list of file operations.
        case file
        case selfTest
    }

    import Slabs
#endif
