import Configuration
import Glibc

/// Reads octets as a configuration file, as `stampede serve --config` would.
final class ConfigurationFuzzer {
    /// A file without a name, because only files are read.
    private let fd: Int32

    init() {
        var path = Array("/tmp/stampede-fuzz-XXXXXX".utf8CString)
        fd = mkstemp(&path)
        precondition(fd >= 0 && unlink(path) == 0, "no file for a test")
    }

    deinit { close(fd) }

    func check(_ octets: UnsafeRawBufferPointer) -> String? {
        do {
            let effective = try load(octets)
            return checkRoundTrip(effective)
        } catch {
            return checkProblems(error.problems, lineCountMax: lineCountMax(octets))
        }
    }

    private func load(_ octets: UnsafeRawBufferPointer) throws(ConfigurationError) -> EffectiveSettings {
        precondition(ftruncate(fd, 0) == 0 && pwrite(fd, octets.baseAddress, octets.count, 0) == octets.count)
        return try EffectiveSettings.load(file: "/proc/self/fd/\(fd)")
    }

    /// What is in force, written as a file, is in force again when that file is read.
    private func checkRoundTrip(_ effective: EffectiveSettings) -> String? {
        let text = effective.explanation
        do {
            let again = try Array(text.utf8).withUnsafeBytes { (octets) throws(ConfigurationError) in try load(octets) }
            return values(again.explanation) == values(text) ? nil : "the explanation reads back as something else"
        } catch {
            return "the explanation is no configuration: \(error)"
        }
    }

    /// The lines of an explanation without the comments, which tell where a value came from.
    private func values(_ explanation: String) -> [Substring] {
        explanation.split(separator: "\n").map { line in
            guard let comment = line.lastIndex(of: "#") else { return line }
            return line[..<comment]
        }
    }

    /// YAML has more line ends than LF: CR, and three of Unicode, which are told here by their last octets. What is
    /// missing at the end of the text is missing in the line behind the last.
    private func lineCountMax(_ octets: UnsafeRawBufferPointer) -> Int {
        let lastOctets: Set<UInt8> = [UInt8(ascii: "\n"), UInt8(ascii: "\r"), 0x85, 0xA8, 0xA9]
        return octets.count { lastOctets.contains($0) } + 2
    }

    /// Each names the file, a line that there is, and what is wrong, in one line.
    private func checkProblems(_ problems: [ConfigurationProblem], lineCountMax: Int) -> String? {
        if problems.isEmpty { return "an error without a problem" }
        for problem in problems {
            if problem.text.isEmpty || problem.description.contains(where: \.isNewline) {
                return "not one line: \(problem.description.debugDescription)"
            }
            if problem.text.hasPrefix("cannot be read") { continue }
            let line = problem.place.split(separator: ":").last.flatMap { Int($0) }
            guard problem.place.hasPrefix("/proc/self/fd/"), let line, line >= 1, line <= lineCountMax else {
                return "without a place: \(problem.description)"
            }
        }
        return nil
    }
}
