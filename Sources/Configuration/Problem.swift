/// Where the value of a key came from.
public enum Origin: Sendable, Equatable, CustomStringConvertible {
    case builtIn
    case file(name: String, line: Int)
    case environment(variable: String)
    /// The option as it was written, without its value for `--listen` and the like: "--set", "--workers".
    case commandLine(option: String)

    public var description: String {
        switch self {
        case .builtIn: "default"
        case .file(let name, let line): "file \(name) line \(line)"
        case .environment(let variable): "environment \(variable)"
        case .commandLine(let option): "command line \(option)"
        }
    }

    /// The place as the first word of an error line: "stampede.yaml:12".
    var place: String {
        switch self {
        case .builtIn: "default"
        case .file(let name, let line): "\(name):\(line)"
        case .environment(let variable): variable
        case .commandLine(let option): option
        }
    }
}

/// One thing that is wrong with a configuration: where, which key, what was found and what is allowed, in one line.
public struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// "stampede.yaml:12", "STAMPEDE_IO_WORKERS", "--set".
    public let place: String
    /// "io.uring.sq-entries", "destinations[0].overflow"; empty where no key is concerned.
    public let path: String
    /// "found 100; allowed: a power of two from 64 to 32768, a whole number".
    public let text: String

    public var description: String {
        path.isEmpty ? "\(place): \(text)" : "\(place): \(path): \(text)"
    }
}

/// All that is wrong with a configuration. Never empty.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let problems: [ConfigurationProblem]

    /// One line for each problem.
    public var description: String {
        problems.map(\.description).joined(separator: "\n")
    }
}

/// `text` in double quotes, with what YAML or a terminal would take amiss escaped. YAML and JSON read it back.
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value):
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// `text` quoted, and cut where it would drown the rest of the line.
func excerpt(_ text: String) -> String {
    let countMax = 80
    return text.count <= countMax ? quoted(text) : quoted(String(text.prefix(countMax))) + "..."
}

// MARK: - Suggestions

/// What somebody probably meant who wrote an unknown name.
enum Suggestion {
    /// Words that stand for a key elsewhere, and are too far from its name to be taken for it misspelt.
    private static let otherWords = [
        "listen": "listeners", "listener": "listeners", "port": "listeners", "address": "listeners",
        "bind": "listeners", "host": "listeners", "threads": "io.workers",
    ]

    /// "; did you mean io.workers?", or nothing when no candidate is near.
    static func note(for path: String, among candidates: some Sequence<String>) -> String {
        if let meant = otherWords[String(lastPart(path))] { return "; did you mean \(meant)?" }
        var best: (name: String, distance: Int)?
        for candidate in candidates {
            let distance = min(distance(path, candidate), misplacedDistance(path, candidate))
            if distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        guard let best, best.distance <= max(2, path.count / 4) else { return "" }
        return "; did you mean \(best.name)?"
    }

    /// The right key in the wrong section costs one.
    private static func misplacedDistance(_ path: String, _ candidate: String) -> Int {
        lastPart(path) == lastPart(candidate) ? 1 : .max
    }

    private static func lastPart(_ path: String) -> Substring {
        path[(path.lastIndex(of: ".").map(path.index(after:)) ?? path.startIndex)...]
    }

    /// Levenshtein's distance. Names longer than any key are not compared.
    private static func distance(_ first: String, _ second: String) -> Int {
        let first = Array(first.utf8)
        let second = Array(second.utf8)
        guard first.count <= 128, second.count <= 128 else { return .max }
        var row = Array(0...second.count)
        for (i, byte) in first.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in second.enumerated() {
                let substituted = diagonal + (byte == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(substituted, min(diagonal, row[j]) + 1)
            }
        }
        return row[second.count]
    }
}
