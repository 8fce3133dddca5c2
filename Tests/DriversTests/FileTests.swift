import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

/// Files of a real file system, on each driver.
@Suite(.serialized)
struct FileTests {
    @Test(arguments: DriverVariant.allCases)
    func `what is appended is there, synced, read back and deleted`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("log")
        let pieces = [pattern(100), [], pattern(5000, seed: 1), pattern(1, seed: 2)]
        let whole = pieces.flatMap { $0 }
        let answers = files.answers([
            files.append(pieces, to: file, at: 0), .sync(file, token: 77), .sync(files.directory),
        ])
        #expect(answers.count == 3)
        #expect(answers.contains { $0.kind == .fileAppended && $0.value == Int32(whole.count) })
        #expect(answers.contains { $0.kind == .fileSynced && $0.value == 0 && $0.address == 77 })
        #expect(try files.place.contents(of: "log") == whole)
        #expect(files.read(5000, of: file, at: 100) == pieces[2])
        // The end of the file: a part, then nothing.
        #expect(files.read(100, of: file, at: whole.count - 1) == pieces[3])
        #expect(files.read(100, of: file, at: whole.count + 50) == [])
        #expect(files.value(.delete(files.text("log"), in: files.directory)) == 0)
        #expect(files.place.names == [])
        // A file without a name goes on until its close.
        #expect(files.read(100, of: file, at: 0) == pieces[0])
        #expect(files.value(.closeFile(file)) == 0)
        #expect(files.value(.closeFile(files.directory)) == 0)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a large append of a thousand vectors arrives whole`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("log")
        let pieces = (0..<1000).map { pattern(4000 + $0, seed: UInt8($0 % 250)) }
        let whole = pieces.flatMap { $0 }
        #expect(files.value(files.append(pieces, to: file, at: 4096)) == Int32(whole.count))
        #expect(areEqual(try files.place.contents(of: "log"), [UInt8](repeating: 0, count: 4096) + whole))
        let isSame = files.read(whole.count, of: file, at: 4096).map { areEqual($0, whole) }
        #expect(isSame == true)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a durable append is answered like any other`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("log")
        #expect(files.value(files.append([pattern(300)], to: file, at: 0, isDurable: true)) == 300)
        #expect(try files.place.contents(of: "log") == pattern(300))
    }

    @Test(arguments: DriverVariant.allCases)
    func `a file that is written past the page cache takes whole blocks alone`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let directory = open(files.place.path, O_RDONLY | O_DIRECTORY)
        defer { close(directory) }
        #expect(!DirectAccess.arePossible(in: -1))
        guard DirectAccess.arePossible(in: directory) else { return }
        #expect(access("\(files.place.path)/direct.probe", F_OK) != 0)
        let file = files.newSlot()
        #expect(files.open(.createFile(files.text("log"), in: files.directory, as: file, isDirect: true)) == 0)
        #expect(files.value(files.append([pattern(8192)], to: file, at: 4096, isDurable: true)) == 8192)
        #expect(try files.place.contents(of: "log") == [UInt8](repeating: 0, count: 4096) + pattern(8192))
        #expect(files.value(files.append([pattern(100)], to: file, at: 0)) == -EINVAL)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a file can be made long before it is written`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("log")
        #expect(files.value(.allocate(1 << 20, of: file, at: 0)) == 0)
        #expect(try files.place.contents(of: "log").count == 1 << 20)
        #expect(files.value(files.append([pattern(10)], to: file, at: 5)) == 10)
        #expect(files.read(20, of: file, at: 0) == [0, 0, 0, 0, 0] + pattern(10) + [0, 0, 0, 0, 0])
        var status = stat()
        #expect(stat("\(files.place.path)/log", &status) == 0)
        #expect(status.st_size == 1 << 20 && status.st_blocks * 512 >= 1 << 20)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    // MARK: - Order

    @Test(arguments: DriverVariant.allCases)
    func `a sync is answered after the appends before it`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("log")
        var requests: [Submission] = []
        for round in 0..<5 {
            for place in 0..<20 {
                let number = round * 20 + place
                requests.append(files.append([pattern(100, seed: UInt8(number))], to: file, at: number * 100))
            }
            requests.append(.sync(file, token: round + 1))
        }
        let answers = files.answers(requests)
        #expect(answers.count == requests.count && answers.allSatisfy { $0.value >= 0 })
        for round in 0..<5 {
            let sync = try #require(answers.firstIndex { $0.kind == .fileSynced && $0.address == UInt64(round + 1) })
            let before = answers[..<sync].filter { $0.kind == .fileAppended && $0.address < (round + 1) * 2000 }
            #expect(before.count == (round + 1) * 20)
        }
        #expect(
            areEqual(try files.place.contents(of: "log"), (0..<100).flatMap { pattern(100, seed: UInt8($0)) }))
    }

    @Test(arguments: DriverVariant.allCases)
    func `a renamed file has its bytes, and is opened by its new name alone`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("old")
        #expect(files.value(files.append([pattern(300)], to: file, at: 0)) == 300)
        let answers = files.answers([
            .rename(files.text("old"), to: files.text("new"), in: files.directory), .sync(files.directory),
        ])
        #expect(answers.map(\.kind) == [.fileRenamed, .fileSynced] && answers.allSatisfy { $0.value == 0 })
        #expect(files.place.names == ["new"])
        let again = files.newSlot()
        #expect(files.open(.openFile(files.text("old"), in: files.directory, as: again)) == -ENOENT)
        #expect(files.open(.openFile(files.text("new"), in: files.directory, as: again)) == 0)
        #expect(files.value(files.append([pattern(100, seed: 1)], to: again, at: 0)) == 100)
        // Who had it open still has it.
        #expect(files.read(300, of: file, at: 0) == pattern(100, seed: 1) + pattern(300)[100...])
        #expect(files.value(.rename(files.text("none"), to: files.text("other"), in: files.directory)) == -ENOENT)
        #expect(files.place.names == ["new"])
    }

    @Test(arguments: DriverVariant.allCases)
    func `the sync of a directory is answered after creates and deletes in it`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        _ = try files.create("old")
        var requests: [Submission] = [.delete(files.text("old"), in: files.directory)]
        for number in 0..<10 {
            requests.append(.createFile(files.text("new\(number)"), in: files.directory, as: files.newSlot()))
        }
        requests.append(.sync(files.directory))
        let answers = files.answers(requests)
        #expect(answers.count == 12 && answers.allSatisfy { $0.value == 0 })
        #expect(answers.last?.kind == .fileSynced)
        #expect(files.place.names == (0..<10).map { "new\($0)" })
    }

    @Test(arguments: DriverVariant.allCases)
    func `a close is answered last, and then the slot is free`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        for generation in UInt32(1)..<20 {
            let file = Slot(index: 2, generation: generation)
            #expect(files.open(.createFile(files.text("\(generation)"), in: files.directory, as: file)) == 0)
            let answers = files.answers([
                files.append([pattern(1000)], to: file, at: 0), .sync(file),
                .read(10, of: file, at: 0, into: files.buffer(10)), .closeFile(file),
            ])
            #expect(answers.count == 4 && answers.last?.kind == .fileClosed && answers.allSatisfy { $0.value >= 0 })
            #expect(try files.place.contents(of: "\(generation)") == pattern(1000))
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `connections go on while files are at work, also under the same slot`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let bench = files.bench
        let (client, slot) = try bench.connect()
        #expect(slot == files.directory)
        let file = try files.create("log")
        for round in 0..<20 {
            let message = pattern(64, seed: UInt8(round))
            try client.send(message)
            let requests = [files.append([message], to: file, at: round * 64), .sync(file)]
            let events = try #require(
                bench.turns(requests) { events in
                    bench.received(events, by: slot).count >= 64
                        && events.contains { $0.kind == .fileSynced } && events.contains { $0.kind == .fileAppended }
                })
            #expect(bench.send(bench.received(events, by: slot), to: slot).filter { $0.kind != .woken }.isEmpty)
            #expect(try client.receive(exactly: 64) == message)
        }
        #expect(bench.close(slot) != nil)
        #expect(files.read(64, of: file, at: 19 * 64) == pattern(64, seed: 19))
    }

    // MARK: - End

    @Test(arguments: DriverVariant.allCases)
    func `a driver that ends has carried out what was submitted`(_ variant: DriverVariant) throws {
        let files = try FileBench(variant)
        let file = try files.create("log")
        var requests: [Submission] = []
        // Most of it in line behind a sync.
        for number in 0..<50 {
            requests.append(files.append([pattern(10_000, seed: UInt8(number))], to: file, at: number * 10_000))
            requests.append(.sync(file))
            requests.append(.createFile(files.text("file\(number)"), in: files.directory, as: files.newSlot()))
        }
        requests.append(.sync(files.directory))
        files.bench.turn(requests, deadline: 0)
        files.bench.driver.shutDown()
        let expected = (0..<50).flatMap { pattern(10_000, seed: UInt8($0)) }
        #expect(areEqual(try files.place.contents(of: "log"), expected))
        #expect(files.place.names.count == 51)
    }

    @Test func `the helper thread starts with the first file`() throws {
        let peers = try WakeDirectory(workerCount: 1)
        var options = DriverOptions()
        options.usesFiles = true
        var driver = try EpollDriver(options: options, listeners: [], wake: peers[0], peers: peers)
        var submissions = Batch<Submission>(capacity: 16)
        var completions = Batch<Completion>(capacity: 16)
        driver.poll(submissions, deadline: 0, completions: &completions)
        var hasThread = driver.fileThread != nil
        #expect(!hasThread)
        let path = strdup("/")!
        defer { free(path) }
        submissions.append(.openDirectory(path, as: Slot(index: 1, generation: 1)))
        driver.poll(submissions, deadline: 0, completions: &completions)
        hasThread = driver.fileThread != nil
        #expect(hasThread)
        driver.shutDown()
    }
}
