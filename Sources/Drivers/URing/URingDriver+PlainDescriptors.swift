#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// The differences when sockets are plain descriptors and not slots of the ring's file table (before Linux 6.13, or
    /// if `io.uring.descriptors` says so): hand-offs, the shutdown of a socket, and what must be closed at the end.
    /// Everything else is the same; `fileFlags` tells the kernel which kind a request uses.
    extension URingDriver {
        var isPlain: Bool { fileFlags == curing_file_plain }

        /// The most connections of a worker. A file table has a few more slots, for connections to be handed off.
        static func connectionCountMax(
            options: DriverOptions, slotCount: Int?, workerCount: Int
        ) -> Int {
            guard let slotCount else {
                // All listeners and eventfds are already open, so they are counted here.
                return EpollDriver.connectionCountMax(
                    wanted: options.connectionCountMax,
                    freeDescriptorCount: descriptorLimit() - openDescriptorCount(), workerCount: workerCount)
            }
            let spare = slotCount - min(handOffReserve, slotCount / 4)
            return options.connectionCountMax > 0 ? min(options.connectionCountMax, spare) : spare
        }

        // MARK: - Hand-off

        /// Hands a connection off. A plain descriptor is valid in the whole process, so the driver only puts its number
        /// into the inbox of the other worker.
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

        /// Reports the sockets in the inbox. The sender has written to the eventfd of this worker.
        mutating func takeHandedOn(_ completions: inout Batch<Completion>) {
            for newcomer in peers.takeHandedOn(to: Int(wake.worker)) {
                counters.accepts += 1
                completions.append(Completion(accepted: newcomer.fd, from: newcomer.origin))
            }
        }

        // MARK: - Shutdown

        /// Calls shutdown(2) after a NOP, so that it comes after the sends that were submitted before.
        /// IORING_OP_SHUTDOWN would run in a worker thread of the kernel.
        mutating func shutDownPlain(_ connection: Slot) {
            guard let record = anyRecord(of: connection) else {
                armedCount -= 1
                return
            }
            shutDown(connection, socket_shutdown_write(record.pointee.file))
        }

        // MARK: - End

        /// Handles a completion during the shut-down: closes a new socket that was never reported, and notes a socket
        /// that the ring has closed, so that it is not closed again.
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

        /// Closes all sockets. With direct descriptors, the end of the file table closes them.
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
