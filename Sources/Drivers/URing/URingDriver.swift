#if URing
    internal import CURing
    import Glibc
    public import IO
    import Slabs

    /// The driver that the broker was built for.
    ///
    /// Sockets are direct descriptors: they live in the ring's table and cost no fd. (Where the kernel does not let go of
    /// them in time they are plain ones: see `+PlainDescriptors`.) A turn is one io_uring_enter(2):
    /// it carries all sends out, which answer within the submit and only if they did not succeed whole, runs the
    /// deferred work, and waits. Idle connections are parked on a multishot POLL; when it fires, a RECV into a provided
    /// buffer follows in a second enter of the same round (one for all of them). Busy connections keep a multishot
    /// RECV and need no second enter. 16 B of user memory for an idle connection.
    ///
    /// The files of this folder: this one holds what the driver owns, and the round; `+Submissions` what the core
    /// asks for; `+Completions` what the kernel answers; `+Receiving` how a connection waits for its next bytes;
    /// `+Setup` creation and end; `+Files` files; `+PlainDescriptors` what is different without a table.
    public struct URingDriver: ~Copyable, Driver {
        /// Completions taken off the queue in one round, those of sends excepted.
        static let completionsPerRoundMax = 4096
        /// Slots of the file table that are kept for connections that will be handed on.
        static let handOffReserve = 64
        /// Enters that one round may spend to get the kernel to take what was prepared.
        static let submitAttemptsMax = 1000

        /// Enters that one wait may spend to run what was ready when it ended.
        static let extraEntersMax = 8
        /// Bytes received in one round from which on the next one is not extended: a flood delays everybody else.
        static let floodByteCountMin = 128 << 10
        /// RECVs prepared for parked connections in one round, if the budget allows, and newcomers handed to the core or
        /// read for the first time: so many that an enter costs little beside them, and so few that who is in does not wait
        /// for a storm.
        static let receivesPerRoundMax = 64
        static let acceptsPerRoundMax = 16
        /// RECVs that connections which take no turns have though the budget is tight, and large buffers that the kernel has.
        static let receivesOfOthersMin = 8
        static let largeCountMin = 4
        /// Deferred completions that the kernel runs in an enter that waits for fewer (IO_LOCAL_TW_DEFAULT_MAX).
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
        /// How requests name their sockets: `curing_file_direct` or `curing_file_plain`.
        let fileFlags: UInt8
        /// The highest slot index that was ever adopted.
        var highestIndex = 0

        // Receiving.
        var small: ReceiveBuffers
        var large: ReceiveBuffers
        /// Buffers that this round handed to the core: identifier, and bit 16 for the large ones.
        var handedOut = Batch<UInt32>(capacity: 256)
        /// Connections to look at in the next round: more to read, no buffer was free, a cancel that found nothing.
        var again = Batch<Slot>(capacity: 64)
        var nowAgain = Batch<Slot>(capacity: 64)
        /// Newcomers that wait to be read for the first time.
        var newcomers = Batch<Slot>(capacity: 64)
        /// RECVs into small buffers that were prepared since the buffers were last given back.
        var preparedReceiveCount = 0
        /// Those of them that take turns and what these may bring, those of newcomers, those that take a large buffer.
        var preparedAgainCount = 0
        var preparedAgainByteCount = 0
        var preparedNewcomerCount = 0
        var preparedLargeCount = 0
        /// Multishot RECVs that take large buffers.
        var largeArmedCount = 0
        /// What a round may bring. By its measure large buffers are withheld from the kernel.
        var budget: ReceiveBudget
        var withheld = Batch<UInt16>(capacity: 16)
        /// Large buffers that the kernel has, or has given to the core.
        var largeInUseCount: Int
        var promoted: PromotedList
        let promotionWindowMilliseconds: UInt64
        let demotionMilliseconds: UInt64
        var nowMilliseconds: UInt64

        // Sending. A message header of this round's scatter sends lives until its chunk is submitted.
        let messages: UnsafeMutablePointer<msghdr>
        var messageCount = 0
        let sendBatchCount: Int
        var chunkSendCount = 0
        var sendCountInRound = 0
        var failedSends = Batch<Completion>(capacity: 64)
        /// Without silent sends: connection and byte count of each send of this round.
        var countedSends = Batch<CountedSend>(capacity: 16)
        var zeroCopySends = Batch<ZeroCopySend>(capacity: 16)
        var freeZeroCopySend: UInt32 = 0

        // Connecting.
        var openings = Batch<Opening>(capacity: 16)
        var freeOpening: UInt32 = 0

        /// nil until the core asks for a file.
        var files: OpenFiles?

        // Accepting.
        var listeners: [Listener]
        /// Newcomers that the core has not heard of yet, from `laterAcceptHead` on.
        var laterAccepts = Batch<Completion>(capacity: 64)
        var laterAcceptHead = 0
        var acceptsInRound = 0
        var wakeArmed = false
        var wokenInRound = false

        /// Requests that stay in the kernel beyond a submit.
        var armedCount = 0
        /// Completions taken off a full queue before their turn.
        var stash = Batch<RingCompletion>(capacity: 16)
        var stashHead = 0
        /// The last round left completions behind in the kernel.
        var isBusy = false
        /// Bytes that the last round received, and the sum when this one began.
        var receivedBefore: UInt64 = 0
        var receivedAtStart: UInt64 = 0
        /// What a receive brought on average in the last round that had any, and receives when this one began.
        var lastReceiveByteCount = 1
        var receivesAtStart: UInt64 = 0
        /// The same of RECVs into large buffers, and what those of this round have brought.
        var lastLargeByteCount = 1
        var largeReceivedByteCount = 0
        var largeReceivedCount = 0

        struct CountedSend: BitwiseCopyable {
            var connection: Slot
            var byteCount: Int32
        }

        struct ZeroCopySend: BitwiseCopyable {
            /// None: free.
            var connection: Slot
            var result: Int32
            var nextFree: UInt32
        }

        struct Listener {
            var fd: Int32
            var isArmed = false
            /// Waits for `.resumeAccepting`.
            var rests = false
            /// Where the kernel writes the peer's address, if it is to find it.
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
                // The POLLs that fired have prepared RECVs, which answer within this submit.
                if preparedReceiveCount > 0, ring.pendingCount > 0 {
                    submitAll()
                    reap(&completions)
                }
                if sendCountInRound > 0 { reapSends() }
                if hasNews(completions, countBefore) { break }
                // Nothing was reported, so the core holds no buffer.
                giveBuffersBack()
                lookAgain()
                demoteSilent()
            } while deadline != 0 && clock_monotonic_nanoseconds() < deadline
            placeFailedSends(at: countBefore, &completions)
            budget.turnBegins(byteCount: Int(counters.receivedBytes - receivedAtStart))
        }

        private func hasNews(_ completions: borrowing Batch<Completion>, _ countBefore: Int) -> Bool {
            completions.count > countBefore || !failedSends.isEmpty
        }

        /// What a send did not take goes before everything else that this round reports, since the core has to hear
        /// of it before it hears that the same connection is writable, or closed.
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
        /// Submits what is prepared, runs deferred work, and waits for the deadline or for completions: for one; for
        /// several, but then at most `minWaitMicroseconds`, when the last round left some behind, so that they are
        /// there already. To sleep until several have come whenever several came the last time costs more than the
        /// enters that it saves: 6.5 against 5.0 us of CPU for an echo, 100 connections in a closed loop.
        private mutating func enter(deadline: UInt64) {
            if curing_has_overflow(ring.raw) { counters.completionQueueOverflow += 1 }
            if deadline == 0 {
                // Nothing to carry and nothing to run: the system call would do nothing.
                let isIdle = ring.pendingCount == 0 && !curing_has_task_work(ring.raw) && !curing_has_overflow(ring.raw)
                // A deferred ring says by the same flag whether work is waiting.
                if isIdle { return }
                counters.enters += 1
                settle(ring.enter(completionCount: 0))
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
            if until == .max, minWait == 0 { return settle(ring.enter(completionCount: wantedCount)) }
            // Without a time-out the kernel would end a min-wait with nothing to show for it.
            until = min(until, Self.farDeadline)
            if !features.hasAbsoluteTimeout {
                let now = clock_monotonic_nanoseconds()
                until = until > now ? until - now : 0
            }
            settle(
                ring.enter(
                    completionCount: wantedCount, minWaitMicroseconds: minWait, timeout: until,
                    isAbsolute: features.hasAbsoluteTimeout))
        }

        private static let farDeadline: UInt64 = 1 << 62
        /// One tick at 100 Hz: woken any earlier, the coarse clock might not show yet that it is time.
        private static let coarseClockLagMilliseconds: UInt64 = 10

        /// After an enter that carried submissions: whatever it says, the rest is carried too.
        private mutating func settle(_ result: Int32) {
            if result < 0 {
                invariant(decision(for: .wait, errorNumber: -result) != .misuse, "io_uring_enter was called wrongly")
            }
            submitAll()
            // One enter runs 20 deferred completions, or as many as it was asked to wait for. With fewer, what is
            // waiting has only just come, and the next round takes it along.
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

        /// Has the kernel take every prepared entry. Requests that answer at once have done so on return.
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

        /// What a submit refused stays prepared, and is tried again.
        /// - Parameter result: entries taken, or -errno.
        mutating func submitted(_ result: Int32) {
            guard result < 0 else { return }
            switch decision(for: .wait, errorNumber: -result) {
            case .exhausted:
                // The completion queue has overflown, or memory is short: make room and let the kernel work.
                stashCompletions()
                _ = ring.enter(completionCount: 0)
            case .misuse: invariant(false, "io_uring_enter was called wrongly")
            default: break
            }
        }

        mutating func stashCompletions() {
            while let completion = ring.takeCompletion() { stash.append(completion) }
        }

        /// The next submission entry, cleared. Submits when the queue is full.
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

        /// Handles what is in the completion queue, up to the bound of one round.
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

        /// Finds results of this round's sends behind the bound, and in the kernel's overflow list, and leaves
        /// everything else for the next round.
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
