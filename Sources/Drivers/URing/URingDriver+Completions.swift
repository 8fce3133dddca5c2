#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    extension URingDriver {
        mutating func handle(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            switch completion.userData.operation {
            case .ignored, .selfTest, .cancelEverything, .peerName: break
            case .accept: accepted(completion, &completions)
            case .receivePoll: pollFired(completion, &completions)
            case .failurePoll: failurePollFired(completion, &completions)
            case .receive: received(completion, &completions)
            case .receiveMultishot: receivedMultishot(completion, &completions)
            case .writablePoll: becameWritable(completion, &completions)
            case .send, .sendCounted: handleSend(completion)
            case .sendZeroCopy: sentZeroCopy(completion, &completions)
            case .install: installed(completion)
            case .shutdownPlain: shutDownPlain(completion.userData.connection)
            case .shutdown: shutDown(completion.userData.connection, completion.result)
            case .close: closed(completion, &completions)
            case .cancelReceive: cancelFoundNothing(completion, .isReceiveEnding, armed: URingConnection.State.armed)
            case .cancelWritable: cancelFoundNothing(completion, .isWritableEnding, armed: .isWritablePolled)
            case .wakePoll:
                if !completion.hasMore {
                    armedCount -= 1
                    wakeArmed = false
                    if completion.result != -ECANCELED { armWake() }
                }
                if completion.result >= 0 {
                    woken(&completions)
                    if isPlain { takeHandedOn(&completions) }
                }
            case .wakeMessage: woken(&completions)
            case .wakePeer:
                // The ring of the worker is closed or full. Writing to its eventfd always works.
                expectNoMisuse(.wake, completion.result)
                peers[Int(completion.userData.index)].wake()
            case .handOff:
                armedCount -= 1
                expectNoMisuse(.handOff, completion.result)
                if completion.result < 0 { counters.handOffErrors += 1 } else { counters.handedOff += 1 }
                curing_prepare_close(
                    nextEntry(), Int32(completion.userData.index), fileFlags, true, UserData(.ignored).rawValue)
            case .socket: socketMade(completion, &completions)
            case .connect: connected(completion, &completions)
            case .cancelConnect: cancelConnectFoundNothing(completion)
            case .file: fileFinished(completion, &completions)
            case .handedOn:
                guard completion.result >= 0 else { return }
                counters.accepts += 1
                completions.append(Completion(accepted: completion.result, from: completion.userData.origin))
            }
        }

        private mutating func woken(_ completions: inout Batch<Completion>) {
            guard !wokenInRound else { return }
            wokenInRound = true
            completions.append(Completion(.woken))
        }

        // MARK: - Accepting

        private mutating func accepted(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            let index = Int(completion.userData.index)
            if !completion.hasMore {
                armedCount -= 1
                listeners[index].isArmed = false
            }
            if completion.result >= 0 {
                counters.accepts += 1
                var address: UInt64 = 0
                if let found = listeners[index].address { address = socket_address_key(&found.pointee.storage) }
                let origin = ConnectionOrigin(listener: ListenerID(rawValue: UInt8(index)), address: address)
                report(Completion(accepted: completion.result, from: origin), &completions)
            } else {
                switch decision(for: .accept, errorNumber: -completion.result) {
                case .cancelled: return
                case .wait, .retry: counters.acceptErrors += 1
                case .misuse:
                    // Closing a listener ends its ACCEPT with this error. For an open listener it is a programmer
                    // error.
                    invariant(listeners[index].fd < 0, "accept was called with something that is no listener")
                default:
                    counters.acceptErrors += 1
                    listeners[index].rests = true
                    completions.append(Completion(.acceptFailed, value: completion.result, peer: UInt16(index)))
                }
            }
            if !completion.hasMore { armAccept(index) }
        }

        /// Reports an accepted connection to the core, in this round or a later one.
        private mutating func report(_ newcomer: Completion, _ completions: inout Batch<Completion>) {
            guard acceptsInRound < Self.acceptsPerRoundMax else { return laterAccepts.append(newcomer) }
            acceptsInRound += 1
            completions.append(newcomer)
        }

        /// At the start of a round: reports accepted connections that earlier rounds had no room for.
        mutating func reportLaterAccepts(_ completions: inout Batch<Completion>) {
            acceptsInRound = 0
            while laterAcceptHead < laterAccepts.count, acceptsInRound < Self.acceptsPerRoundMax {
                completions.append(laterAccepts[laterAcceptHead])
                laterAcceptHead += 1
                acceptsInRound += 1
            }
            guard laterAcceptHead == laterAccepts.count else { return }
            laterAccepts.removeAll()
            laterAcceptHead = 0
        }

        // MARK: - Receiving

        private mutating func pollFired(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            if !completion.hasMore { armedCount -= 1 }
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                counters.stale += 1
                return
            }
            if !completion.hasMore { record.pointee.state.subtract([.isPolled, .isReceiveEnding]) }
            if completion.result > 0 {
                if UInt32(completion.result) & curing_poll_hangup != 0 { record.pointee.state.insert(.hasHangup) }
                if record.pointee.state.contains(.receives) {
                    notePollFired(record, connection)
                    receive(record, connection)
                } else {
                    failIfBroken(completion, record, connection, &completions)
                    // The POLL would fire again for each arrival of bytes. Resuming arms a new one, which sees the
                    // bytes.
                    if completion.hasMore { cancelReceive(record, connection) }
                }
            } else if completion.result < 0 {
                switch decision(for: .poll, errorNumber: -completion.result) {
                case .misuse: invariant(false, "a connection's descriptor cannot be polled")
                case .exhausted, .retry: return enqueue(record, connection)
                // The receive reports what has failed.
                case .failed: receive(record, connection)
                case .cancelled, .wait, .harmless: break
                }
            }
            reconcile(record, connection)
        }

        /// The POLL of a paused connection fired. The peer ended, or the connection failed. The end is not reported,
        /// because unread bytes may come before it.
        private mutating func failurePollFired(
            _ completion: RingCompletion, _ completions: inout Batch<Completion>
        ) {
            if !completion.hasMore { armedCount -= 1 }
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                counters.stale += 1
                return
            }
            if !completion.hasMore { record.pointee.state.subtract([.isWatched, .isReceiveEnding]) }
            if completion.result > 0 {
                record.pointee.state.insert(.hasHangup)
                if !record.pointee.state.contains(.receives) {
                    failIfBroken(completion, record, connection, &completions)
                    // A new POLL would report the same at once.
                    if !completion.hasMore, !record.pointee.state.contains(.isClosing) { return }
                }
            } else if completion.result < 0 {
                switch decision(for: .poll, errorNumber: -completion.result) {
                case .misuse: invariant(false, "a connection's descriptor cannot be polled")
                case .exhausted, .retry: return enqueue(record, connection)
                case .failed, .cancelled, .wait, .harmless: break
                }
            }
            reconcile(record, connection)
        }

        /// Reports the failure of a paused connection. No receive would find it.
        private func failIfBroken(
            _ completion: RingCompletion, _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot,
            _ completions: inout Batch<Completion>
        ) {
            guard UInt32(completion.result) & curing_poll_error != 0,
                record.pointee.state.isDisjoint(with: [.hasFailed, .isClosing])
            else { return }
            record.pointee.state.formUnion([.hasEnded, .hasFailed])
            completions.append(Completion(.receiveFailed, connection: connection, value: -ECONNRESET))
        }

        private mutating func received(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            armedCount -= 1
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                counters.stale += 1
                if let buffer = completion.buffer { giveBack(buffer, isLarge: false) }
                return
            }
            let isLarge = record.pointee.state.contains(.isReceivingLarge)
            record.pointee.state.subtract([.isReceiving, .isReceivingLarge])
            deliver(completion, record, connection, isLarge: isLarge, &completions)
            if completion.result > 0 {
                if isLarge {
                    largeReceivedByteCount += Int(completion.result)
                    largeReceivedCount += 1
                }
                // Before Linux 6.17 a Unix socket does not say that it has more. One that has filled the buffer may.
                let hasFilled = Int(completion.result) >= (isLarge ? large.byteCount : small.byteCount)
                if completion.isSocketNonempty || hasFilled || record.pointee.state.contains(.hasHangup) {
                    enqueue(record, connection)
                }
                // A connection that fills its buffer takes large buffers from now on, one in each round.
                if completion.isSocketNonempty, Int(completion.result) == small.byteCount {
                    record.pointee.state.insert(.isLarge)
                } else if isLarge, Int(completion.result) < small.byteCount {
                    record.pointee.state.remove(.isLarge)
                }
            } else if completion.result == -ENOBUFS {
                record.pointee.state.remove(.isLarge)
            }
            if record.pointee.state.contains(.isClosing) { closeIfFree(record, connection) }
        }

        private mutating func receivedMultishot(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            if !completion.hasMore { armedCount -= 1 }
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                counters.stale += 1
                invariant(completion.buffer == nil, "a multishot receive outlived its connection")
                return
            }
            let isLarge = record.pointee.state.contains(.isArmedLarge)
            if !completion.hasMore {
                if isLarge { largeArmedCount -= 1 }
                record.pointee.state.subtract([.isMultishot, .isArmedLarge, .isReceiveEnding])
            }
            deliver(completion, record, connection, isLarge: isLarge, &completions)
            if record.pointee.promotion != 0 {
                promoted.noteReceive(record.pointee.promotion, nowMilliseconds: nowMilliseconds)
                demoteFlood(record, connection, byteCount: completion.result)
            }
            if completion.result == -ENOBUFS, !hasLargeToSpare { record.pointee.state.remove(.isLarge) }
            let isResized = completion.result > 0 && noteReceive(record, byteCount: Int(completion.result))
            // No buffer was free. The next round returns the buffers first and then arms the RECV again.
            if record.pointee.state.contains(.isQueued), !record.pointee.state.contains(.isClosing) { return }
            if !completion.hasMore || isResized { reconcile(record, connection) }
        }

        /// Reports the result of a receive, and notes its buffer.
        private mutating func deliver(
            _ completion: RingCompletion, _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot,
            isLarge: Bool, _ completions: inout Batch<Completion>
        ) {
            var pointer: UnsafeRawPointer?
            if let buffer = completion.buffer {
                pointer = UnsafeRawPointer(isLarge ? large.pointer(buffer) : small.pointer(buffer))
                giveBack(buffer, isLarge: isLarge)
            }
            // The core has closed the connection, or its end was already reported.
            guard record.pointee.state.isDisjoint(with: [.isClosing, .hasEnded]) else { return }
            if completion.result > 0 {
                counters.receives += 1
                counters.receivedBytes += UInt64(completion.result)
                completions.append(
                    Completion(.received, connection: connection, value: completion.result, pointer: pointer))
                return
            }
            if completion.result == 0 {
                record.pointee.state.insert(.hasEnded)
                completions.append(Completion(.receiveEnded, connection: connection))
                return
            }
            switch decision(for: .receive, errorNumber: -completion.result) {
            case .exhausted:
                counters.receiveBufferExhausted += 1
                enqueue(record, connection)
            case .retry: enqueue(record, connection)
            case .wait, .cancelled, .harmless: break
            case .misuse: invariant(false, "a receive was refused as malformed")
            case .failed:
                record.pointee.state.formUnion([.hasEnded, .hasFailed])
                completions.append(Completion(.receiveFailed, connection: connection, value: completion.result))
            }
        }

        /// Notes that the core has the buffer. The next round returns it to the kernel.
        private mutating func giveBack(_ buffer: UInt16, isLarge: Bool) {
            handedOut.append(UInt32(buffer) | (isLarge ? 1 << 16 : 0))
        }

        /// The number of large buffers that the kernel may have now.
        var largeCountMax: Int { min(max(budget.byteCount / large.byteCount, Self.largeCountMin), large.count) }

        /// Returns to the kernel the buffers that the last round handed to the core.
        mutating func giveBuffersBack() {
            preparedReceiveCount = 0
            preparedAgainCount = 0
            preparedAgainByteCount = 0
            preparedNewcomerCount = 0
            preparedLargeCount = 0
            guard !handedOut.isEmpty else { return }
            for position in 0..<handedOut.count {
                let buffer = handedOut[position]
                if buffer & 1 << 16 == 0 {
                    small.put(UInt16(truncatingIfNeeded: buffer))
                } else if largeInUseCount <= largeCountMax {
                    large.put(UInt16(truncatingIfNeeded: buffer))
                } else {
                    withheld.append(UInt16(truncatingIfNeeded: buffer))
                    largeInUseCount -= 1
                }
            }
            while largeInUseCount < largeCountMax {
                large.put(withheld.removeLast())
                largeInUseCount += 1
            }
            small.publish()
            large.publish()
            handedOut.removeAll()
        }

        // MARK: - Sending

        /// A send completed. On kernels with silent sends this happens only for incomplete sends.
        mutating func handleSend(_ completion: RingCompletion) {
            var connection = completion.userData.connection
            if completion.userData.operation == .sendCounted {
                let send = countedSends[Int(completion.userData.index)]
                if completion.result == send.byteCount { return }
                connection = send.connection
            }
            failedSends.append(
                Completion(.sendIncomplete, connection: connection, value: sentByteCount(completion.result)))
        }

        /// Returns the count of bytes taken, 0 if there was no room, or -errno.
        private mutating func sentByteCount(_ result: Int32) -> Int32 {
            if result >= 0 {
                counters.shortSends += 1
                return result
            }
            switch decision(for: .send, errorNumber: -result) {
            case .wait, .retry, .exhausted:
                // After a retry or exhaustion the socket may have room. The POLL of `.awaitWritable` then completes at
                // once.
                counters.shortSends += 1
                return 0
            case .misuse:
                invariant(false, "a send was refused as malformed")
                return result
            default:
                counters.sendErrors += 1
                return result
            }
        }

        /// A zero-copy send has up to two completions: first the result, then, if the kernel kept the bytes, the
        /// notification that they may be reused.
        private mutating func sentZeroCopy(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            let place = Int(completion.userData.index)
            if !completion.isNotification { zeroCopySends[place].result = completion.result }
            guard !completion.hasMore else { return }
            armedCount -= 1
            let send = zeroCopySends[place]
            zeroCopySends[place] = ZeroCopySend(connection: .none, result: 0, nextFree: freeZeroCopySend)
            freeZeroCopySend = UInt32(place)
            let value = send.result < 0 ? sentByteCount(send.result) : send.result
            completions.append(Completion(.sendReleased, connection: send.connection, value: value))
            guard let record = anyRecord(of: send.connection), record.pointee.file < 0 else { return }
            reportClosed(record, send.connection, &completions)
        }

        private mutating func becameWritable(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            armedCount -= 1
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                counters.stale += 1
                return
            }
            record.pointee.state.subtract([.isWritablePolled, .isWritableEnding])
            if record.pointee.state.contains(.isClosing) { return closeIfFree(record, connection) }
            // Failures are reported as writable too. The next send returns the error.
            completions.append(Completion(.writable, connection: connection))
        }

        // MARK: - Closing

        private mutating func installed(_ completion: RingCompletion) {
            let connection = completion.userData.connection
            let fd = completion.result
            if fd >= 0 {
                shutDown(connection, socket_shutdown_write(fd))
                expectNoMisuse(.close, socket_close(fd))
            } else {
                armedCount -= 1
                // The process has no descriptors left.
                if let record = anyRecord(of: connection) { shutDownWrite(record, connection, installs: false) }
            }
        }

        mutating func shutDown(_ connection: Slot, _ result: Int32) {
            armedCount -= 1
            expectNoMisuse(.shutdown, result)
            guard let record = anyRecord(of: connection) else { return }
            record.pointee.state.remove(.isShuttingDown)
            closeIfFree(record, connection)
        }

        /// A cancel found no request. The kernel does not find a request that is between two attempts. The next round
        /// cancels again until the request has ended.
        private mutating func cancelFoundNothing(
            _ completion: RingCompletion, _ ending: URingConnection.State, armed: URingConnection.State
        ) {
            expectNoMisuse(.cancel, completion.result)
            let connection = completion.userData.connection
            guard completion.result < 0, let record = anyRecord(of: connection),
                !record.pointee.state.isDisjoint(with: armed), record.pointee.state.contains(ending)
            else { return }
            record.pointee.state.remove(ending)
            enqueue(record, connection)
        }

        private mutating func closed(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            armedCount -= 1
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                invariant(false, "a connection was closed twice")
                return
            }
            expectNoMisuse(.close, completion.result)
            counters.closes += 1
            record.pointee.file = -1
            reportClosed(record, connection, &completions)
        }

        /// Reports `.closed` unless a zero-copy send is still under way. After it the core may reuse the slot.
        private mutating func reportClosed(
            _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot, _ completions: inout Batch<Completion>
        ) {
            if record.pointee.state.contains(.hasZeroCopy) {
                for place in 0..<zeroCopySends.count where zeroCopySends[place].connection == connection { return }
            }
            record.pointee = URingConnection()
            completions.append(Completion(.closed, connection: connection))
        }
    }
#endif
