#if URing
    internal import CURing
    import Glibc
    public import IO
    import Slabs

    /// The io_uring driver.
    ///
    /// Sockets are direct descriptors: slots in the ring's file table, which take no fd. If the kernel does not release
    /// closed direct descriptors at once, sockets are plain descriptors (see `+PlainDescriptors`).
    ///
    /// A round is one io_uring_enter(2). It carries out all sends, runs the deferred work of the kernel, and waits. A
    /// send completes within the submit, and posts a completion only if the socket did not take all of its bytes. An
    /// idle connection waits with a multishot POLL. When it fires, a RECV into a provided buffer follows in a second
    /// enter of the same round, together with the RECVs of all other connections. A busy connection waits with a
    /// multishot RECV, which needs no second enter. An idle connection takes 16 B of user memory.
    ///
    /// A *flood* is a connection that has more bytes to read each time. Floods share the receive budget of a round, so
    /// that they do not delay the other connections.
    ///
    /// The files of this folder: this one holds the driver's state and the round. `+Submissions` handles the requests
    /// of the core, `+Completions` the answers of the kernel, `+Receiving` how a connection waits for its next bytes,
    /// `+Setup` creation and shut-down, `+Files` files, and `+PlainDescriptors` the differences without a file table.
    public struct URingDriver: ~Copyable, Driver {
        /// The most completions handled in one round, not counting those of sends.
        static let completionsPerRoundMax = 4096
        /// Slots of the file table that are reserved for connections to be handed off.
        static let handOffReserve = 64
        /// The most enters in a row to make the kernel take the prepared entries.
        static let submitAttemptsMax = 1000

        /// The most extra enters after a wait to run the deferred work that was ready when the wait ended.
        static let extraEntersMax = 8
        /// If a round receives at least this many bytes, the next round makes no extra enters. They would receive more
        /// of the flood and delay the other connections.
        static let floodByteCountMin = 128 << 10
        /// The most RECVs that are prepared for connections with a POLL between two returns of buffers, if the budget
        /// allows. It is large enough to make the cost of an enter small for each RECV.
        static let receivesPerRoundMax = 64
        /// The most new connections reported to the core in one round, and the most read for the first time. The bound
        /// keeps many new connections at once from delaying the established ones.
        static let acceptsPerRoundMax = 16
        /// RECVs per round that connections which are not floods have even if the budget is tight.
        static let receivesOfOthersMin = 8
        /// Large buffers that the kernel has even if the budget is tight.
        static let largeCountMin = 4
        /// Deferred completions that the kernel runs in one enter, unless it waits for more (IO_LOCAL_TW_DEFAULT_MAX).
        static let completionsPerEnter = 20

        public internal(set) var connectionCountMax = 0
        public internal(set) var counters = DriverCounters()
        public var level: String {
            var names = [features.text]
            if ring.isRegistered { names.append("registered ring") }
            if isRestricted { names.append("restricted") }
            return "io_uring, Linux \(kernelRelease()): \(names.joined(separator: ", "))"
        }

        let options: DriverOptions
        let features: RingFeatures
        let mode: DriverOptions.ReceiveMode
        let wake: WakeHandle
        let peers: WakeDirectory
        let ring: Ring
        let table: ConnectionTable<URingConnection>
        let isRestricted: Bool
        /// The flags of requests on sockets: `curing_file_direct` or `curing_file_plain`.
        let fileFlags: UInt8
        /// The highest slot index that was ever adopted.
        var highestIndex = 0

        // Receiving.
        var small: ReceiveBuffers
        var large: ReceiveBuffers
        /// The buffers that this round handed to the core: their identifiers, with bit 16 set for large buffers.
        var handedOut = Batch<UInt32>(capacity: 256)
        /// Connections to look at in the next round: they have more bytes, no buffer was free, or a cancel found
        /// nothing.
        var again = Batch<Slot>(capacity: 64)
        /// The previous `again`, while it is worked through.
        var nowAgain = Batch<Slot>(capacity: 64)
        /// Connections that wait to be read for the first time.
        var newcomers = Batch<Slot>(capacity: 64)
        /// RECVs that were prepared since the buffers were last returned to the kernel.
        var preparedReceiveCount = 0
        /// Those of connections that had more bytes than fitted their last RECV, and the bytes expected of them.
        var preparedAgainCount = 0
        var preparedAgainByteCount = 0
        /// Those of connections that are read for the first time.
        var preparedNewcomerCount = 0
        /// Those that take a large buffer.
        var preparedLargeCount = 0
        /// Armed multishot RECVs that take large buffers.
        var largeArmedCount = 0
        /// The bytes that a round may receive.
        var budget: ReceiveBudget
        /// Large buffers that the kernel does not get while the budget is small.
        var withheld = Batch<UInt16>(capacity: 16)
        /// Large buffers that the kernel or the core has.
        var largeInUseCount: Int
        var promoted: PromotedList
        let promotionWindowMilliseconds: UInt64
        let demotionMilliseconds: UInt64
        var nowMilliseconds: UInt64

        // Sending. `messages` holds the `msghdr`s of vector sends until they are submitted.
        let messages: UnsafeMutablePointer<msghdr>
        var messageCount = 0
        let sendBatchCount: Int
        var chunkSendCount = 0
        var sendCountInRound = 0
        var failedSends = Batch<Completion>(capacity: 64)
        /// On kernels without silent sends: the connection and byte count of each send of this round.
        var countedSends = Batch<CountedSend>(capacity: 16)
        var zeroCopySends = Batch<ZeroCopySend>(capacity: 16)
        var freeZeroCopySend: UInt32 = 0

        // Connecting.
        var openings = Batch<Opening>(capacity: 16)
        var freeOpening: UInt32 = 0

        /// nil until the first file submission.
        var files: OpenFiles?

        // Accepting.
        var listeners: [Listener]
        /// Accepted connections that are not reported to the core yet, from `laterAcceptHead` on.
        var laterAccepts = Batch<Completion>(capacity: 64)
        var laterAcceptHead = 0
        var acceptsInRound = 0
        var wakeArmed = false
        var wokenInRound = false

        /// Requests that the kernel keeps after the submit. `shutDown` waits for them.
        var armedCount = 0
        /// Completions that were taken from a full queue early. They are handled before those of the queue.
        var stash = Batch<RingCompletion>(capacity: 16)
        var stashHead = 0
        /// Whether the last round left deferred completions in the kernel.
        var isBusy = false
        /// Bytes that the last round received.
        var receivedBefore: UInt64 = 0
        /// `counters.receivedBytes` at the start of this round.
        var receivedAtStart: UInt64 = 0
        /// The average bytes of a receive, in the last round that had receives.
        var lastReceiveByteCount = 1
        /// `counters.receives` at the start of this round.
        var receivesAtStart: UInt64 = 0
        /// The average bytes of a RECV into a large buffer, in the last round that had any.
        var lastLargeByteCount = 1
        /// The bytes and the number of RECVs into large buffers in this round.
        var largeReceivedByteCount = 0
        var largeReceivedCount = 0

        struct CountedSend: BitwiseCopyable {
            var connection: Slot
            var byteCount: Int32
        }

        struct ZeroCopySend: BitwiseCopyable {
            /// `.none`: the entry is free.
            var connection: Slot
            var result: Int32
            var nextFree: UInt32
        }

        struct Listener {
            var fd: Int32
            var isArmed = false
            /// Does not accept until `.resumeAccepting`.
            var rests = false
            /// Where the kernel writes the peer's address. nil: the address is not needed.
            var address: UnsafeMutablePointer<ListenerAddress>?
        }

        struct ListenerAddress {
            var storage = sockaddr_storage()
            var byteCount: socklen_t = 0
        }

        public init(
            options: DriverOptions, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory
        ) throws(DriverError) {
            switch RingFeatures.ofThisKernel(options.descriptors) {
            case .success(let features):
                try self.init(options: options, features: features, listeners: listeners, wake: wake, peers: peers)
            case .failure(let error):
                for fd in listeners { close(fd) }
                throw error
            }
        }

        public mutating func poll(
            _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>
        ) {
            let countBefore = completions.count
            giveBuffersBack()
            sendCountInRound = 0
            countedSends.removeAll()
            wokenInRound = false
            receivedBefore = counters.receivedBytes - receivedAtStart
            receivedAtStart = counters.receivedBytes
            let receives = counters.receives - receivesAtStart
            if receives > 0 { lastReceiveByteCount = max(Int(receivedBefore / receives), 1) }
            receivesAtStart = counters.receives
            if largeReceivedCount > 0 { lastLargeByteCount = largeReceivedByteCount / largeReceivedCount }
            largeReceivedByteCount = 0
            largeReceivedCount = 0
            reportLaterAccepts(&completions)
            for position in 0..<submissions.count { carryOut(submissions[position]) }
            if budget.isMeasuring {
                submitAll()
                budget.turnEnds()
            }
            lookAgain()
            demoteSilent()

            reap(&completions)
            repeat {
                enter(deadline: hasNews(completions, countBefore) || hasToLookAgain ? 0 : deadline)
                reap(&completions)
                // POLLs that fired have prepared RECVs. These complete within this submit.
                if preparedReceiveCount > 0, ring.pendingCount > 0 {
                    submitAll()
                    reap(&completions)
                }
                if sendCountInRound > 0 { reapSends() }
                if hasNews(completions, countBefore) { break }
                // Nothing was reported, so the core holds no buffers and they can be returned.
                giveBuffersBack()
                lookAgain()
                demoteSilent()
            } while deadline != 0 && clock_monotonic_nanoseconds() < deadline
            placeFailedSends(at: countBefore, &completions)
            budget.turnBegins(byteCount: Int(counters.receivedBytes - receivedAtStart))
        }

        public mutating func carryOut(
            _ submissions: borrowing Batch<Submission>, completions: inout Batch<Completion>
        ) {
            sendCountInRound = 0
            countedSends.removeAll()
            for position in 0..<submissions.count { carryOut(submissions[position]) }
            submitAll()
            if sendCountInRound > 0 { reapSends() }
            placeFailedSends(at: completions.count, &completions)
        }

        private func hasNews(_ completions: borrowing Batch<Completion>, _ countBefore: Int) -> Bool {
            completions.count > countBefore || !failedSends.isEmpty
        }

        /// Moves the completions of incomplete sends in front of all others of this round. The core must see them
        /// before it sees that the same connection is writable or closed.
        private mutating func placeFailedSends(at start: Int, _ completions: inout Batch<Completion>) {
            let count = failedSends.count
            guard count > 0 else { return }
            let laterCount = completions.count - start
            for position in 0..<count { completions.append(failedSends[position]) }
            if laterCount > 0 {
                let base = completions.base + start
                memmove(base + count, base, laterCount * MemoryLayout<Completion>.stride)
                memcpy(base, failedSends.base, count * MemoryLayout<Completion>.stride)
            }
            failedSends.removeAll()
        }

        public consuming func shutDown() { endEverything() }

        deinit {
            peers.setRing(-1, of: Int(wake.worker))
            for listener in listeners {
                if listener.fd >= 0 { close(listener.fd) }
                listener.address?.deallocate()
            }
            messages.deallocate()
        }
    }

    // MARK: - Entering the kernel

    extension URingDriver {
        /// Submits the prepared entries, runs deferred work, and waits for a completion or the deadline.
        ///
        /// If the last round left deferred completions in the kernel, the enter waits for several completions, for
        /// `minWaitMicroseconds` at most. The condition is narrow on purpose: waiting for several completions whenever
        /// the last round had several takes more CPU than the saved enters (6.5 us instead of 5.0 us for an echo, with
        /// 100 connections in a closed loop).
        private mutating func enter(deadline: UInt64) {
            if curing_has_overflow(ring.raw) { counters.completionQueueOverflow += 1 }
            if deadline == 0 {
                // Nothing to submit and nothing to run: the system call is not needed. A deferred ring sets the task
                // work flag while deferred work waits.
                let isIdle = ring.pendingCount == 0 && !curing_has_task_work(ring.raw) && !curing_has_overflow(ring.raw)
                if isIdle { return }
                counters.enters += 1
                finishEnter(ring.enter(completionCount: 0))
                return
            }
            if ring.completionCount > 0 { return enter(deadline: 0) }
            var until = deadline
            if promoted.first != 0 {
                let check = promoted[promoted.first].checkMilliseconds + Self.coarseClockLagMilliseconds
                until = min(until, check * 1_000_000)
            }
            var wantedCount = 1
            var minWait = 0
            if isBusy, features.hasMinWait, options.minWaitMicroseconds > 0 {
                wantedCount = max(options.completionsToWaitFor, 1)
                minWait = options.minWaitMicroseconds
            }
            counters.enters += 1
            if until == .max, minWait == 0 { return finishEnter(ring.enter(completionCount: wantedCount)) }
            // Without a time-out the kernel could end a min-wait without a completion.
            until = min(until, Self.farDeadline)
            if !features.hasAbsoluteTimeout {
                let now = clock_monotonic_nanoseconds()
                until = until > now ? until - now : 0
            }
            finishEnter(
                ring.enter(
                    completionCount: wantedCount, minWaitMicroseconds: minWait, timeout: until,
                    isAbsolute: features.hasAbsoluteTimeout))
        }

        private static let farDeadline: UInt64 = 1 << 62
        /// One tick at 100 Hz. If the driver woke up earlier, the coarse clock might not have reached the time yet.
        private static let coarseClockLagMilliseconds: UInt64 = 10

        /// Handles the result of an enter: submits the entries that it did not take, and runs deferred work that is
        /// left.
        private mutating func finishEnter(_ result: Int32) {
            if result < 0 {
                invariant(decision(for: .wait, errorNumber: -result) != .misuse, "io_uring_enter was called wrongly")
            }
            submitAll()
            // One enter runs 20 deferred completions, or as many as it waits for. If it ran fewer, the work that waits
            // now has just arrived, and the next round runs it.
            var extraEnters = 0
            let extraEntersMax = receivedBefore < Self.floodByteCountMin ? Self.extraEntersMax : 0
            while extraEnters < extraEntersMax, curing_has_task_work(ring.raw),
                ring.completionCount >= Self.completionsPerEnter * (extraEnters + 1)
            {
                extraEnters += 1
                counters.enters += 1
                _ = ring.enter(completionCount: 0)
            }
            isBusy = extraEnters == extraEntersMax && curing_has_task_work(ring.raw)
            nowMilliseconds = clock_coarse_milliseconds()
        }

        /// Submits every prepared entry. On return, requests that complete within the submit have completed.
        mutating func submitAll() {
            var attempts = 0
            while ring.pendingCount > 0 {
                counters.enters += 1
                submitted(ring.submit())
                attempts += 1
                invariant(attempts < Self.submitAttemptsMax, "the kernel takes no more submissions")
            }
            messageCount = 0
            chunkSendCount = 0
        }

        /// Handles the result of a submit. Entries that the kernel refused stay prepared and are submitted again.
        ///
        /// - Parameter result: the number of entries taken, or -errno.
        mutating func submitted(_ result: Int32) {
            guard result < 0 else { return }
            switch decision(for: .wait, errorNumber: -result) {
            case .exhausted:
                // The completion queue has overflowed, or memory is short: make room in the queue and let the kernel
                // work.
                stashCompletions()
                _ = ring.enter(completionCount: 0)
            case .misuse: invariant(false, "io_uring_enter was called wrongly")
            default: break
            }
        }

        /// Takes all completions from the queue without handling them.
        mutating func stashCompletions() {
            while let completion = ring.takeCompletion() { stash.append(completion) }
        }

        /// Returns the next free submission entry, cleared. Submits first if the queue is full.
        mutating func nextEntry() -> UnsafeMutablePointer<io_uring_sqe> {
            if let entry = curing_next(ring.raw) { return entry }
            submitAll()
            guard let entry = curing_next(ring.raw) else {
                invariant(false, "the submission queue stays full after a submit")
                fatalError()
            }
            return entry
        }

        // MARK: - Reaping

        /// Handles the completions in the stash and the queue, up to `completionsPerRoundMax`.
        private mutating func reap(_ completions: inout Batch<Completion>) {
            var count = 0
            while count < Self.completionsPerRoundMax {
                if stashHead < stash.count {
                    stashHead += 1
                    handle(stash[stashHead - 1], &completions)
                } else if let completion = ring.takeCompletion() {
                    handle(completion, &completions)
                } else {
                    break
                }
                count += 1
            }
            if stashHead == stash.count {
                stash.removeAll()
                stashHead = 0
            }
        }

        /// Handles the completions of this round's sends that `reap` left, also those in the kernel's overflow list.
        /// All other completions stay in the stash for the next round.
        private mutating func reapSends() {
            var attempts = 0
            while curing_has_overflow(ring.raw), attempts < Self.submitAttemptsMax {
                stashCompletions()
                _ = ring.enter(completionCount: 0)
                attempts += 1
            }
            guard ring.completionCount > 0 || stashHead < stash.count else { return }
            stashCompletions()
            for position in stashHead..<stash.count {
                let completion = stash[position]
                guard [.send, .sendCounted].contains(completion.userData.operation) else { continue }
                handleSend(completion)
                stash[position].userData = UserData(.ignored)
            }
        }
    }
#endif
