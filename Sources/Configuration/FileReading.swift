import Glibc
import Yams

/// Parses the text of a configuration file into a tree of YAML nodes.
///
/// Yams stops with an error at a mapping that has a key twice. To report such a key with its path, together with all
/// other problems, its first occurrence is renamed in the text by a prefix, which moves no line, and the text is parsed
/// again. The walk over the tree recognises the prefix.
enum ConfigurationFile {
    static let duplicatePrefix = "duplicate-key--"

    /// If more keys than this are repeated, the rest is reported only after these are corrected.
    private static let duplicatesMax = 32

    /// A configuration with every key has about 20 KiB. A much larger file was named by mistake.
    static let byteCountMax = 1 << 20

    /// The root node. nil: the text has no content.
    static func compose(_ yaml: String) throws -> Node? {
        var yaml = yaml
        for _ in 0..<duplicatesMax {
            do {
                return try Yams.compose(yaml: yaml)
            } catch YamlError.duplicatedKeysInMapping(_, let context) {
                guard let renamed = renamingKey(in: yaml, at: context.mark) else { break }
                yaml = renamed
            }
        }
        return try Yams.compose(yaml: yaml)
    }

    private static func renamingKey(in yaml: String, at mark: Mark) -> String? {
        var lines = yaml.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.indices.contains(mark.line - 1) else { return nil }
        var scalars = Array(lines[mark.line - 1].unicodeScalars)
        var position = mark.column - 1
        guard scalars.indices.contains(position) else { return nil }
        if scalars[position] == "\"" || scalars[position] == "'" { position += 1 }
        scalars.insert(contentsOf: duplicatePrefix.unicodeScalars, at: position)
        var line = String.UnicodeScalarView()
        line.append(contentsOf: scalars)
        lines[mark.line - 1] = Substring(String(line))
        return lines.joined(separator: "\n")
    }

    /// The text of the file at `path`, or why it cannot be read.
    static func text(at path: String) -> Result<String, Failure> {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return .failure(Failure(reason: String(cString: strerror(errno)))) }
        defer { close(fd) }
        var bytes: [UInt8] = []
        while bytes.count <= byteCountMax {
            let start = bytes.count
            bytes.append(contentsOf: repeatElement(0, count: 64 << 10))
            let count = bytes.withUnsafeMutableBytes { read(fd, $0.baseAddress! + start, $0.count - start) }
            bytes.removeLast(bytes.count - start - max(count, 0))
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return .failure(Failure(reason: String(cString: strerror(errno)))) }
            if count == 0 {
                guard let text = String(validating: bytes, as: UTF8.self) else {
                    return .failure(Failure(reason: "not UTF-8 text"))
                }
                return .success(text)
            }
        }
        return .failure(Failure(reason: "larger than \(Unit.bytes.format(byteCountMax))"))
    }

    struct Failure: Error {
        let reason: String
    }

    /// The error of the parser in one line, with the line number if it has one.
    static func explain(_ error: any Error) -> (line: Int, text: String) {
        switch error {
        case YamlError.scanner(let context, let problem, let mark, let yaml),
            YamlError.parser(let context, let problem, let mark, let yaml),
            YamlError.composer(let context, let problem, let mark, let yaml):
            let place = context.map { " (\($0.text), line \($0.mark.line))" } ?? ""
            let note = isTab(at: mark, in: yaml) ? "; this is a tab: indent with spaces" : ""
            return (mark.line, "not YAML: \(problem) in column \(mark.column)\(place)\(note)")
        case YamlError.duplicatedKeysInMapping(let names, let context):
            return (context.mark.line, "key given more than once: \(names.map(quoted).joined(separator: ", "))")
        case YamlError.reader(let problem, _, _, _):
            return (1, "not YAML: \(problem)")
        default:
            return (1, "not YAML")
        }
    }

    private static func isTab(at mark: Mark, in yaml: String) -> Bool {
        let lines = yaml.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.indices.contains(mark.line - 1) else { return false }
        return lines[mark.line - 1].unicodeScalars.dropFirst(mark.column - 1).first == "\t"
    }
}

extension EffectiveSettings {
    mutating func read(file path: String) {
        switch ConfigurationFile.text(at: path) {
        case .success(let text):
            read(yaml: text, name: path)
        case .failure(let failure):
            problems.append(ConfigurationProblem(place: path, path: "", text: "cannot be read: \(failure.reason)"))
        }
    }

    mutating func read(yaml: String, name: String) {
        do {
            guard let root = try ConfigurationFile.compose(yaml) else { return }
            var walk = FileWalk(name: name, effective: self)
            walk.read(root: root)
            self = walk.effective
        } catch {
            let (line, text) = ConfigurationFile.explain(error)
            report(.file(name: name, line: line), "", text)
        }
    }
}
