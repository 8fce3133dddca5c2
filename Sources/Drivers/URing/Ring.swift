#if URing
    internal import CURing
    import Glibc
    import IO

    /// The set-up modes of a ring, slowest first. The driver takes the best one that the kernel supports.
    enum RingLevel: Int, CaseIterable, Comparable, Sendable {
        /// Linux 5.19: the kernel runs completions when the thread enters it, without an interrupt.
        case cooperative
        /// Linux 6.0: also, only one thread submits.
        case singleIssuer
        /// Linux 6.1: also, completions run only when the thread asks for them. Only this mode is faster than epoll.
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

    /// An io_uring: its queues, and io_uring_enter(2). Owns the ring.
    struct Ring: ~Copyable {
        let raw: UnsafeMutablePointer<io_uring>
        let level: RingLevel
        private(set) var isRegistered = false

        /// Creates a ring at the highest level that the kernel supports, up to `best`.
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

        /// Creates the table of direct descriptors.
        ///
        /// - Parameters:
        ///   - count: the wanted number of slots.
        ///   - countMin: the smallest number of slots that is accepted.
        /// - Returns: the number of slots that the kernel granted.
        func makeFileTable(count: Int, countMin: Int) throws(DriverError) -> Int {
            let granted = curing_register_files(raw, UInt32(count), UInt32(countMin))
            guard granted > 0 else {
                throw DriverError.ring(step: "a table of \(count) direct descriptors", errorNumber: -granted)
            }
            return Int(granted)
        }

        /// Registers the ring's descriptor with the calling thread, so that the kernel does not look it up at each
        /// enter.
        mutating func register() { isRegistered = io_uring_register_ring_fd(raw) == 1 }

        /// Submits the prepared entries. Does not wait and does not run deferred work.
        ///
        /// - Returns: the number of entries taken, or -errno.
        func submit() -> Int32 { curing_enter(raw, isRegistered, false, false, 0, 0, nil) }

        /// Submits the prepared entries, runs deferred work and waits.
        ///
        /// - Parameters:
        ///   - completionCount: how many completions end the wait. 0: does not wait.
        ///   - minWaitMicroseconds: after this time one completion is enough.
        ///   - timeout: nanoseconds. nil: none.
        ///   - isAbsolute: `timeout` is a point in time (CLOCK_MONOTONIC), else a span.
        /// - Returns: the number of entries taken, or -errno.
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

        /// Removes the oldest completion from the queue.
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
        /// A count, flags or a descriptor, or -errno.
        var result: Int32
        var flags: UInt32

        /// Whether the request stays armed: more completions follow.
        var hasMore: Bool { flags & curing_cqe_more != 0 }
        var buffer: UInt16? { flags & curing_cqe_buffer != 0 ? UInt16(flags >> 16) : nil }
        /// Whether the socket holds more bytes than were received.
        var isSocketNonempty: Bool { flags & curing_cqe_nonempty != 0 }
        var isNotification: Bool { flags & curing_cqe_notification != 0 }
    }

    /// Identifies the request of a completion.
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

        /// The 56 bits of the origin take the place of generation and slot.
        init(_ operation: RingOperation, _ origin: ConnectionOrigin) {
            rawValue = UInt64(operation.rawValue) << 56 | origin.packed
        }

        var operation: RingOperation { RingOperation(rawValue: UInt8(rawValue >> 56)) ?? .ignored }
        var index: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
        var origin: ConnectionOrigin { ConnectionOrigin(packed: rawValue) }
        var connection: Slot { Slot(index: index, generation: UInt32(truncatingIfNeeded: rawValue >> 32) & 0xFF_FFFF) }
    }

    enum RingOperation: UInt8 {
        /// The result does not matter.
        case ignored
        /// Slot: the listener's index.
        case accept
        /// The POLL on the eventfd of this worker.
        case wakePoll
        /// A message from the ring of another worker.
        case wakeMessage
        /// A message to the ring of another worker. Slot: the worker.
        case wakePeer
        case receivePoll
        case receive
        case receiveMultishot
        /// The POLL of a connection whose receiving is paused.
        case failurePoll
        case writablePoll
        /// Posts a completion only if it was not sent completely.
        case send
        /// A send on a kernel that always posts a completion. Slot: index in `countedSends`.
        case sendCounted
        /// Slot: index in `zeroCopySends`.
        case sendZeroCopy
        case shutdown
        /// Makes a plain descriptor for shutdown(2).
        case install
        /// A NOP. When it completes, the driver calls shutdown(2) on the plain descriptor.
        case shutdownPlain
        case close
        /// Slot and generation: the connection whose request is cancelled.
        case cancelReceive
        case cancelWritable
        case cancelEverything
        /// Slot: index in the file table of this ring.
        case handOff
        /// A message from the ring of another worker, with an index in our file table. Generation and slot: the origin.
        case handedOn
        /// Slot: index in `openings`.
        case socket
        case connect
        /// Completes within the submit. `peerName` takes the completion.
        case peerName
        case cancelConnect
        /// Slot: the index of the operation in `OpenFiles`.
        case file
        case selfTest
    }

    import Slabs
#endif
