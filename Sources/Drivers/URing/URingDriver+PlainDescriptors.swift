#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// What is different where sockets are plain descriptors and not slots of the ring's table (before Linux 6.13, or by
    /// `io.uring.descriptors`): where hand-offs go, how a socket is shut down, and what has to be closed in the end.
    /// Everything else names its socket by `fileFlags` and takes the same way.
    extension URingDriver {
        var isPlain: Bool { fileFlags == curing_file_plain }

        /// How many connections a worker may have. A table holds some more, which can be handed on.
        static func connectionCountMax(
            options: DriverOptions, slotCount: Int?, workerCount: Int
        ) -> Int {
            guard let slotCount else {
                // All listeners and eventfds are open by now.
                return EpollDriver.connectionCountMax(
                    wanted: options.connectionCountMax,
                    freeDescriptorCount: descriptorLimit() - openDescriptorCount(), workerCount: workerCount)
            }
            let spare = slotCount - min(handOffReserve, slotCount / 4)
            return options.connectionCountMax > 0 ? min(options.connectionCountMax, spare) : spare
        }

        // MARK: - Hand-off

        /// A descriptor belongs to the whole process, so its number in the other worker's inbox is all it takes.
        mutating func handOffPlain(_ fd: Int32, to worker: Int, _ origin: ConnectionOrigin) {
            if worker != Int(wake.worker), worker < peers.count,
                peers.handOn(HandedOn(fd: fd, origin: origin), to: worker)
            {
                counters.handedOff += 1
            } else {
                counters.handOffErrors += 1
                curing_prepare_close(nextEntry(), fd, fileFlags, true, UserData(.ignored).rawValue)
            }
        }

        /// Whoever put something into the inbox has written our eventfd.
        mutating func takeHandedOn(_ completions: inout Batch<Completion>) {
            for newcomer in peers.takeHandedOn(to: Int(wake.worker)) {
                counters.accepts += 1
                completions.append(Completion(accepted: newcomer.fd, from: newcomer.origin))
            }
        }

        // MARK: - Shutdown

        /// shutdown(2), behind the sends that were submitted before: IORING_OP_SHUTDOWN would go to a worker thread.
        mutating func shutDownPlain(_ connection: Slot) {
            guard let record = anyRecord(of: connection) else {
                armedCount -= 1
                return
            }
            shutDown(connection, socket_shutdown_write(record.pointee.file))
        }

        // MARK: - End

        /// Takes note of a completion after the last round: a socket that nobody has heard of is closed, one that the
        /// ring has closed is not closed again.
        func noteAtEnd(_ completion: RingCompletion) {
            guard isPlain else { return }
            switch completion.userData.operation {
            case .accept, .socket:
                if completion.result >= 0 { Glibc.close(completion.result) }
            case .close:
                anyRecord(of: completion.userData.connection)?.pointee.file = -1
            default: break
            }
        }

        /// Closes what a ring with a table would close together with that.
        mutating func closePlainDescriptors() {
            for newcomer in peers.takeHandedOn(to: Int(wake.worker), closing: true) { Glibc.close(newcomer.fd) }
            for position in laterAcceptHead..<laterAccepts.count { Glibc.close(laterAccepts[position].value) }
            for index in 0...highestIndex {
                let record = table.base[index]
                if record.generation != 0, record.file >= 0 { Glibc.close(record.file) }
            }
        }
    }
#endif
