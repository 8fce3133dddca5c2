#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    extension URingDriver {
        mutating func carryOut(_ submission: Submission) {
            let connection = submission.connection
            switch submission.kind {
            case .adopt: adopt(submission)
            case .refuse:
                curing_prepare_close(nextEntry(), submission.value, fileFlags, true, UserData(.ignored).rawValue)
            case .handOff:
                handOff(file: submission.value, to: Int(submission.peer), submission.origin)
            case .send: send(submission)
            case .sendVector: sendVector(submission)
            case .sendZeroCopy: sendZeroCopy(submission)
            case .awaitWritable:
                guard let record = record(of: connection), !record.pointee.state.contains(.isWritablePolled) else {
                    return
                }
                record.pointee.state.insert(.isWritablePolled)
                armedCount += 1
                curing_prepare_poll_writable(
                    nextEntry(), record.pointee.file, fileFlags, UserData(.writablePoll, connection).rawValue)
            case .pauseReceive:
                guard let record = record(of: connection) else { return }
                record.pointee.state.remove(.receives)
                reconcile(record, connection)
            case .resumeReceive: resumeReceive(connection)
            case .shutdownWrite:
                guard let record = record(of: connection), !record.pointee.state.contains(.isShuttingDown) else {
                    return
                }
                record.pointee.state.insert(.isShuttingDown)
                shutDownWrite(record, connection, installs: features.hasInstall)
            case .close: close(submission)
            case .wake: wakePeer(Int(submission.peer))
            case .stopAccepting: stopAccepting()
            case .resumeAccepting:
                for index in listeners.indices where listeners[index].rests {
                    listeners[index].rests = false
                    armAccept(index)
                }
            case .connect: connect(submission)
            case .openDirectory, .createFile, .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile,
                .syncFile, .deleteFile, .renameFile, .closeFile:
                carryOutFile(submission)
            }
        }

        /// The record of a connection that is adopted and not being closed.
        func record(of connection: Slot) -> UnsafeMutablePointer<URingConnection>? {
            guard let record = anyRecord(of: connection), !record.pointee.state.contains(.isClosing) else { return nil }
            return record
        }

        func anyRecord(of connection: Slot) -> UnsafeMutablePointer<URingConnection>? {
            guard connection.index < table.countMax else { return nil }
            let record = table.base + Int(connection.index)
            return record.pointee.generation == connection.generation && connection.generation != 0 ? record : nil
        }

        private mutating func adopt(_ submission: Submission) {
            let connection = submission.connection
            invariant(connection.index < table.countMax, "a connection's slot index exceeds the driver's table")
            let record = table.base + Int(connection.index)
            invariant(record.pointee.generation == 0, "a slot was adopted twice without a close between")
            highestIndex = max(highestIndex, Int(connection.index))
            record.pointee = URingConnection(
                file: submission.value, generation: connection.generation, state: [.receives, .isNew])
            reconcile(record, connection)
        }

        // MARK: - Sending

        private mutating func send(_ submission: Submission) {
            guard let record = record(of: submission.connection) else { return }
            let userData = sendUserData(submission.connection, byteCount: submission.byteCount)
            curing_prepare_send(
                nextEntry(), record.pointee.file, fileFlags, submission.pointer, UInt32(submission.byteCount),
                features.hasSilentSend, userData.rawValue)
            endSend()
        }

        private mutating func sendVector(_ submission: Submission) {
            guard let record = record(of: submission.connection) else { return }
            let userData = sendUserData(submission.connection, byteCount: Int(submission.value))
            let entry = nextEntry()
            curing_prepare_send_vector(
                entry, record.pointee.file, fileFlags, messages + messageCount, submission.pointer,
                submission.byteCount, features.hasSilentSend, userData.rawValue)
            messageCount += 1
            endSend()
        }

        private mutating func sendUserData(_ connection: Slot, byteCount: Int) -> UserData {
            if features.hasSilentSend { return UserData(.send, connection) }
            countedSends.append(CountedSend(connection: connection, byteCount: Int32(byteCount)))
            return UserData(.sendCounted, index: UInt32(countedSends.count - 1))
        }

        private mutating func endSend() {
            counters.sends += 1
            sendCountInRound += 1
            chunkSendCount += 1
            if chunkSendCount >= sendBatchCount { submitAll() }
        }

        private mutating func sendZeroCopy(_ submission: Submission) {
            guard let record = record(of: submission.connection) else {
                // `.sendReleased` must be reported even if the connection is gone.
                failedSends.append(Completion(.sendReleased, connection: submission.connection, value: -EPIPE))
                return
            }
            var place = freeZeroCopySend
            if place != 0 {
                freeZeroCopySend = zeroCopySends[Int(place)].nextFree
            } else {
                // Index 0 means "none".
                if zeroCopySends.isEmpty {
                    zeroCopySends.append(ZeroCopySend(connection: .none, result: 0, nextFree: 0))
                }
                place = UInt32(zeroCopySends.count)
                zeroCopySends.append(ZeroCopySend(connection: .none, result: 0, nextFree: 0))
            }
            zeroCopySends[Int(place)] = ZeroCopySend(connection: submission.connection, result: 0, nextFree: 0)
            record.pointee.state.insert(.hasZeroCopy)
            armedCount += 1
            let userData = UserData(.sendZeroCopy, index: place).rawValue
            let byteCount = UInt32(submission.byteCount)
            if features.hasZeroCopySend {
                curing_prepare_send_zero_copy(
                    nextEntry(), record.pointee.file, fileFlags, submission.pointer, byteCount, userData)
            } else {
                curing_prepare_send(
                    nextEntry(), record.pointee.file, fileFlags, submission.pointer, byteCount, false, userData)
            }
            endSend()
        }

        // MARK: - Closing

        /// Shuts the sending side down. The kernel runs each IORING_OP_SHUTDOWN in a worker thread, which takes CPU
        /// time from the broker's core. So the driver makes a plain descriptor and calls shutdown(2).
        /// IORING_OP_SHUTDOWN is used only if there is no free descriptor or the kernel cannot make one.
        mutating func shutDownWrite(
            _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot, installs: Bool
        ) {
            armedCount += 1
            let file = record.pointee.file
            if isPlain {
                curing_prepare_nop(nextEntry(), UserData(.shutdownPlain, connection).rawValue)
            } else if installs {
                curing_prepare_install(nextEntry(), file, UserData(.install, connection).rawValue)
            } else {
                curing_prepare_shutdown_write(nextEntry(), file, UserData(.shutdown, connection).rawValue)
            }
        }

        private mutating func close(_ submission: Submission) {
            guard let record = record(of: submission.connection) else { return }
            record.pointee.state.remove(.receives)
            record.pointee.state.insert(.isClosing)
            if submission.value == 1 { record.pointee.state.insert(.resetsOnClose) }
            leavePromoted(record)
            if record.pointee.state.contains(.isWritablePolled) { cancelWritable(record, submission.connection) }
            if record.pointee.state.contains(.isConnecting) { cancelConnect(submission.connection) }
            reconcile(record, submission.connection)
        }

        mutating func cancelWritable(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            guard !record.pointee.state.contains(.isWritableEnding) else { return }
            record.pointee.state.insert(.isWritableEnding)
            curing_prepare_cancel(
                nextEntry(), UserData(.writablePoll, connection).rawValue,
                UserData(.cancelWritable, connection).rawValue)
        }

        /// Closes the descriptor if no request holds it. Closing a socket with an armed request has no effect until the
        /// request ends.
        mutating func closeIfFree(_ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot) {
            let state = record.pointee.state
            guard state.contains(.isClosing), state.isDisjoint(with: URingConnection.State.keepsFile),
                !state.contains(.isBeingClosed)
            else { return }
            record.pointee.state.insert(.isBeingClosed)
            armedCount += 1
            // The socket could not be created, so there is nothing to close. The NOP leads to `.closed`.
            guard record.pointee.file >= 0 else {
                return curing_prepare_nop(nextEntry(), UserData(.close, connection).rawValue)
            }
            if state.contains(.resetsOnClose) {
                if isPlain {
                    expectNoMisuse(.setOption, socket_set_reset_on_close(record.pointee.file))
                } else if features.hasResetOnClose {
                    curing_prepare_reset_on_close(nextEntry(), record.pointee.file, UserData(.ignored).rawValue)
                }
            }
            curing_prepare_close(
                nextEntry(), record.pointee.file, fileFlags, false, UserData(.close, connection).rawValue)
        }

        // MARK: - Other workers

        private mutating func wakePeer(_ worker: Int) {
            let fd = peers.ring(of: worker)
            guard fd >= 0 else { return peers[worker].wake() }
            curing_prepare_wake(
                nextEntry(), fd, UserData(.wakeMessage).rawValue, UserData(.wakePeer, index: UInt32(worker)).rawValue)
        }

        /// Installs the socket in the file table of the other worker's ring. When that is done or has failed, the slot
        /// in our table is closed.
        private mutating func handOff(file: Int32, to worker: Int, _ origin: ConnectionOrigin) {
            if isPlain { return handOffPlain(file, to: worker, origin) }
            let fd = worker < peers.count ? peers.ring(of: worker) : -1
            guard fd >= 0, fd != ring.fd else {
                counters.handOffErrors += 1
                curing_prepare_close(nextEntry(), file, fileFlags, true, UserData(.ignored).rawValue)
                return
            }
            armedCount += 1
            curing_prepare_send_file(
                nextEntry(), fd, file, UserData(.handedOn, origin).rawValue,
                UserData(.handOff, index: UInt32(file)).rawValue)
        }

        // MARK: - Accepting

        mutating func armAccept(_ index: Int) {
            let listener = listeners[index]
            guard listener.fd >= 0, !listener.isArmed, !listener.rests else { return }
            listeners[index].isArmed = true
            armedCount += 1
            let userData = UserData(.accept, index: UInt32(index)).rawValue
            if let address = listener.address {
                let base = UnsafeMutableRawPointer(address)
                let count = base + MemoryLayout<ListenerAddress>.offset(of: \.byteCount)!
                curing_prepare_accept_address(
                    nextEntry(), listener.fd, fileFlags, base.assumingMemoryBound(to: sockaddr_storage.self),
                    count.assumingMemoryBound(to: socklen_t.self), userData)
            } else {
                curing_prepare_accept_multishot(nextEntry(), listener.fd, fileFlags, userData)
            }
        }

        private mutating func stopAccepting() {
            for index in listeners.indices where listeners[index].fd >= 0 {
                if listeners[index].isArmed {
                    let target = UserData(.accept, index: UInt32(index)).rawValue
                    curing_prepare_cancel(nextEntry(), target, UserData(.ignored).rawValue)
                }
                // The ACCEPT keeps the socket listening until it has ended, later in this round. shutdown(2) stops it
                // at once. A Unix socket is shared: shutdown(2) would stop workers that have not been told yet.
                if !socket_is_unix(listeners[index].fd) { shutdown(listeners[index].fd, Int32(SHUT_RDWR)) }
                Glibc.close(listeners[index].fd)
                listeners[index].fd = -1
                listeners[index].rests = false
            }
        }
    }
#endif
