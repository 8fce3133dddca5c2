import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

#if URing
    import CURing
#endif

/// Errors of files that the kernel really gives, on each driver. What it cannot be brought to say is in
/// `OpenFilesTests`.
@Suite(.serialized)
struct FileFaultTests {
    @Test(arguments: DriverVariant.allCases)
    func `names that are not there, or are there already, are answers`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        _ = try files.create("log")
        let slot = files.newSlot()
        let directory = files.directory
        // The slot is free again after each.
        #expect(files.open(.openFile(files.text("none"), in: directory, as: slot)) == -ENOENT)
        #expect(files.open(.createFile(files.text("log"), in: directory, as: slot)) == -EEXIST)
        #expect(files.open(.openFile(files.text("."), in: directory, as: slot)) == -EISDIR)
        #expect(files.open(.openFile(files.text("log/log"), in: directory, as: slot)) == -ENOTDIR)
        #expect(files.open(.openDirectory(files.text(files.place.path + "/log"), as: slot)) == -ENOTDIR)
        #expect(files.open(.openDirectory(files.text(files.place.path + "/none"), as: slot)) == -ENOENT)
        #expect(files.value(.delete(files.text("none"), in: directory)) == -ENOENT)
        #expect(files.open(.openFile(files.text("log"), in: directory, as: slot)) == 0)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a directory that was removed takes no file`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        #expect(rmdir(files.place.path) == 0)
        #expect(files.open(.createFile(files.text("log"), in: files.directory, as: files.newSlot())) == -ENOENT)
        #expect(files.value(.sync(files.directory)) == 0)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a full disk is reported, and a sync that cannot be is final`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant, path: "/dev")
        let file = files.newSlot()
        try #require(files.open(.openFile(files.text("full"), in: files.directory, as: file)) == 0)
        for _ in 0..<2 { #expect(files.value(files.append([pattern(100)], to: file, at: 0)) == -ENOSPC) }
        #expect(files.value(.allocate(100, of: file, at: 0)) == -ENODEV)
        #expect(files.value(.sync(file)) == -EINVAL)
        #expect(files.value(.sync(file, token: 5)) == -EINVAL)
        #expect(files.value(files.append([pattern(100)], to: file, at: 0, isDurable: true)) == -EINVAL)
        // Refused at once and last in line.
        let answers = files.answers([.sync(file), .closeFile(file)])
        #expect(answers.map(\.kind) == [.fileSynced, .fileClosed])
    }

    /// Memory of this process that is not mapped.
    @Test(arguments: DriverVariant.allCases)
    func `an error of reading or writing is reported`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant, path: "/proc/self")
        let file = files.newSlot()
        try #require(files.open(.openFile(files.text("mem"), in: files.directory, as: file)) == 0)
        #expect(files.value(.read(10, of: file, at: 0, into: files.buffer(10))) == -EIO)
        #expect(files.value(files.append([pattern(10)], to: file, at: 0)) == -EIO)
        #expect(files.value(.closeFile(file)) == 0)
    }

    @Test(arguments: DriverVariant.allCases)
    func `an append that runs into a limit is written in part and then fails`(_ variant: DriverVariant) async {
        // The limit is that of the whole process.
        await #expect(processExitsWith: .success) { [variant] in
            signal(SIGXFSZ, SIG_IGN)
            let files = try FileBench(variant)
            let file = try files.create("log")
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            limit.rlim_cur = 10_000
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            let pieces = [pattern(6000), pattern(6000, seed: 1), pattern(6000, seed: 2)]
            let value = files.value(files.append(pieces, to: file, at: 0))
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            guard value == -EFBIG else { exit(1) }
            guard try files.place.contents(of: "log") == Array(pieces.joined().prefix(10_000)) else { exit(2) }
            // With room, the same append is whole.
            guard files.value(files.append(pieces, to: file, at: 0)) == 18_000 else { exit(3) }
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a driver whose core uses no files takes none`(_ variant: DriverVariant) async {
        await #expect(processExitsWith: .failure) { [variant] in
            _ = try? FileBench(variant) { $0.usesFiles = false }
        }
    }

    @Test func `without a helper thread an open is answered with the reason, and the next one is tried again`() throws {
        let peers = try WakeDirectory(workerCount: 1)
        var options = DriverOptions()
        options.usesFiles = true
        var driver = try EpollDriver(options: options, listeners: [], wake: peers[0], peers: peers)
        var submissions = Batch<Submission>(capacity: 16)
        var completions = Batch<Completion>(capacity: 16)
        let path = strdup("/")!
        defer { free(path) }
        submissions.append(.openDirectory(path, as: Slot(index: 1, generation: 1)))
        driver.fileStackByteCount = 1 << 56
        driver.poll(submissions, deadline: 0, completions: &completions)
        try #require(completions.count == 1)
        #expect(completions[0].kind == .fileOpened && completions[0].value < 0)
        #expect(completions[0].pointer == UnsafeRawPointer(path))
        completions.removeAll()
        driver.fileStackByteCount = FileThread.stackByteCount
        let deadline = DriverBench.now + DriverBench.patienceNanoseconds
        var isOpen = false
        while !isOpen, DriverBench.now < deadline {
            driver.poll(submissions, deadline: deadline, completions: &completions)
            submissions.removeAll()
            for place in 0..<completions.count where completions[place].kind == .fileOpened {
                isOpen = completions[place].value == 0
            }
        }
        #expect(isOpen)
        driver.shutDown()
    }

    @Test func `a helper thread that cannot be started is explained`() throws {
        let peers = try WakeDirectory(workerCount: 1)
        let error = #expect(throws: DriverError.self) { _ = try FileThread(wake: peers[0], stackByteCount: 1 << 56) }
        #expect(error?.reason == .noMemory && (error?.errorNumber ?? 0) > 0)
    }

    #if URing
        @Test(arguments: DriverOptions.Descriptors.onThisKernel)
        func `a restricted ring allows what files take and nothing else`(
            _ descriptors: DriverOptions.Descriptors
        ) throws {
            let peers = try WakeDirectory(workerCount: 1)
            var options = DriverOptions()
            options.descriptors = descriptors
            options.usesFiles = true
            let driver = try URingDriver(options: options, listeners: [], wake: peers[0], peers: peers)
            #expect(driver.level.contains("restricted"))
            for opcode in [IORING_OP_MKDIRAT, IORING_OP_LINKAT, IORING_OP_OPENAT2, IORING_OP_STATX] {
                #expect(answer(driver.ring, opcode) == -EACCES)
            }
            // What is allowed fails for its descriptor, and not in chains.
            #expect(answer(driver.ring, IORING_OP_WRITE) == -EBADF)
            #expect(answer(driver.ring, IORING_OP_WRITE, flags: 4) == -EACCES)  // IOSQE_IO_LINK
            driver.shutDown()
        }

        private func answer(_ ring: borrowing Ring, _ opcode: io_uring_op, flags: UInt8 = 0) -> Int32? {
            curing_prepare(
                curing_next(ring.raw), Int32(opcode.rawValue), -1, flags, UserData(.selfTest).rawValue)
            return ring.submit() == 1 ? ring.takeCompletion()?.result : nil
        }

        /// A completion that came while the driver looked for something else, and that nobody took before its end.
        @Test func `a file operation whose completion waits in a list is over when the driver ends`() throws {
            let place = try TemporaryDirectory()
            let peers = try WakeDirectory(workerCount: 1)
            var options = DriverOptions()
            options.usesFiles = true
            var driver = try URingDriver(options: options, listeners: [], wake: peers[0], peers: peers)
            let path = strdup(place.path)!
            defer { free(path) }
            driver.carryOut(.openDirectory(path, as: Slot(index: 1, generation: 1)))
            driver.submitAll()
            while driver.ring.completionCount == 0 { _ = driver.ring.enter(completionCount: 1) }
            driver.stashCompletions()
            #expect(driver.stash.count == 1)
            driver.shutDown()
        }
    #endif
}
