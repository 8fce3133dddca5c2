/// The origin of the value of a key.
public enum Origin: Sendable, Equatable, CustomStringConvertible {
    case builtIn
    case file(name: String, line: Int)
    case environment(variable: String)
    /// The option as it was written, without its value: "--set", "--workers".
    case commandLine(option: String)

    public var description: String {
        switch self {
        case .builtIn: "default"
        case .file(let name, let line): "file \(name) line \(line)"
        case .environment(let variable): "environment \(variable)"
        case .commandLine(let option): "command line \(option)"
        }
    }

    /// The place, as the first word of an error line: "stampede.yaml:12".
    var place: String {
        switch self {
        case .builtIn: "default"
        case .file(let name, let line): "\(name):\(line)"
        case .environment(let variable): variable
        case .commandLine(let option): option
        }
    }
}

/// One problem of a configuration in one line: the place, the key, what was found and what is allowed.
public struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// "stampede.yaml:12", "STAMPEDE_IO_WORKERS", "--set".
    public let place: String
    /// "io.uring.sq-entries", "destinations[0].overflow". Empty: the problem does not concern a key.
    public let path: String
    /// "found 100; allowed: a power of two from 64 to 32768, a whole number".
    public let text: String

    public var description: String {
        path.isEmpty ? "\(place): \(text)" : "\(place): \(path): \(text)"
    }
}

/// All problems of a configuration. Never empty.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let problems: [ConfigurationProblem]

    /// The problems as text, one line each.
    public var description: String {
        problems.map(\.description).joined(separator: "\n")
    }
}

/// `text` in double quotes. Characters that YAML, JSON or a terminal would misinterpret are escaped.
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

/// `text` in quotes. Long text is cut.
func excerpt(_ text: String) -> String {
    let countMax = 80
    return text.count <= countMax ? quoted(text) : quoted(String(text.prefix(countMax))) + "..."
}

// MARK: - Suggestions

/// Suggests the name that an unknown name was probably meant to be.
enum Suggestion {
    /// Names that other programs use for a key, and that are not similar enough to the name of the key to be found as a
    /// misspelling.
    private static let otherWords = [
        "listen": "listeners", "listener": "listeners", "port": "listeners", "address": "listeners",
        "bind": "listeners", "host": "listeners", "threads": "io.workers",
    ]

    /// What other brokers have, and this one has not: why, and what to do instead.
    private static let otherKeys = [
        "access.http.resource-path": resourceNote, "access.http.topic-path": resourceNote,
    ]

    private static let resourceNote =
        ": the service is asked about logins, not about each destination; what a user may do is in its roles, which "
        + "the tags behind `allow` name"

    /// "; did you mean io.workers?", or an empty text if no candidate is similar.
    static func note(for path: String, among candidates: some Sequence<String>) -> String {
        if let note = otherKeys[path] { return note }
        if let meant = otherWords[String(lastPart(path))] { return "; did you mean \(meant)?" }
        var best: (name: String, distance: Int)?
        for candidate in candidates {
            let distance = min(distance(path, candidate), misplacedDistance(path, candidate))
            if distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        guard let best, best.distance <= max(2, path.count / 4) else { return "" }
        return "; did you mean \(best.name)?"
    }

    /// The right key in the wrong section counts as a distance of 1.
    private static func misplacedDistance(_ path: String, _ candidate: String) -> Int {
        lastPart(path) == lastPart(candidate) ? 1 : .max
    }

    private static func lastPart(_ path: String) -> Substring {
        path[(path.lastIndex(of: ".").map(path.index(after:)) ?? path.startIndex)...]
    }

    /// The Levenshtein distance. Names longer than any key are not compared.
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
