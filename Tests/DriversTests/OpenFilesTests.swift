import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

/// What both drivers make of file operations, with the kernel's answers given by hand.
struct OpenFilesTests {
    private static let directory = Slot(index: 1, generation: 7)
    private static let file = Slot(index: 2, generation: 1)

    /// A core with `directory` and `file` open, as descriptors 10 and 11.
    private struct Fixture: ~Copyable {
        var files = OpenFiles()
        var completions = Batch<Completion>(capacity: 16)
        let name = strdup("log")!
        let vectors: UnsafeMutablePointer<iovec>
        /// What the vectors hold: 3, 0, 5 and 2 bytes.
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: 10, alignment: 1)

        init() {
            vectors = .allocate(capacity: 4)
            var offset = 0
            for (place, byteCount) in [3, 0, 5, 2].enumerated() {
                (vectors + place).initialize(to: iovec(iov_base: bytes + offset, iov_len: byteCount))
                offset += byteCount
            }
            for place in 0..<10 { bytes.storeBytes(of: UInt8(place), toByteOffset: place, as: UInt8.self) }
            submit(.openDirectory(name, as: OpenFilesTests.directory))
            finish(next()!, 10)
            submit(.createFile(name, in: OpenFilesTests.directory, as: OpenFilesTests.file))
            finish(next()!, 11)
            completions.removeAll()
        }

        deinit {
            free(name)
            vectors.deallocate()
            bytes.deallocate()
        }

        mutating func submit(_ submission: Submission) { files.submit(submission, &completions) }
        mutating func next() -> FileCall? { files.nextCall() }
        mutating func finish(_ call: FileCall, _ result: Int32) {
            files.finished(call.operation, result, &completions)
        }

        mutating func append(at offset: Int = 0, isDurable: Bool = false) {
            submit(
                .append(
                    vectors, vectorCount: 4, byteCount: 10, to: OpenFilesTests.file, at: offset, isDurable: isDurable))
        }

        /// Kinds and values of what was answered since the last look.
        mutating func answers() -> [Answer] {
            defer { completions.removeAll() }
            return (0..<completions.count).map { Answer(kind: completions[$0].kind, value: completions[$0].value) }
        }

        /// Nothing is left.
        mutating func end() {
            submit(.closeFile(OpenFilesTests.file))
            finish(next()!, 0)
            submit(.closeFile(OpenFilesTests.directory))
            finish(next()!, 0)
            #expect(answers() == [Answer(kind: .fileClosed, value: 0), Answer(kind: .fileClosed, value: 0)])
            #expect(next() == nil)
            #expect(files.busyCount == 0)
        }
    }

    struct Answer: Equatable {
        var kind: Completion.Kind
        var value: Int32
    }

    @Test func `submissions and completions are as small as before`() {
        #expect(MemoryLayout<Submission>.size == 32 && MemoryLayout<Submission>.stride == 32)
        #expect(MemoryLayout<Completion>.size == 32 && MemoryLayout<Completion>.stride == 32)
        #expect(MemoryLayout<OpenFiles.File>.stride == 32)
    }

    @Test func `a submission carries its directory`() {
        let directory = Slot(index: 0xFFFF, generation: 0xFF_FFFF)
        let name: StaticString = "log"
        let submission = name.withUTF8Buffer {
            $0.withMemoryRebound(to: CChar.self) { Submission.createFile($0.baseAddress!, in: directory, as: .none) }
        }
        #expect(submission.directory == directory)
    }

    @Test func `every answer names its submission`() {
        var fixture = Fixture()
        fixture.append(at: 4096)
        fixture.finish(fixture.next()!, 10)
        fixture.submit(.sync(Self.file, token: .max))
        fixture.finish(fixture.next()!, 0)
        #expect(fixture.files.busyCount == 0)
        #expect(fixture.completions[0].pointer == UnsafeRawPointer(fixture.vectors))
        #expect(fixture.completions[0].offset == 4096 && fixture.completions[0].connection == Self.file)
        #expect(fixture.completions[1].offset == .max)
        _ = fixture.answers()
        fixture.end()
    }

    // MARK: - In parts

    /// Each way in which the kernel may take ten bytes of four vectors in two parts or three.
    @Test func `an append that is taken in parts goes on where it was`() {
        for first in 1..<10 {
            for second in 1...(10 - first) {
                var fixture = Fixture()
                fixture.append(at: 100)
                var written: [UInt8] = []
                var calls = 0
                for limit in [first, second, 10] {
                    guard let call = fixture.next() else { break }
                    #expect(call.offset == 100 + written.count && call.descriptor == 11)
                    let part = Array(Self.bytes(of: call).prefix(limit))
                    written += part
                    calls += 1
                    fixture.finish(call, Int32(part.count))
                }
                // A vector that was cut is finished first, so there may be one call more than parts.
                while let call = fixture.next() {
                    written += Self.bytes(of: call)
                    calls += 1
                    fixture.finish(call, Int32(Self.bytes(of: call).count))
                }
                #expect(written == Array(0..<10) && calls <= 5, "\(first), \(second)")
                #expect(fixture.answers() == [Answer(kind: .fileAppended, value: 10)])
                fixture.end()
            }
        }
    }

    private static func bytes(of call: FileCall) -> [UInt8] {
        if call.kind == .write { return Array(UnsafeRawBufferPointer(start: call.pointer, count: Int(call.count))) }
        let vectors = call.pointer!.assumingMemoryBound(to: iovec.self)
        return (0..<Int(call.count)).flatMap {
            Array(UnsafeRawBufferPointer(start: vectors[$0].iov_base, count: vectors[$0].iov_len))
        }
    }

    @Test func `a read that brings a part goes on, and ends where the file does`() {
        var fixture = Fixture()
        fixture.submit(.read(10, of: Self.file, at: 5, into: fixture.bytes))
        fixture.finish(fixture.next()!, 4)
        let rest = fixture.next()!
        #expect(rest.count == 6 && rest.offset == 9 && rest.pointer == UnsafeRawPointer(fixture.bytes + 4))
        fixture.finish(rest, 0)
        #expect(fixture.answers() == [Answer(kind: .fileRead, value: 4)])
        fixture.end()
    }

    // MARK: - Errors

    @Test(arguments: [EINTR, EAGAIN])
    func `a call that was not carried out is made again, but not for ever`(_ errorNumber: Int32) {
        var fixture = Fixture()
        fixture.append()
        for _ in 0..<OpenFiles.attemptCountMax { fixture.finish(fixture.next()!, -errorNumber) }
        #expect(fixture.answers().isEmpty)
        // A part of it is written, so it starts to count again.
        fixture.finish(fixture.next()!, 3)
        for _ in 0...OpenFiles.attemptCountMax { fixture.finish(fixture.next()!, -errorNumber) }
        #expect(fixture.answers() == [Answer(kind: .fileAppended, value: -errorNumber)])
        #expect(fixture.next() == nil)
        fixture.end()
    }

    @Test(arguments: [ENOSPC, EDQUOT, EFBIG, EIO, EROFS])
    func `an append that failed is reported and may be submitted again`(_ errorNumber: Int32) {
        var fixture = Fixture()
        fixture.append()
        fixture.finish(fixture.next()!, 3)
        fixture.finish(fixture.next()!, -errorNumber)
        #expect(fixture.answers() == [Answer(kind: .fileAppended, value: -errorNumber)])
        fixture.append()
        let again = fixture.next()!
        #expect(again.offset == 0 && again.kind == .writeVector)
        fixture.finish(again, 10)
        fixture.submit(.sync(Self.file))
        fixture.finish(fixture.next()!, 0)
        #expect(fixture.answers() == [Answer(kind: .fileAppended, value: 10), Answer(kind: .fileSynced, value: 0)])
        fixture.end()
    }

    @Test func `a write that takes nothing and says nothing is an error`() {
        var fixture = Fixture()
        fixture.append()
        fixture.finish(fixture.next()!, 0)
        #expect(fixture.answers() == [Answer(kind: .fileAppended, value: -EIO)])
        fixture.end()
    }

    @Test(arguments: [EIO, ENOSPC, EDQUOT, EINVAL])
    func `a sync that failed is final for its file`(_ errorNumber: Int32) {
        var fixture = Fixture()
        fixture.submit(.sync(Self.file))
        fixture.submit(.sync(Self.directory))
        fixture.finish(fixture.next()!, -errorNumber)
        fixture.finish(fixture.next()!, 0)
        fixture.submit(.sync(Self.file))
        fixture.append(isDurable: true)
        #expect(fixture.next() == nil)
        let failure = -errorNumber
        #expect(
            fixture.answers() == [
                Answer(kind: .fileSynced, value: failure), Answer(kind: .fileSynced, value: 0),
                Answer(kind: .fileSynced, value: failure), Answer(kind: .fileAppended, value: failure),
            ])
        // What promises nothing goes on, and so does the directory.
        fixture.append()
        fixture.finish(fixture.next()!, 10)
        fixture.submit(.sync(Self.directory))
        fixture.finish(fixture.next()!, 0)
        #expect(fixture.answers().map(\.value) == [10, 0])
        fixture.end()
    }

    @Test func `syncs in line behind one that fails fail with it, and what is behind them goes on`() {
        var fixture = Fixture()
        fixture.append()
        let append = fixture.next()!
        fixture.submit(.sync(Self.file, token: 1))
        fixture.append(at: 10)
        fixture.submit(.sync(Self.file, token: 2))
        fixture.append(at: 20)
        #expect(fixture.next() == nil)
        fixture.finish(append, 10)
        let (sync, second) = (fixture.next()!, fixture.next()!)
        #expect(sync.kind == .syncData && second.kind == .writeVector && second.offset == 10)
        fixture.finish(sync, -EIO)
        fixture.finish(second, 10)
        let third = fixture.next()!
        #expect(third.offset == 20)
        fixture.finish(third, 10)
        #expect(fixture.answers().map(\.value) == [10, -EIO, 10, -EIO, 10])
        fixture.end()
    }

    @Test func `a durable append that found no room lost nothing, one that failed may have`() {
        var fixture = Fixture()
        fixture.append(isDurable: true)
        let call = fixture.next()!
        #expect(call.flags == 2)  // RWF_DSYNC
        fixture.finish(call, -ENOSPC)
        fixture.submit(.sync(Self.file))
        fixture.finish(fixture.next()!, 0)
        fixture.append(isDurable: true)
        fixture.finish(fixture.next()!, -EIO)
        fixture.submit(.sync(Self.file))
        #expect(fixture.answers().map(\.value) == [-ENOSPC, 0, -EIO, -EIO])
        fixture.end()
    }

    @Test func `an open that failed leaves the slot free, and a close always succeeds`() {
        var fixture = Fixture()
        let other = Slot(index: 5, generation: 1)
        for errorNumber in [ENOENT, EMFILE] {
            fixture.submit(.openFile(fixture.name, in: Self.directory, as: other, isReadOnly: true))
            let call = fixture.next()!
            #expect(call.descriptor == 10 && call.flags == O_RDONLY | O_CLOEXEC)
            fixture.finish(call, -errorNumber)
            #expect(fixture.answers() == [Answer(kind: .fileOpened, value: -errorNumber)])
        }
        fixture.submit(.openDirectory(fixture.name, as: other))
        fixture.finish(fixture.next()!, -ENOTDIR)
        #expect(fixture.answers() == [Answer(kind: .fileOpened, value: -ENOTDIR)])
        fixture.submit(.openFile(fixture.name, in: Self.directory, as: other))
        fixture.finish(fixture.next()!, 12)
        for errorNumber in [EIO, EINTR] {
            fixture.submit(.closeFile(errorNumber == EIO ? other : Self.file))
            fixture.finish(fixture.next()!, -errorNumber)
        }
        #expect(fixture.answers().map(\.value) == [0, 0, 0])
        // The same index again, in another life.
        fixture.submit(.openFile(fixture.name, in: Self.directory, as: Slot(index: 2, generation: 2)))
        fixture.finish(fixture.next()!, 11)
        #expect(fixture.answers() == [Answer(kind: .fileOpened, value: 0)])
    }

    // MARK: - Order

    @Test func `a sync waits for the changes before it, and those behind it wait for its begin`() {
        var fixture = Fixture()
        fixture.append()
        fixture.submit(.allocate(100, of: Self.file, at: 0))
        let (append, allocation) = (fixture.next()!, fixture.next()!)
        #expect(allocation.kind == .allocate && allocation.count == 100)
        fixture.submit(.sync(Self.file))
        fixture.append(at: 10)
        fixture.submit(.read(5, of: Self.file, at: 0, into: fixture.bytes))
        // A read waits for nobody.
        let read = fixture.next()!
        #expect(read.kind == .read && fixture.next() == nil)
        fixture.finish(append, 10)
        #expect(fixture.next() == nil)
        fixture.finish(allocation, 0)
        let (sync, later) = (fixture.next()!, fixture.next()!)
        #expect(sync.kind == .syncData && later.offset == 10)
        fixture.finish(read, 5)
        fixture.finish(later, 10)
        fixture.finish(sync, 0)
        #expect(
            fixture.answers().map(\.kind) == [.fileAppended, .fileAllocated, .fileRead, .fileAppended, .fileSynced])
        fixture.end()
    }

    @Test func `the sync of a directory waits for creates, renames and deletes, not for opens`() {
        var fixture = Fixture()
        fixture.submit(.createFile(fixture.name, in: Self.directory, as: Slot(index: 3, generation: 1)))
        fixture.submit(.delete(fixture.name, in: Self.directory))
        fixture.submit(.rename(fixture.name, to: fixture.name + 1, in: Self.directory))
        fixture.submit(.sync(Self.directory))
        fixture.submit(.openFile(fixture.name, in: Self.directory, as: Slot(index: 4, generation: 1)))
        let (create, delete) = (fixture.next()!, fixture.next()!)
        let (rename, open) = (fixture.next()!, fixture.next()!)
        #expect(rename.kind == .rename && rename.descriptor == 10)
        #expect(rename.pointer == UnsafeRawPointer(fixture.name) && rename.offset == 1)
        #expect(create.flags & O_EXCL != 0 && delete.kind == .delete && open.flags == O_RDWR | O_CLOEXEC)
        fixture.finish(create, -EEXIST)
        fixture.finish(delete, 0)
        #expect(fixture.next() == nil)
        fixture.finish(rename, 0)
        let sync = fixture.next()!
        #expect(sync.kind == .sync && sync.descriptor == 10)
        fixture.finish(sync, 0)
        // Only the close waits for the open.
        fixture.submit(.closeFile(Self.directory))
        #expect(fixture.next() == nil)
        fixture.finish(open, 12)
        #expect(fixture.next()?.kind == .close)
        #expect(fixture.answers().map(\.kind) == [.fileOpened, .fileDeleted, .fileRenamed, .fileSynced, .fileOpened])
    }

    @Test func `a close waits for everything`() {
        var fixture = Fixture()
        fixture.append()
        fixture.submit(.sync(Self.file))
        fixture.submit(.read(5, of: Self.file, at: 0, into: fixture.bytes))
        fixture.submit(.closeFile(Self.file))
        let (append, read) = (fixture.next()!, fixture.next()!)
        fixture.finish(append, 10)
        let sync = fixture.next()!
        fixture.finish(sync, 0)
        #expect(fixture.next() == nil)
        fixture.finish(read, 5)
        let close = fixture.next()!
        #expect(close.kind == .close && close.descriptor == 11)
        fixture.finish(close, 0)
        #expect(fixture.answers().map(\.kind) == [.fileAppended, .fileSynced, .fileRead, .fileClosed])
    }

    // MARK: - Errors of the programmer

    @Test func `a handle that is not open stops the process`() async {
        await #expect(processExitsWith: .failure) {
            var fixture = Fixture()
            fixture.submit(.sync(Slot(index: OpenFilesTests.file.index, generation: 2)))
        }
        await #expect(processExitsWith: .failure) {
            var fixture = Fixture()
            fixture.submit(.closeFile(OpenFilesTests.file))
            fixture.append()
        }
        await #expect(processExitsWith: .failure) {
            var fixture = Fixture()
            fixture.submit(.openFile(fixture.name, in: OpenFilesTests.directory, as: Slot(index: 3, generation: 1)))
            fixture.submit(.closeFile(Slot(index: 3, generation: 1)))
        }
        await #expect(processExitsWith: .failure) {
            var fixture = Fixture()
            fixture.submit(.delete(fixture.name, in: OpenFilesTests.file))
        }
        await #expect(processExitsWith: .failure) {
            var fixture = Fixture()
            fixture.submit(.openFile(fixture.name, in: OpenFilesTests.directory, as: OpenFilesTests.file))
        }
    }

    @Test func `an answer that only our own error explains stops the process`() async {
        await #expect(processExitsWith: .failure) {
            var fixture = Fixture()
            fixture.append()
            fixture.finish(fixture.next()!, -EBADF)
        }
    }
}
