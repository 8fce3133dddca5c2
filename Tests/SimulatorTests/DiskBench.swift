import Glibc
import IO
import Slabs

@testable import Simulator

/// A disk, and one worker that submits to it. Memory of submissions stays until the bench ends.
final class DiskBench {
    let disk: SimulatedDisk
    private(set) var now: UInt64 = 1_000_000_000
    private var answers = Batch<Completion>(capacity: 16)
    private var memory: [UnsafeMutableRawPointer] = []
    private var slotCount: UInt32 = 0
    private(set) var directory = Slot.none

    static let path = "/store"

    init(seed: UInt64 = 1) {
        disk = SimulatedDisk(workerCount: 1, seed: seed)
        disk.makeDirectory(Self.path)
        openDirectory()
    }

    deinit { for piece in memory { piece.deallocate() } }

    func openDirectory() {
        directory = newSlot()
        _ = value(.openDirectory(text(Self.path), as: directory))
    }

    func newSlot() -> Slot {
        slotCount += 1
        return Slot(index: slotCount, generation: 1)
    }

    func text(_ string: String) -> UnsafePointer<CChar> {
        let bytes = Array(string.utf8) + [0]
        let place = memory(bytes)
        return UnsafePointer(place.assumingMemoryBound(to: CChar.self))
    }

    func memory(_ bytes: [UInt8]) -> UnsafeMutableRawPointer {
        let place = UnsafeMutableRawPointer.allocate(byteCount: max(bytes.count, 1), alignment: 16)
        bytes.withUnsafeBytes { if !$0.isEmpty { memcpy(place, $0.baseAddress!, $0.count) } }
        memory.append(place)
        return place
    }

    func append(_ pieces: [[UInt8]], to file: Slot, at offset: Int, isDurable: Bool = false) -> Submission {
        let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: pieces.count)
        memory.append(UnsafeMutableRawPointer(vectors))
        for (place, piece) in pieces.enumerated() {
            vectors[place] = iovec(iov_base: memory(piece), iov_len: piece.count)
        }
        let sum = pieces.reduce(0) { $0 + $1.count }
        return .append(
            UnsafeRawPointer(vectors), vectorCount: pieces.count, byteCount: sum, to: file, at: offset,
            isDurable: isDurable)
    }

    // MARK: Running

    func submit(_ submissions: Submission...) {
        for submission in submissions { disk.submit(submission, of: 0, now: now) }
    }

    /// The answers until nothing is under way, in their order.
    func settle() -> [Completion] {
        var all: [Completion] = []
        while let due = disk.nextDue(0), disk.violation == nil {
            now = max(now + 1, due)
            disk.collect(0, now: now, &answers)
            for place in 0..<answers.count { all.append(answers[place]) }
            answers.removeAll()
        }
        return all
    }

    /// The value of the only answer.
    func value(_ submission: Submission) -> Int32 {
        submit(submission)
        let all = settle()
        return all.count == 1 ? all[0].value : .min
    }

    func create(_ name: String) -> Slot {
        let file = newSlot()
        return value(.createFile(text(name), in: directory, as: file)) == 0 ? file : .none
    }

    func open(_ name: String) -> Slot {
        let file = newSlot()
        return value(.openFile(text(name), in: directory, as: file)) == 0 ? file : .none
    }

    func read(_ byteCount: Int, of file: Slot, at offset: Int) -> [UInt8]? {
        let buffer = memory([UInt8](repeating: 0, count: byteCount))
        let count = value(.read(byteCount, of: file, at: offset, into: buffer))
        return count < 0 ? nil : Array(UnsafeRawBufferPointer(start: buffer, count: Int(count)))
    }

    // MARK: Crashes

    func contents(_ name: String) -> [UInt8]? { disk.contents(of: name, in: Self.path) }
    var names: [String] { disk.names(in: Self.path) }

    /// Plays the same story again and again and ends it with a crash of the machine, once with each possible series of
    /// choices. Returns what the disk looks like afterwards: the different results of `describe`.
    static func outcomes(
        _ story: (DiskBench) -> Void, describe: (DiskBench) -> String
    ) -> Set<String> {
        var outcomes: Set<String> = []
        // Choices to repeat; behind them every choice is "no", until the last "no" becomes "yes".
        var choices: [Bool] = []
        repeat {
            let bench = DiskBench()
            story(bench)
            var asked = 0
            bench.disk.crashMachine(workerCount: 1) { _, _ in
                if asked == choices.count { choices.append(false) }
                defer { asked += 1 }
                return choices[asked]
            }
            outcomes.insert(describe(bench))
            while choices.last == true { choices.removeLast() }
            if !choices.isEmpty { choices[choices.count - 1] = true }
        } while !choices.isEmpty
        return outcomes
    }
}

extension [UInt8] {
    /// One letter for each 256 bytes that are the same.
    var letters: String {
        var text = ""
        var place = 0
        while place < count {
            let piece = self[place..<Swift.min(place + 256, count)]
            let isEven = piece.allSatisfy { $0 == piece.first }
            text += isEven ? (piece.first == 0 ? "." : String(UnicodeScalar(piece.first!))) : "?"
            place += 256
        }
        return text
    }

    /// 256 bytes for each letter.
    init(letters: String) { self = letters.utf8.flatMap { [UInt8](repeating: $0 == 46 ? 0 : $0, count: 256) } }
}
