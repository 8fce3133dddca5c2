#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// Connections that the core opens with `.connect`. A SOCKET creates the descriptor. When it has completed, a
    /// CONNECT follows in the next submit.
    extension URingDriver {
        /// The data that is kept from SOCKET to CONNECT.
        struct Opening: BitwiseCopyable {
            var connection: Slot
            var address: UnsafeRawPointer?
            var byteCount: UInt32
            var nextFree: UInt32
        }

        mutating func connect(_ submission: Submission) {
            let connection = submission.connection
            invariant(connection.index < table.countMax, "a connection's slot index exceeds the driver's table")
            let record = table.base + Int(connection.index)
            invariant(record.pointee.generation == 0, "a slot was adopted twice without a close between")
            highestIndex = max(highestIndex, Int(connection.index))
            record.pointee = URingConnection(file: -1, generation: connection.generation, state: .isConnecting)
            let place = takeOpening()
            openings[Int(place)] = Opening(
                connection: connection, address: submission.pointer, byteCount: UInt32(submission.byteCount),
                nextFree: 0)
            armedCount += 1
            curing_prepare_socket(nextEntry(), fileFlags, submission.pointer, UserData(.socket, index: place).rawValue)
        }

        /// Returns the index of a free entry in `openings`. Index 0 means "none".
        private mutating func takeOpening() -> UInt32 {
            let place = freeOpening
            if place != 0 {
                freeOpening = openings[Int(place)].nextFree
                return place
            }
            let unused = Opening(connection: .none, address: nil, byteCount: 0, nextFree: 0)
            if openings.isEmpty { openings.append(unused) }
            openings.append(unused)
            return UInt32(openings.count - 1)
        }

        mutating func socketMade(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            armedCount -= 1
            let place = completion.userData.index
            let opening = openings[Int(place)]
            openings[Int(place)].nextFree = freeOpening
            freeOpening = place
            guard let record = anyRecord(of: opening.connection) else {
                invariant(false, "a connection was closed before its socket was made")
                return
            }
            guard completion.result >= 0 else {
                return connectFailed(record, opening.connection, completion.result, &completions)
            }
            record.pointee.file = completion.result
            if record.pointee.state.contains(.isClosing) {
                record.pointee.state.remove(.isConnecting)
                return closeIfFree(record, opening.connection)
            }
            if isPlain {
                expectNoMisuse(.setOption, socket_set_int(completion.result, Int32(IPPROTO_TCP), TCP_NODELAY, 1))
            } else if features.hasResetOnClose {
                curing_prepare_no_delay(nextEntry(), completion.result, UserData(.ignored).rawValue)
            }
            armedCount += 1
            curing_prepare_connect(
                nextEntry(), completion.result, fileFlags, opening.address, opening.byteCount,
                UserData(.connect, opening.connection).rawValue)
        }

        mutating func connected(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            armedCount -= 1
            let connection = completion.userData.connection
            guard let record = anyRecord(of: connection) else {
                counters.stale += 1
                return
            }
            guard completion.result >= 0 else {
                return connectFailed(record, connection, completion.result, &completions)
            }
            record.pointee.state.remove(.isConnecting)
            if record.pointee.state.contains(.isClosing) { return closeIfFree(record, connection) }
            record.pointee.state.insert(.receives)
            reconcile(record, connection)
            completions.append(Completion(.writable, connection: connection))
        }

        private mutating func connectFailed(
            _ record: UnsafeMutablePointer<URingConnection>, _ connection: Slot, _ result: Int32,
            _ completions: inout Batch<Completion>
        ) {
            record.pointee.state.remove(.isConnecting)
            record.pointee.state.formUnion([.hasEnded, .hasFailed])
            if record.pointee.state.contains(.isClosing) { return closeIfFree(record, connection) }
            completions.append(Completion(.receiveFailed, connection: connection, value: result))
        }

        mutating func cancelConnect(_ connection: Slot) {
            curing_prepare_cancel(
                nextEntry(), UserData(.connect, connection).rawValue, UserData(.cancelConnect, connection).rawValue)
        }

        /// The cancel did not find the CONNECT: it was not submitted yet, or the kernel was between two attempts. The
        /// next round cancels again.
        mutating func cancelConnectFoundNothing(_ completion: RingCompletion) {
            let connection = completion.userData.connection
            guard completion.result < 0, let record = anyRecord(of: connection),
                record.pointee.state.contains(.isConnecting)
            else { return }
            enqueue(record, connection)
        }
    }
#endif
