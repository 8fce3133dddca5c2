import Glibc
import IO
import Slabs
import Testing

@testable import Simulator

/// What a crash leaves of the simulated disk: each test goes through every choice that the disk has.
@Suite("Simulated disk, crashes")
struct DiskCrashTests {
    /// A file `log` that has 1,024 durable bytes.
    private static func makeLog(_ bench: DiskBench) -> Slot {
        let file = bench.create("log")
        _ = bench.value(bench.append([[UInt8](letters: "....")], to: file, at: 0))
        bench.submit(.sync(file), .sync(bench.directory))
        _ = bench.settle()
        return file
    }

    private static func log(_ bench: DiskBench) -> String { bench.contents("log")?.letters ?? "none" }

    @Test("Each sector of an unsynced write is kept or dropped")
    func writesAreTorn() {
        let outcomes = DiskBench.outcomes { bench in
            _ = bench.value(bench.append([[UInt8](letters: "abcd")], to: Self.makeLog(bench), at: 0))
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["....", "ab..", "..cd", "abcd"])
    }

    @Test("A later write is kept without an earlier one, but not in the same sector")
    func writesAreReordered() {
        let outcomes = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            _ = bench.value(bench.append([[UInt8](letters: "aaa")], to: file, at: 0))
            _ = bench.value(bench.append([[UInt8](letters: "b")], to: file, at: 768))
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["....", "aa..", "..a.", "aaa.", "..ab", "aaab"])
    }

    @Test("Of writes to one place any may be the last")
    func writesOfOnePlace() {
        let outcomes = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            for letter in ["a", "b", "c"] {
                _ = bench.value(bench.append([[UInt8](letters: letter)], to: file, at: 256))
            }
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["....", ".a..", ".b..", ".c.."])
    }

    @Test("A file's growth is lost, or kept without the bytes")
    func growthIsLost() {
        let outcomes = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            _ = bench.value(bench.append([[UInt8](letters: "aabb")], to: file, at: 1024))
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["....", "........", "....aa..", "......bb", "....aabb"])
        let allocations = DiskBench.outcomes { bench in
            _ = bench.value(.allocate(2048, of: Self.makeLog(bench), at: 0))
        } describe: {
            Self.log($0)
        }
        #expect(allocations == ["....", "........"])
    }

    @Test("What was synced, or appended durably, survives every choice")
    func syncedBytesSurvive() {
        let outcomes = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            _ = bench.value(bench.append([[UInt8](letters: "aa")], to: file, at: 0))
            _ = bench.value(.sync(file))
            _ = bench.value(bench.append([[UInt8](letters: "bb")], to: file, at: 512, isDurable: true))
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["aabb"])
    }

    @Test("A durable append promises its own bytes and growth, and nothing of other writes")
    func durableAppendCoversItself() {
        let outcomes = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            _ = bench.value(bench.append([[UInt8](letters: "aa")], to: file, at: 0))
            _ = bench.value(bench.append([[UInt8](letters: "bb")], to: file, at: 1536, isDurable: true))
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["......bb", "aa....bb"])
    }

    @Test("Names that were created and deleted without a sync are kept in any order")
    func entriesAreReordered() {
        let outcomes = DiskBench.outcomes { bench in
            _ = Self.makeLog(bench)
            _ = bench.create("a")
            _ = bench.value(.delete(bench.text("log"), in: bench.directory))
            _ = bench.create("b")
        } describe: {
            $0.names.joined(separator: " ")
        }
        #expect(outcomes == ["log", "a log", "b log", "a b log", "", "a", "b", "a b"])
        let ofOneName = DiskBench.outcomes { bench in
            let file = bench.create("a")
            _ = bench.value(bench.append([[UInt8](letters: "a")], to: file, at: 0, isDurable: true))
            _ = bench.value(.delete(bench.text("a"), in: bench.directory))
            _ = bench.create("a")
        } describe: {
            $0.contents("a")?.letters ?? "none"
        }
        #expect(ofOneName == ["none", "a", ""])
    }

    @Test("A file that was renamed has one of its names")
    func renames() {
        let outcomes = DiskBench.outcomes { bench in
            _ = Self.makeLog(bench)
            _ = bench.value(.rename(bench.text("log"), to: bench.text("new"), in: bench.directory))
            _ = bench.create("other")
        } describe: {
            $0.names.joined(separator: " ")
        }
        #expect(outcomes == ["log", "new", "log other", "new other"])
        let underWay = DiskBench.outcomes { bench in
            _ = Self.makeLog(bench)
            bench.submit(.rename(bench.text("log"), to: bench.text("new"), in: bench.directory))
        } describe: {
            $0.names.joined(separator: " ")
        }
        #expect(underWay == ["log", "new"])
        let synced = DiskBench.outcomes { bench in
            _ = Self.makeLog(bench)
            _ = bench.value(.rename(bench.text("log"), to: bench.text("new"), in: bench.directory))
            _ = bench.value(.sync(bench.directory))
        } describe: {
            $0.names.joined(separator: " ")
        }
        #expect(synced == ["new"])
    }

    @Test("The sync of a file does not keep its name, and that of the directory keeps no bytes")
    func namesAndBytesAreApart() {
        let withoutName = DiskBench.outcomes { bench in
            let file = bench.create("log")
            _ = bench.value(bench.append([[UInt8](letters: "aa")], to: file, at: 0))
            _ = bench.value(.sync(file))
        } describe: {
            Self.log($0)
        }
        #expect(withoutName == ["none", "aa"])
        let withoutBytes = DiskBench.outcomes { bench in
            let file = bench.create("log")
            _ = bench.value(bench.append([[UInt8](letters: "aa")], to: file, at: 0))
            _ = bench.value(.sync(bench.directory))
        } describe: {
            Self.log($0)
        }
        #expect(withoutBytes == ["", "..", "aa"])
    }

    @Test("What is under way is kept, dropped or torn like any other change, and what waits in line leaves nothing")
    func operationsUnderWay() {
        let appends = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            bench.submit(
                bench.append([[UInt8](letters: "aabb")], to: file, at: 0), .sync(file),
                bench.append([[UInt8](letters: "c")], to: file, at: 0 + 1024))
        } describe: {
            Self.log($0)
        }
        #expect(appends == ["....", "aa..", "..bb", "aabb"])
        let names = DiskBench.outcomes { bench in
            _ = Self.makeLog(bench)
            bench.submit(
                .createFile(bench.text("new"), in: bench.directory, as: bench.newSlot()),
                .delete(bench.text("log"), in: bench.directory))
        } describe: {
            $0.names.joined(separator: " ")
        }
        #expect(names == ["log", "log new", "new", ""])
    }

    @Test("The end of the process loses nothing that was answered, and the next crash of the machine may")
    func processEnds() {
        let outcomes = DiskBench.outcomes { bench in
            let file = Self.makeLog(bench)
            _ = bench.value(bench.append([[UInt8](letters: "aa")], to: file, at: 0))
            bench.disk.crashProcess(workerCount: 2)
            #expect(Self.log(bench) == "aa..")
        } describe: {
            Self.log($0)
        }
        #expect(outcomes == ["....", "aa.."])
        // Another life may make them durable.
        let synced = DiskBench.outcomes { bench in
            _ = bench.value(bench.append([[UInt8](letters: "aa")], to: Self.makeLog(bench), at: 0))
            bench.disk.crashProcess(workerCount: 1)
            bench.openDirectory()
            _ = bench.value(.sync(bench.open("log")))
        } describe: {
            Self.log($0)
        }
        #expect(synced == ["aa.."])
    }

    @Test("An append under way when the process ends is there in part")
    func processEndsWithinAnAppend() {
        let lengths = Set(
            (1...200).map { seed in
                let bench = DiskBench(seed: UInt64(seed))
                bench.submit(bench.append([[UInt8](letters: "aaaa")], to: Self.makeLog(bench), at: 0))
                bench.disk.crashProcess(workerCount: 1)
                return bench.contents("log")!.count { $0 != 0 }
            })
        #expect(lengths.contains(0) && lengths.contains { $0 > 0 && $0 < 1024 })
    }

    @Test("A random crash keeps each byte as it was durable or as it was written later", arguments: UInt64(1)...100)
    func randomCrashes(seed: UInt64) {
        let bench = DiskBench(seed: seed)
        var random = Random(seed: seed)
        let file = Self.makeLog(bench)
        for fault in [StorageFault.shortWrite, .slowOperation, .appendFailed, .syncFailed] {
            bench.disk.faults[fault.rawValue] = 60
        }
        // Of each 256 bytes: the letters that may be there.
        var possible = [Set<String>](repeating: ["."], count: 4)
        var last = [String](repeating: ".", count: 4)
        for letter in "abcdefghijklmnop" {
            let place = random.below(4)
            let piece = [UInt8](letters: String(letter))
            let append = bench.append([piece], to: file, at: place * 256, isDurable: random.chance(200))
            if bench.value(append) == 256 {
                last[place] = String(letter)
                if append.kind == .appendFileDurably { possible[place] = [] }
            } else {
                last[place] = "?"
            }
            possible[place].insert(String(letter))
            if random.chance(300), bench.value(.sync(file)) == 0 {
                for place in 0..<4 where last[place] != "?" { possible[place] = [last[place]] }
            }
        }
        bench.disk.crashMachine(workerCount: 1)
        let left = Self.log(bench).map(String.init)
        #expect(left.count == 4)
        for place in 0..<4 where !possible[place].contains("?") && last[place] != "?" {
            #expect(possible[place].contains(left[place]) || left[place] == "?")
        }
        #expect(bench.disk.violation == nil)
    }
}
