import Glibc
import IO
import Slabs
import Testing

@testable import Simulator

/// What the simulated disk does for programs: the contract of `Submission+Files.swift`.
@Suite("Simulated disk")
struct DiskTests {
    @Test("What is appended is read back, up to the file's end, also without a name")
    func bytesAreRead() {
        let bench = DiskBench()
        bench.disk.faults[StorageFault.shortWrite.rawValue] = 500
        bench.disk.faults[StorageFault.shortRead.rawValue] = 500
        let file = bench.create("log")
        let pieces = [[UInt8](letters: "ab"), [], [7, 8, 9]]
        #expect(bench.value(bench.append(pieces, to: file, at: 256)) == 515)
        #expect(bench.read(1000, of: file, at: 0) == [UInt8](letters: ".ab") + [7, 8, 9])
        #expect(bench.read(3, of: file, at: 769) == [8, 9])
        #expect(bench.read(3, of: file, at: 5000) == [])
        #expect(bench.value(.delete(bench.text("log"), in: bench.directory)) == 0)
        #expect(bench.names == [])
        #expect(bench.read(3, of: file, at: 768) == [7, 8, 9])
        #expect(bench.value(.closeFile(file)) == 0)
        #expect(bench.disk.violation == nil)
    }

    @Test("An answer repeats the submission's slot, pointer and offset or token")
    func answersNameTheirSubmission() {
        let bench = DiskBench()
        let file = bench.create("log")
        let append = bench.append([[1, 2, 3]], to: file, at: 40)
        bench.submit(append, .sync(file, token: 77))
        let answers = bench.settle()
        #expect(answers.map(\.kind) == [.fileAppended, .fileSynced])
        #expect(answers.allSatisfy { $0.connection == file })
        #expect(answers[0].pointer == append.pointer && answers[0].offset == 40)
        #expect(answers[1].pointer == nil && answers[1].offset == 77)
    }

    @Test("Names that exist, or do not, are refused with errno, and the slot is free")
    func namesAreChecked() {
        let bench = DiskBench()
        _ = bench.create("log")
        let slot = bench.newSlot()
        #expect(bench.value(.createFile(bench.text("log"), in: bench.directory, as: slot)) == -EEXIST)
        #expect(bench.value(.openFile(bench.text("other"), in: bench.directory, as: slot)) == -ENOENT)
        #expect(bench.value(.delete(bench.text("other"), in: bench.directory)) == -ENOENT)
        #expect(bench.value(.openDirectory(bench.text("/nowhere"), as: slot)) == -ENOENT)
        #expect(bench.value(.openFile(bench.text("log"), in: bench.directory, as: slot)) == 0)
        #expect(bench.disk.violation == nil)
    }

    @Test("A renamed file is the same file, and no name is given twice")
    func namesChange() {
        let bench = DiskBench()
        let file = bench.create("log")
        #expect(bench.value(bench.append([[1, 2, 3]], to: file, at: 0)) == 3)
        #expect(bench.value(.rename(bench.text("log"), to: bench.text("new"), in: bench.directory)) == 0)
        #expect(bench.names == ["new"] && bench.contents("new") == [1, 2, 3])
        #expect(bench.value(.rename(bench.text("log"), to: bench.text("other"), in: bench.directory)) == -ENOENT)
        #expect(bench.disk.violation == nil)
        _ = bench.create("log")
        _ = bench.value(.rename(bench.text("log"), to: bench.text("new"), in: bench.directory))
        #expect(bench.disk.violation?.contains("another file has that name") == true)
    }

    @Test("An allocation makes a file longer, never shorter")
    func allocationGrows() {
        let bench = DiskBench()
        let file = bench.create("log")
        #expect(bench.value(.allocate(1024, of: file, at: 0)) == 0)
        #expect(bench.value(.allocate(10, of: file, at: 100)) == 0)
        #expect(bench.read(2000, of: file, at: 0) == [UInt8](repeating: 0, count: 1024))
    }

    // MARK: Order

    @Test("A sync is answered behind the changes before it, a close behind everything", arguments: UInt64(1)...200)
    func syncsAndClosesWait(seed: UInt64) throws {
        let bench = DiskBench(seed: seed)
        bench.disk.faults[StorageFault.shortWrite.rawValue] = 300
        bench.disk.faults[StorageFault.slowOperation.rawValue] = 100
        let file = bench.create("log")
        for round in 0..<4 {
            for place in 0..<5 { bench.submit(bench.append([[9, 9]], to: file, at: (round * 5 + place) * 2)) }
            bench.submit(.sync(file, token: round + 1))
        }
        bench.submit(.read(4, of: file, at: 0, into: bench.memory([0, 0, 0, 0])), .closeFile(file))
        let answers = bench.settle()
        #expect(answers.count == 26 && answers.last?.kind == .fileClosed && answers.allSatisfy { $0.value >= 0 })
        for round in 0..<4 {
            let sync = try #require(answers.firstIndex { $0.kind == .fileSynced && $0.offset == round + 1 })
            let before = answers[..<sync].count { $0.kind == .fileAppended && $0.offset < (round + 1) * 10 }
            #expect(before == (round + 1) * 5)
        }
    }

    @Test("Operations of one handle overtake each other where they may")
    func appendsOvertake() {
        let orders = Set(
            (1...50).map { seed in
                let bench = DiskBench(seed: UInt64(seed))
                let file = bench.create("log")
                bench.submit(
                    bench.append([[1]], to: file, at: 0), bench.append([[2]], to: file, at: 1),
                    .read(1, of: file, at: 0, into: bench.memory([0])))
                return bench.settle().map { "\($0.kind) \($0.offset)" }.joined(separator: ", ")
            })
        #expect(orders.count == 6)
    }

    @Test("A change behind a sync begins with it, and the sync does not cover it")
    func laterChangesAreNotCovered() {
        let outcomes = DiskBench.outcomes { bench in
            let file = bench.create("log")
            _ = bench.value(.sync(bench.directory))
            bench.submit(
                bench.append([[UInt8](letters: "aa")], to: file, at: 0), .sync(file),
                bench.append([[UInt8](letters: "bb")], to: file, at: 512))
            _ = bench.settle()
        } describe: {
            $0.contents("log")?.letters ?? "none"
        }
        #expect(outcomes == ["aa", "aabb", "aa.."])
    }

    // MARK: Rules

    @Test("What the contract forbids is a violation")
    func misuseIsFound() {
        func violation(_ story: (DiskBench, Slot) -> Void) -> String {
            let bench = DiskBench()
            let file = bench.create("log")
            story(bench, file)
            _ = bench.settle()
            return bench.disk.violation ?? "none"
        }
        #expect(violation { bench, _ in bench.submit(.sync(Slot(index: 60, generation: 1))) }.contains("there is none"))
        #expect(
            violation { bench, _ in
                let slot = bench.newSlot()
                bench.submit(.openFile(bench.text("log"), in: bench.directory, as: slot), .sync(slot))
            }.contains("not open yet"))
        #expect(violation { $0.submit(.closeFile($1), .sync($1)) }.contains("being closed"))
        #expect(
            violation { $0.submit(.openFile($0.text("log"), in: $0.directory, as: $1)) }.contains("slot is in use"))
        #expect(violation { $0.submit(.sync(Slot(index: $1.index, generation: 2))) }.contains("there is none"))
        #expect(
            violation { $0.submit($0.append([[1, 2]], to: $1, at: 0), $0.append([[3]], to: $1, at: 1)) }
                .contains("same place"))
        #expect(
            violation { bench, _ in bench.submit(bench.append([[1]], to: bench.directory, at: 0)) }
                .contains("it is no file"))
        #expect(violation { $0.submit(.delete($0.text("log"), in: $1)) }.contains("no directory"))
        #expect(violation { $0.submit($0.append([[1]], to: $1, at: -1)) }.contains("offset below 0"))
        #expect(
            violation { bench, _ in
                let slot = bench.newSlot()
                _ = bench.value(.openFile(bench.text("log"), in: bench.directory, as: slot, isReadOnly: true))
                bench.submit(bench.append([[1]], to: slot, at: 0))
            }.contains("reading only"))
    }

    @Test("Memory that changes while the disk has it is a violation")
    func changedMemoryIsFound() {
        let bench = DiskBench()
        let file = bench.create("log")
        let append = bench.append([[1, 2, 3]], to: file, at: 0)
        bench.submit(append)
        let vectors = append.pointer!.assumingMemoryBound(to: iovec.self)
        vectors[0].iov_base.storeBytes(of: 9, as: UInt8.self)
        _ = bench.settle()
        #expect(bench.disk.violation?.contains("the bytes were changed") == true)

        let other = DiskBench()
        let name = other.text("log")
        other.submit(.createFile(name, in: other.directory, as: other.newSlot()))
        UnsafeMutablePointer(mutating: name)[0] = 65
        _ = other.settle()
        #expect(other.disk.violation?.contains("the name was changed") == true)
    }

    // MARK: Errors

    @Test("A full disk refuses bytes until a file is deleted and closed")
    func diskIsFull() {
        let bench = DiskBench()
        bench.disk.blockCountMax = 3
        let first = bench.create("first")
        let second = bench.create("second")
        #expect(bench.value(.allocate(8192, of: first, at: 0)) == 0)
        #expect(bench.value(bench.append([[1]], to: second, at: 0)) == 1)
        #expect([-ENOSPC, -EDQUOT].contains(bench.value(bench.append([[1]], to: second, at: 4096))))
        // What has room already is written on.
        #expect(bench.value(bench.append([[1]], to: second, at: 4095)) == 1)
        #expect(bench.value(bench.append([[UInt8](letters: "a")], to: first, at: 4000)) == 256)
        #expect(bench.value(.delete(bench.text("first"), in: bench.directory)) == 0)
        #expect(bench.value(.allocate(4096, of: second, at: 4096)) == -ENOSPC)
        #expect(bench.value(.closeFile(first)) == 0)
        #expect(bench.value(.allocate(4096, of: second, at: 4096)) == 0)
    }

    @Test("A failed sync is final for its handle, and bytes may be gone that programs still read")
    func failedSyncIsFinal() {
        let bench = DiskBench()
        let file = bench.create("log")
        _ = bench.value(.sync(bench.directory))
        _ = bench.value(bench.append([[UInt8](letters: "a")], to: file, at: 0))
        bench.disk.faults[StorageFault.syncFailed.rawValue] = 1000
        let failure = bench.value(.sync(file))
        #expect(failure < 0)
        bench.disk.faults[StorageFault.syncFailed.rawValue] = 0
        #expect(bench.value(.sync(file)) == failure)
        #expect(bench.value(bench.append([[1]], to: file, at: 4096, isDurable: true)) == failure)
        #expect(bench.read(256, of: file, at: 0) == [UInt8](letters: "a"))
        // Another handle is not told.
        let other = bench.open("log")
        #expect(bench.value(.sync(other)) == 0)

        let fates = Set(
            (1...100).map { seed in
                let bench = DiskBench(seed: UInt64(seed))
                let file = bench.create("log")
                _ = bench.value(.sync(bench.directory))
                _ = bench.value(bench.append([[UInt8](letters: "a")], to: file, at: 0))
                bench.disk.faults[StorageFault.syncFailed.rawValue] = 1000
                _ = bench.value(.sync(file))
                bench.disk.crashMachine(workerCount: 1) { _, _ in true }
                return bench.contents("log")!.letters
            })
        #expect(fates == ["", "a"])
    }

    @Test("An operation that a fault strikes is answered with an errno, and may be tried again")
    func errorsAreAnswered() {
        let bench = DiskBench()
        let file = bench.create("log")
        func failing(_ fault: StorageFault, _ submission: Submission) -> Int32 {
            bench.disk.faults[fault.rawValue] = 1000
            defer { bench.disk.faults[fault.rawValue] = 0 }
            return bench.value(submission)
        }
        let append = bench.append([[1, 2, 3]], to: file, at: 0)
        #expect(failing(.appendFailed, append) == -EIO)
        #expect([-ENOSPC, -EDQUOT].contains(failing(.appendWithoutSpace, append)))
        #expect(bench.value(append) == 3)
        #expect(failing(.readFailed, .read(3, of: file, at: 0, into: bench.memory([0, 0, 0]))) == -EIO)
        #expect(failing(.allocateFailed, .allocate(10, of: file, at: 0)) < 0)
        let slot = bench.newSlot()
        #expect(failing(.createFailed, .createFile(bench.text("new"), in: bench.directory, as: slot)) < 0)
        #expect(failing(.openFailed, .openFile(bench.text("log"), in: bench.directory, as: slot)) < 0)
        #expect(failing(.deleteFailed, .delete(bench.text("log"), in: bench.directory)) < 0)
        #expect(bench.names == ["log"])
        #expect(failing(.directorySyncFailed, .sync(bench.directory)) < 0)
        #expect(bench.value(.sync(bench.directory)) < 0)
        let failure = failing(.appendFailed, bench.append([[4]], to: file, at: 8, isDurable: true))
        #expect(failure == -EIO)
        #expect(bench.value(.sync(file)) == -EIO)
    }
}
