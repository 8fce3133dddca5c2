import Glibc
import Simulator

/// Many seeds in several processes, counted together.
///
/// Processes rather than threads: two of them do not wait for each other's page tables, a seed that breaks an invariant
/// ends its own process only, and one that never ends can be ended. A worker tells one line for each seed that it has
/// finished (`SeedReport`), in order, so the campaign knows on which seed a worker is that dies or falls silent.
struct Campaign {
    struct Totals {
        var seeds = 0
        var turns = 0
        var frames = 0
        var messages = 0
        var violations = 0
        /// Of all seeds and their traces, whatever the order in which they were run.
        var traces: UInt64 = 0
        /// As in `SeedReport`.
        var faults = [Int](repeating: 0, count: SeedReport.faultCount)
    }

    /// The broker stores messages and crashes.
    var crashes = false
    var canary: String?
    var mode = Simulation.Mode.plain
    var isVerbose = false
    /// At the end, one hash of all seeds' traces: the same where every seed's trace is the same.
    var printsCombinedTrace = false
    var violationsMax = 10
    /// Seconds that one seed may take.
    var patience = 60
    private(set) var totals = Totals()
    /// Ranges of seeds that nobody has taken yet, last first.
    private var ranges: [ClosedRange<UInt64>] = []
    private var workers: [Worker] = []

    init(seeds: ClosedRange<UInt64>, jobs: Int) {
        // A worker starts in a hundredth of a second, and the last ones should end at about the same time.
        let share = (seeds.upperBound - seeds.lowerBound) / UInt64(jobs * 4) + 1
        let size = min(max(share, 50), 1000)
        var first = seeds.lowerBound
        while true {
            let (sum, overflows) = first.addingReportingOverflow(size - 1)
            let last = overflows ? seeds.upperBound : min(sum, seeds.upperBound)
            ranges.append(first...last)
            if last == seeds.upperBound { break }
            first = last + 1
        }
        ranges.reverse()
    }

    mutating func run(jobs: Int) {
        let start = seconds()
        // For the workers: what one seed's tables took is taken again by the next one's, so their heaps keep it.
        setenv("MALLOC_MMAP_THRESHOLD_", "\(32 << 20)", 0)
        setenv("MALLOC_TRIM_THRESHOLD_", "\(1 << 30)", 0)
        while totals.violations < violationsMax {
            while workers.count < jobs, let range = ranges.popLast() {
                guard let worker = Worker(range, mode, crashes: crashes, canary: canary, patience: patience) else {
                    print("could not start a worker: \(String(cString: strerror(errno)))")
                    exit(1)
                }
                workers.append(worker)
            }
            if workers.isEmpty { break }
            listen()
        }
        for worker in workers { _ = worker.end(patience: patience) }
        let elapsed = seconds() - start
        print(
            "\(totals.seeds) seeds, \(totals.turns) turns, \(totals.frames) frames, \(totals.messages) messages, "
                + "\(totals.violations) violations, \(Int(Double(totals.seeds) / max(elapsed, 0.001))) seeds/s")
        if printsCombinedTrace { print("combined trace \(String(totals.traces, radix: 16))") }
        for fault in faultCounts(ofBoth: true) { print("  \(fault.name): \(fault.count)") }
    }

    /// Waits for a word of any worker.
    private mutating func listen() {
        var polls = workers.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        _ = poll(&polls, nfds_t(polls.count), -1)
        for place in polls.indices.reversed() where polls[place].revents != 0 {
            let isOpen = workers[place].read()
            while let line = workers[place].nextLine() {
                guard let report = SeedReport(line) else { continue }
                workers[place].seed = report.seed + 1
                count(report)
            }
            if !isOpen { retire(place) }
        }
    }

    /// A worker's end: what it did not come to goes to another.
    private mutating func retire(_ place: Int) {
        let worker = workers.remove(at: place)
        let end = worker.end(patience: patience)
        guard worker.seed <= worker.last else { return }
        totals.seeds += 1
        violated(worker.seed, end)
        if worker.seed < worker.last { ranges.append((worker.seed + 1)...worker.last) }
    }

    private mutating func count(_ report: SeedReport) {
        totals.seeds += 1
        totals.turns += report.turns
        totals.frames += report.frames
        totals.messages += report.messages
        totals.traces &+= Self.mixed(report.seed, UInt64(report.trace, radix: 16) ?? 0)
        for place in totals.faults.indices { totals.faults[place] += report.faults[place] }
        if !report.violation.isEmpty {
            violated(report.seed, "trace \(report.trace): \(report.violation)")
        } else if isVerbose {
            print("seed \(report.seed) trace \(report.trace)")
        }
        if totals.seeds % 10_000 == 0 {
            print("\(totals.seeds) seeds, \(totals.violations) violations")
            fflush(nil)
        }
    }

    /// SplitMix64's finaliser, so that two traces that are exchanged between seeds make another sum.
    private static func mixed(_ seed: UInt64, _ trace: UInt64) -> UInt64 {
        var value = trace &+ seed &* 0x9E37_79B9_7F4A_7C15
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    private mutating func violated(_ seed: UInt64, _ text: String) {
        totals.violations += 1
        print("VIOLATION seed \(seed): \(text)")
        fflush(nil)
    }

    /// Faults that struck less often than `count` times.
    func rareFaults(below count: Int) -> [String] {
        faultCounts(ofBoth: false).filter { $0.count < ($0.isRare ? count / 100 : count) }.map(\.name)
    }

    /// A campaign of crashes is there for the faults of storage, and one of transports for theirs. The others strike too, but
    /// not each of them.
    private func faultCounts(ofBoth: Bool) -> [(name: String, count: Int, isRare: Bool)] {
        let storage = StorageFault.allCases.map {
            ("\($0)", totals.faults[Fault.allCases.count + $0.rawValue], $0.isRare)
        }
        let others = Fault.allCases.map { ("\($0)", totals.faults[$0.rawValue], false) }
        let transports = TransportEvent.allCases.map {
            ("\($0)", totals.faults[Fault.allCases.count + StorageFault.allCases.count + $0.rawValue], false)
        }
        if !crashes, mode != .transports { return others }
        return (ofBoth ? others : []) + (crashes ? storage : []) + (mode == .transports ? transports : [])
    }

    private func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// A process that runs a range of seeds.
private struct Worker {
    let process: pid_t
    let descriptor: Int32
    /// The seed it is on.
    var seed: UInt64
    let last: UInt64
    private var text: [UInt8] = []

    /// nil with `errno` set: no process or no pipe could be had.
    init?(_ range: ClosedRange<UInt64>, _ mode: Simulation.Mode, crashes: Bool, canary: String?, patience: Int) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return nil }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        var words = ["stampede-simulate", "--worker", "--patience", "\(patience)"]
        words += ["--mode", mode.rawValue]
        words += ["--seeds", "\(range.lowerBound)..\(range.upperBound)"]
        if crashes { words.append("--crashes") }
        if let canary { words += ["--canary", canary] }
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        var process: pid_t = 0
        let result = posix_spawn(&process, "/proc/self/exe", &actions, nil, &arguments, environ)
        for argument in arguments { free(argument) }
        posix_spawn_file_actions_destroy(&actions)
        close(ends[1])
        guard result == 0 else {
            close(ends[0])
            errno = result
            return nil
        }
        self.process = process
        descriptor = ends[0]
        seed = range.lowerBound
        last = range.upperBound
    }

    /// False: there is no more to come.
    mutating func read() -> Bool {
        let count = withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 1) { buffer in
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count > 0 { text.append(contentsOf: buffer[..<count]) }
            return count
        }
        return count > 0 || (count < 0 && errno == EINTR)
    }

    mutating func nextLine() -> String? {
        guard let end = text.firstIndex(of: 10) else { return nil }
        let line = String(decoding: text[..<end], as: UTF8.self)
        text.removeSubrange(...end)
        return line
    }

    /// Ends the process if it has not ended, and says how it ended.
    func end(patience: Int) -> String {
        // One that is on its way out keeps the status it has.
        kill(process, SIGKILL)
        var status: Int32 = 0
        waitpid(process, &status, 0)
        close(descriptor)
        switch status & 0x7F {
        case 0: return "the process ended with exit code \(status >> 8 & 0xFF)"
        case SIGALRM: return "no end within \(patience) s"
        default: return "the process ended by signal \(status & 0x7F)"
        }
    }
}
