import Attacks
import Foundation
import Glibc
import Load

/// A sample of a broker between two cycles, without clients.
struct SoakSample: Codable, Sendable {
    var seconds = 0.0
    var residentBytes = 0
    var descriptors = 0
    /// The sum over all workers, from the counters that the broker logs.
    var connections = 0
    var blockBytes = 0
    var accepted = 0
    var delivered = 0
    var errors = 0
    var dropped = 0

    private static let widths = [9, 9, 12, 12, 16, 12, 14, 10, 9]

    static var head: String {
        line([
            "seconds", "RSS MiB", "descriptors", "connections", "messages+buffers", "accepted", "delivered", "errors",
            "dropped",
        ])
    }

    var row: String {
        Self.line([
            OutcomeTable.decimals(seconds, 0), OutcomeTable.decimals(Double(residentBytes) / 1_048_576, 2),
            "\(descriptors)", "\(connections)", "\(blockBytes)", "\(accepted)", "\(delivered)", "\(errors)",
            "\(dropped)",
        ])
    }

    private static func line(_ cells: [String]) -> String {
        zip(cells, widths).map { String(repeating: " ", count: max(0, $1 - $0.count)) + $0 }.joined(separator: " ")
    }
}

/// Observes a broker from outside, and asks it for its counters.
struct SoakWatch {
    struct NoReport: Error, CustomStringConvertible { var description: String }

    private let server: RunningServer
    private let start = Date()
    private var logOffset = 0
    private(set) var samples: [SoakSample] = []

    /// How long the broker may take until all clients are gone, and then again until its memory is stable.
    private static let patienceSeconds = 15.0
    /// Longer than a broker keeps unused memory, which is 5 s.
    private static let restSeconds = 6.0
    private static let stepMicroseconds: UInt32 = 100_000

    init(_ server: RunningServer) { self.server = server }

    var seconds: Double { Date().timeIntervalSince(start) }

    /// Waits until the broker has no connections and its memory is stable, or the time for that is over. Then takes a
    /// sample.
    mutating func sample() throws -> SoakSample {
        let began = seconds
        var sample = try report()
        while sample.connections > 0, seconds - began < Self.patienceSeconds {
            usleep(Self.stepMicroseconds)
            sample = try report()
        }
        awaitRest()
        sample = try report()
        samples.append(sample)
        return sample
    }

    private func awaitRest() {
        let began = seconds
        var since = began
        var last = ProcFile.residentByteCount(of: server.process.identifier)
        while seconds - since < Self.restSeconds, seconds - began < Self.patienceSeconds {
            usleep(Self.stepMicroseconds)
            let now = ProcFile.residentByteCount(of: server.process.identifier)
            if now != last { since = seconds }
            last = now
        }
    }

    /// Sends SIGUSR1 and reads the line that each worker logs then.
    private mutating func report() throws -> SoakSample {
        let process = server.process.identifier
        logOffset += server.output(from: logOffset).count
        kill(process, SIGUSR1)
        let stepMicroseconds: UInt32 = 5000
        let stepsMax = 2000
        var lines: [Substring] = []
        for _ in 0..<stepsMax {
            usleep(stepMicroseconds)
            let text = String(decoding: server.output(from: logOffset), as: UTF8.self)
            lines = text.split(separator: "\n").filter { $0.contains("connections-now") && $0.contains("worker=") }
            if lines.count >= server.kind.workers { break }
        }
        guard lines.count >= server.kind.workers else {
            throw NoReport(description: "the broker does not report its counters; has it ended?")
        }
        var sample = SoakSample()
        for line in lines {
            sample.connections += Self.value("connections-now", in: line)
            sample.blockBytes += Self.value("memory", in: line)
            sample.accepted += Self.value("connections", in: line)
            sample.delivered += Self.value("messages-delivered", in: line)
            sample.errors += Self.value("errors", in: line)
            sample.dropped += Self.value("messages-dropped", in: line)
        }
        sample.seconds = seconds
        sample.residentBytes = ProcFile.residentByteCount(of: process)
        sample.descriptors = ProcFile.descriptorCount(of: process)
        return sample
    }

    /// `name=VALUE` or `name="VALUE"` in a line of the log.
    private static func value(_ name: String, in line: Substring) -> Int {
        for word in line.split(separator: " ") {
            guard word.hasPrefix(name), word.dropFirst(name.count).first == "=" else { continue }
            return Int(word.dropFirst(name.count + 1).filter(\.isNumber)) ?? 0
        }
        return 0
    }
}

/// Decides whether the memory of a broker grew.
///
/// The memory that a broker keeps for the next burst (larger tables, names of recently used destinations) differs from
/// cycle to cycle. A leak is never returned, so it also raises the lowest sample. So the lowest sample of the first
/// half is compared with the lowest of the second half.
struct SoakVerdict {
    private let earlier: ArraySlice<SoakSample>
    private let later: ArraySlice<SoakSample>
    private let samples: [SoakSample]
    private let lost: Int
    private let slopeMax: Double
    private static let chanceBytes = 4 << 20
    /// The first samples are skipped, because the broker still fills its pools.
    private static let settlingShare = 4
    private static let samplesMin = 4

    /// - Parameter slopeMax: KiB an hour.
    init(_ samples: [SoakSample], lost: Int, slopeMax: Double) {
        let settled = Array(samples.dropFirst(samples.count / Self.settlingShare))
        self.samples = settled
        earlier = settled[..<(settled.count / 2)]
        later = settled[(settled.count / 2)...]
        self.lost = lost
        self.slopeMax = slopeMax
    }

    private func lowest(_ samples: ArraySlice<SoakSample>, _ value: (SoakSample) -> Int) -> Int {
        samples.map(value).min() ?? 0
    }

    private var span: Double { (samples.last?.seconds ?? 0) - (samples.first?.seconds ?? 0) }
    private var growth: Int { lowest(later, \.residentBytes) - lowest(earlier, \.residentBytes) }
    private var memoryIsFlat: Bool {
        Double(growth) <= Double(Self.chanceBytes) + slopeMax * 1024 * span / 2 / 3600
    }
    private var descriptorsAreFlat: Bool { (samples.last?.descriptors ?? 0) <= (samples.first?.descriptors ?? 0) }
    private var allLeft: Bool { samples.allSatisfy { $0.connections == 0 } }
    private var blocksAreFlat: Bool { lowest(later, \.blockBytes) <= lowest(earlier, \.blockBytes) }

    var isPassed: Bool {
        samples.count >= Self.samplesMin && lost == 0 && memoryIsFlat && descriptorsAreFlat && allLeft && blocksAreFlat
    }

    var lines: [String] {
        guard samples.count >= Self.samplesMin else {
            return ["FAILED: \(samples.count) samples after settling are too few to tell; at least \(Self.samplesMin)"]
        }
        return [
            "memory: lowest \(mebibytes(earlier)) MiB in the earlier half, \(mebibytes(later)) MiB in the later: "
                + word(memoryIsFlat),
            "messages and buffers left: lowest \(lowest(earlier, \.blockBytes)) B in the earlier half, "
                + "\(lowest(later, \.blockBytes)) B in the later: " + word(blocksAreFlat),
            "descriptors: \(samples.last?.descriptors ?? 0), at first \(samples.first?.descriptors ?? 0): "
                + word(descriptorsAreFlat),
            "connections left behind: " + word(allLeft),
            "loads with losses or errors: \(lost)",
            isPassed ? "passed" : "FAILED",
        ]
    }

    private func mebibytes(_ samples: ArraySlice<SoakSample>) -> String {
        OutcomeTable.decimals(Double(lowest(samples, \.residentBytes)) / 1_048_576, 2)
    }

    private func word(_ isGood: Bool) -> String { isGood ? "good" : "BAD" }
}
