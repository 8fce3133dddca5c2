#if URing
    internal import CURing
    import IO
    import Slabs

    /// How a connection waits for its next bytes.
    ///
    /// ```
    ///              POLL fired often
    ///   +--------+ ---------------> +----------------+   whole buffers   +----------------+
    ///   |  POLL  |                  | multishot RECV | ----------------> | multishot RECV |
    ///   | + RECV | <--------------- | small buffers  | <---------------- | large buffers  |
    ///   +--------+     silence      +----------------+   short receives  +----------------+
    /// ```
    ///
    /// While receiving is paused, a POLL that reports only failures takes their place.
    ///
    /// At most one of these requests is armed. To change it, the driver cancels the armed request, waits for its last
    /// completion, and arms the other one. No byte is lost in between, because a new request first checks the socket.
    extension URingDriver {
        /// A multishot RECV changes its buffer size after this many receives in a row that fit the other size better.
        static let resizeCount: UInt8 = 8

        private func wantsMultishot(_ record: UnsafeMutablePointer<URingConnection>) -> Bool {
            mode == .multishot || record.pointee.promotion != 0
        }

        /// Compares the armed request with the wanted state of the connection, and arms, cancels or closes.
        mutating func reconcile(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            let state = record.pointee.state
            if state.isDisjoint(with: URingConnection.State.armed) {
                if state.contains(.isClosing) { return closeIfFree(record, connection) }
                guard state.contains(.receives) else { return watch(record, connection) }
                return state.contains(.hasEnded) ? () : arm(record, connection)
            }
            let isRight: Bool
            if state.contains(.isClosing) {
                isRight = false
            } else if state.contains(.isWatched) {
                isRight = !state.contains(.receives)
            } else if state.isSuperset(of: [.receives, .hasEnded]) {
                isRight = true
            } else if state.contains(.isMultishot) {
                isRight =
                    state.contains(.receives) && wantsMultishot(record)
                    && state.contains(.isArmedLarge) == state.contains(.isLarge)
            } else {
                // The POLL of a paused connection stays armed until it fires, because pauses are often short. But if it
                // has already reported a hang-up, it may not report a failure after that.
                isRight = state.contains(.receives) ? !wantsMultishot(record) : !state.contains(.hasHangup)
            }
            if !isRight { cancelReceive(record, connection) }
        }

        private mutating func arm(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            armedCount += 1
            guard wantsMultishot(record) else {
                record.pointee.state.insert(.isPolled)
                curing_prepare_poll_receive(
                    nextEntry(), record.pointee.file, fileFlags, UserData(.receivePoll, connection).rawValue)
                return
            }
            let isLarge = record.pointee.state.contains(.isLarge)
            record.pointee.state.insert(isLarge ? [.isMultishot, .isArmedLarge] : .isMultishot)
            if isLarge { largeArmedCount += 1 }
            record.pointee.fireCount = 0
            curing_prepare_receive_multishot(
                nextEntry(), record.pointee.file, fileFlags, isLarge ? large.group : small.group, !isLarge,
                UserData(.receiveMultishot, connection).rawValue)
        }

        /// Arms a POLL that reports only failures. Another POLL would fire because of the unread bytes in the socket.
        private mutating func watch(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            guard !record.pointee.state.contains(.hasFailed) else { return }
            armedCount += 1
            record.pointee.state.insert(.isWatched)
            curing_prepare_poll_failure(
                nextEntry(), record.pointee.file, fileFlags, UserData(.failurePoll, connection).rawValue)
        }

        mutating func cancelReceive(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            guard !record.pointee.state.contains(.isReceiveEnding) else { return }
            record.pointee.state.insert(.isReceiveEnding)
            let state = record.pointee.state
            let operation: RingOperation =
                state.contains(.isPolled)
                ? .receivePoll : state.contains(.isWatched) ? .failurePoll : .receiveMultishot
            curing_prepare_cancel(
                nextEntry(), UserData(operation, connection).rawValue, UserData(.cancelReceive, connection).rawValue)
        }

        /// Prepares a RECV, which completes within the next submit.
        ///
        /// - Parameter isAgain: the connection had more bytes than its last RECV could take. Such connections, and
        ///   floods while the budget is tight, share the budget of the round. Other connections, which mostly have few
        ///   bytes, do not wait for them.
        mutating func receive(
            _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot, isAgain: Bool = false
        ) {
            let state = record.pointee.state
            // A queued connection is read in the next round.
            guard state.contains(.receives),
                state.isDisjoint(with: [.hasEnded, .isReceiving, .isMultishot, .isQueued])
            else { return }
            let isLarge = state.contains(.isLarge) && preparedLargeCount < largeCountMax
            let isAgain = isAgain || isLarge && budget.isTight
            // A flood waits for a large buffer: a few large reads cost less than many small ones.
            if isAgain, state.contains(.isLarge), !isLarge { return enqueue(record, connection) }
            // Without a free buffer the RECV would fail with ENOBUFS.
            guard isLarge || preparedReceiveCount + handedOut.count < small.count,
                isAgain
                    ? preparedAgainByteCount < budget.byteCount && preparedAgainCount < Self.receivesPerRoundMax
                    : preparedReceiveCount - preparedAgainCount < receivesOfOthersMax
            else { return enqueue(record, connection) }
            if state.contains(.isNew) {
                guard preparedNewcomerCount < Self.acceptsPerRoundMax else {
                    record.pointee.state.insert(.isQueued)
                    return newcomers.append(connection)
                }
                preparedNewcomerCount += 1
                record.pointee.state.remove(.isNew)
            }
            preparedReceiveCount += 1
            if isLarge { preparedLargeCount += 1 }
            let byteCount = isLarge ? min(large.byteCount, max(budget.byteCount, small.byteCount)) : small.byteCount
            if isAgain {
                preparedAgainCount += 1
                preparedAgainByteCount += isLarge ? max(min(lastLargeByteCount, byteCount), small.byteCount) : byteCount
            }
            armedCount += 1
            record.pointee.state.insert(isLarge ? [.isReceiving, .isReceivingLarge] : .isReceiving)
            curing_prepare_receive(
                nextEntry(), record.pointee.file, fileFlags, isLarge ? large.group : small.group,
                UInt32(byteCount), UserData(.receive, connection).rawValue)
        }

        /// The most RECVs of this round for connections that are not floods. While the budget is tight, it is the
        /// number that uses up the budget if each RECV brings as many bytes as those of the last round did on average.
        private var receivesOfOthersMax: Int {
            guard budget.isTight else { return Self.receivesPerRoundMax }
            let count = budget.byteCount / lastReceiveByteCount
            return max(min(count, Self.receivesPerRoundMax), Self.receivesOfOthersMin)
        }

        mutating func resumeReceive(_ connection: Slot) {
            guard let record = record(of: connection), !record.pointee.state.contains(.receives) else { return }
            record.pointee.state.insert(.receives)
            // The POLL may have fired during the pause and does not fire again for the same bytes. The POLL for
            // failures has not reported them.
            if !record.pointee.state.isDisjoint(with: [.isPolled, .isWatched]) { receive(record, connection) }
            reconcile(record, connection)
        }

        // MARK: - Another look in the next round

        mutating func enqueue(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            guard !record.pointee.state.contains(.isQueued) else { return }
            record.pointee.state.insert(.isQueued)
            again.append(connection)
        }

        var hasToLookAgain: Bool { !again.isEmpty || !newcomers.isEmpty }

        /// Looks at the connections that the last round left: they have more bytes, no buffer was free, or a cancel
        /// found nothing. Also looks at new connections, up to `acceptsPerRoundMax`.
        mutating func lookAgain() {
            if !newcomers.isEmpty {
                let count = min(newcomers.count, Self.acceptsPerRoundMax)
                for position in 0..<count { lookAgain(at: newcomers[position], isAgain: false) }
                newcomers.removeFirst(count)
            }
            guard !again.isEmpty else { return }
            swap(&again, &nowAgain)
            for position in 0..<nowAgain.count { lookAgain(at: nowAgain[position], isAgain: true) }
            nowAgain.removeAll()
        }

        private mutating func lookAgain(at connection: Slot, isAgain: Bool) {
            guard let record = anyRecord(of: connection) else { return }
            record.pointee.state.remove(.isQueued)
            if record.pointee.state.contains(.isClosing), record.pointee.state.contains(.isWritablePolled) {
                cancelWritable(record, connection)
            }
            if record.pointee.state.isSuperset(of: [.isClosing, .isConnecting]) { cancelConnect(connection) }
            if record.pointee.state.contains(.isPolled) { receive(record, connection, isAgain: isAgain) }
            reconcile(record, connection)
        }

        // MARK: - Promotion

        /// Counts how often the POLL of a connection fires, and promotes the connection if it fires often enough.
        mutating func notePollFired(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            guard mode == .adaptive, record.pointee.promotion == 0, !budget.isTight else { return }
            let window = UInt8(truncatingIfNeeded: nowMilliseconds / promotionWindowMilliseconds)
            if record.pointee.windowStart != window {
                record.pointee.windowStart = window
                record.pointee.fireCount = 0
            }
            record.pointee.fireCount = record.pointee.fireCount &+ 1
            guard Int(record.pointee.fireCount) >= options.promotionCount || record.pointee.fireCount == .max,
                !promoted.isFull, !record.pointee.state.contains(.hasHangup)
            else { return }
            record.pointee.promotion = promoted.add(
                index: connection.index, nowMilliseconds: nowMilliseconds,
                checkMilliseconds: nowMilliseconds + demotionMilliseconds)
            counters.promoted += 1
            reconcile(record, connection)
        }

        /// Demotes a connection that fills its buffers while the budget is tight. It then gets one buffer in a round. A
        /// multishot RECV would fill 32 buffers before the kernel serves another connection.
        mutating func demoteFlood(
            _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot, byteCount: Int32
        ) {
            guard budget.isTight, record.pointee.promotion != 0, Int(byteCount) >= small.byteCount else { return }
            leavePromoted(record)
            counters.demoted += 1
            reconcile(record, connection)
        }

        mutating func leavePromoted(_ record: UnsafeMutablePointer<URingConnection>) {
            guard record.pointee.promotion != 0 else { return }
            promoted.remove(record.pointee.promotion)
            record.pointee.promotion = 0
            record.pointee.fireCount = 0
        }

        /// Demotes connections that were silent for `demotionMilliseconds`. Those that were not are checked again
        /// later.
        mutating func demoteSilent() {
            var remaining = 64
            while promoted.first != 0, remaining > 0 {
                let place = promoted.first
                let entry = promoted[place]
                guard entry.checkMilliseconds <= nowMilliseconds else { return }
                remaining -= 1
                let silentUntil = entry.lastReceiveMilliseconds + demotionMilliseconds
                if silentUntil > nowMilliseconds {
                    promoted.moveToEnd(place, checkMilliseconds: silentUntil)
                    continue
                }
                let record = table.base + Int(entry.index)
                leavePromoted(record)
                record.pointee.state.remove(.isLarge)
                counters.demoted += 1
                reconcile(record, Slot(index: entry.index, generation: record.pointee.generation))
            }
        }

        /// Whether one more connection may use large buffers. They are few; if too many connections used them, some
        /// would never find a free one.
        var hasLargeToSpare: Bool { largeArmedCount < max(largeCountMax / 2, 1) }

        /// Counts receives that fit the other buffer size better: receives that fill a small buffer, or short receives
        /// into large buffers. Returns true if the connection changes its buffer size.
        func noteReceive(_ record: UnsafeMutablePointer<URingConnection>, byteCount: Int) -> Bool {
            let wouldFillSmall = byteCount >= small.byteCount
            if wouldFillSmall == record.pointee.state.contains(.isLarge) {
                record.pointee.fireCount = 0
                return false
            }
            record.pointee.fireCount += 1
            guard record.pointee.fireCount >= Self.resizeCount else { return false }
            record.pointee.fireCount = 0
            guard !wouldFillSmall || hasLargeToSpare else { return false }
            record.pointee.state.formSymmetricDifference(.isLarge)
            return true
        }
    }
#endif
