#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// Files: each system call that `OpenFiles` wants is one request.
    ///
    /// Not with linked requests: a short write breaks a chain, a chain has to be submitted at once, and a sync has to
    /// cover what came before in other rounds too. To wait for the appends costs a sync one enter more, beside a
    /// disk.
    extension URingDriver {
        mutating func carryOutFile(_ submission: Submission) {
            invariant(options.usesFiles, "the driver was made for a core that uses no files")
            if files == nil { files = OpenFiles() }
            // What is answered at once was refused because of what earlier rounds reported. It may come first.
            files?.submit(submission, &failedSends)
            _ = prepareFileCalls()
        }

        mutating func fileFinished(_ completion: RingCompletion, _ completions: inout Batch<Completion>) {
            files?.finished(completion.userData.index, completion.result, &completions)
            // The core has the completion first, and may take its time.
            if prepareFileCalls() { submitAll() }
        }

        /// Returns whether there were any.
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
            case .close: curing_prepare_close(entry, file, curing_file_plain, false, userData)
            }
        }

        /// Waits until nothing is under way, for as long as the disk takes: the kernel reads and writes memory of the
        /// core until then. Then closes all files.
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

        /// A completion after the last round: whatever waited for it is still done.
        mutating func endFile(_ completion: RingCompletion) {
            guard completion.userData.operation == .file else { return }
            var unheard = Batch<Completion>(capacity: 16)
            fileFinished(completion, &unheard)
        }
    }
#endif
