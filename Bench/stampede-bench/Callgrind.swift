import ArgumentParser
import Foundation
import Micro

/// Runs this program under valgrind, which counts the instructions between two marks.
struct CallgrindRun {
    let only: String?
    /// So many repetitions that the start and end of a loop do not matter, and few enough for a program that runs 50
    /// times slower.
    private static let operationCount = 20_000

    /// The instructions of each operation, by name.
    func count(_ cases: [MicroCase]) throws -> [String: Double] {
        let directory = FileManager.default.temporaryDirectory.appending(path: "stampede-micro-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        // valgrind 3.19 fails on the debug information of Swift. The symbols are enough.
        let program = "\(directory.path)/stampede-bench"
        let ourselves = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        try run(["strip", "--strip-debug", "-o", program, ourselves], package: "binutils")
        try run(
            [
                "valgrind", "--tool=callgrind", "--dump-before=instructions_mark", "--quiet",
                "--callgrind-out-file=\(directory.path)/counts", program, "micro", "--count-only",
                "\(Self.operationCount)",
            ] + (only.map { ["--only", $0] } ?? []), package: "valgrind")
        // There is one dump for each mark: the code before a case, then the case itself, and so on.
        var counts: [String: Double] = [:]
        for (position, micro) in cases.enumerated() {
            let path = "\(directory.path)/counts.\(position * 2 + 2)"
            let dump = try String(contentsOfFile: path, encoding: .utf8)
            guard let line = dump.split(separator: "\n").last(where: { $0.hasPrefix("totals:") }),
                let total = line.split(separator: " ").last.flatMap({ Double($0) })
            else { throw ValidationError("--instructions: \(path) holds no total") }
            counts[micro.name] = total / Double(Self.operationCount)
        }
        return counts
    }

    /// Runs an installed program and waits for its end.
    private func run(_ words: [String], package: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.standardOutput = FileHandle.nullDevice
        let complaints = Pipe()
        process.standardError = complaints
        try process.run()
        let text = String(decoding: complaints.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ValidationError(
                "--instructions: \(words[0]) failed (apt-get install \(package)): \(text.suffix(300))")
        }
    }
}
