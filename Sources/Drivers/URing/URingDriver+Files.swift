#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// Files. Each system call that `OpenFiles` wants is one request.
    ///
    /// Requests are not linked: a short write breaks a chain, all requests of a chain must be submitted together, and a
    /// sync must also cover changes of earlier rounds. A sync instead waits for the changes before it. This costs one
    /// more enter, which is little compared with the disk.
    extension URingDriver {
        mutating func carryOutFile(_ submission: Submission) {
            invariant(options.usesFiles, "the driver was made for a core that uses no files")
            if files == nil { files = OpenFiles() }
            // Only operations that are refused because of an earlier failed sync are answered at once. Their answers
            // may come before the other completions of the round.
            files?.submit(submission, &failedSends)
            _ = prepareFileCalls()
        }

        mutating func fileFinished(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            files?.finished(completion.userData.index, completion.result, &completions)
            // Submitted now: otherwise the calls would wait until the core has finished its turn.
            if prepareFileCalls() { submitAll() }
        }

        /// Prepares a request for each call that can be made. Returns whether there were any.
        private mutating func prepareFileCalls() -> Bool {
            var hasAny = false
            while let call = files?.nextCall() {
                prepare(call)
                hasAny = true
            }
            return hasAny
        }

        private mutating func prepare(_ call: FileCall) {
            let entry = nextEntry()
            let userData = UserData(.file, index: call.operation).rawValue
            let (file, count) = (call.descriptor, UInt32(bitPattern: call.count))
            let offset = UInt64(bitPattern: Int64(call.offset))
            switch call.kind {
            case .open: curing_prepare_file_open(entry, file, call.pointer, call.flags, userData)
            case .writeVector:
                curing_prepare_file_write_vector(entry, file, call.pointer, count, offset, call.flags, userData)
            case .write: curing_prepare_file_write(entry, file, call.pointer, count, offset, call.flags, userData)
            case .read: curing_prepare_file_read(entry, file, call.pointer, count, offset, userData)
            case .allocate: curing_prepare_file_allocate(entry, file, offset, UInt64(count), userData)
            case .syncData: curing_prepare_file_sync(entry, file, true, userData)
            case .sync: curing_prepare_file_sync(entry, file, false, userData)
            case .delete: curing_prepare_file_delete(entry, file, call.pointer, userData)
            case .rename:
                curing_prepare_file_rename(
                    entry, file, call.pointer, call.pointer.map { $0 + call.offset }, userData)
            case .close: curing_prepare_close(entry, file, curing_file_plain, false, userData)
            }
        }

        /// Waits until no operation is under way, as long as the disk takes, because the kernel uses memory of the core
        /// until then. Then closes all files.
        mutating func endFiles() {
            guard files != nil else { return }
            for position in stashHead..<stash.count { endFile(stash[position]) }
            while let busyCount = files?.busyCount, busyCount > 0 {
                submitAll()
                drain()
            }
            files?.closeEverything()
            files = nil
        }

        /// Handles a completion during the shut-down. Operations that waited for it are still carried out.
        mutating func endFile(_ completion: RingCompletion) {
            guard completion.userData.operation == .file else { return }
            var unheard = Batch<Completion>(capacity: 16)
            fileFinished(completion, &unheard)
        }
    }
#endif
