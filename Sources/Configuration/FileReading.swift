import Glibc
import Yams

/// A configuration file's text as a tree of YAML nodes.
///
/// Yams refuses a mapping that has a key twice and stops there. To report such a key with its path, and everything else
/// that is wrong along with it, its first occurrence is renamed in the text (a prefix at the marked place, so that no
/// line moves) and the text is composed again; the walk over the tree recognises the prefix.
enum ConfigurationFile {
    static let duplicatePrefix = "duplicate-key--"

    /// More than this many repeated keys are reported one by one, as they are mended.
    private static let duplicatesMax = 32

    /// A configuration of every key is some 20 KiB; what is far larger was named by mistake.
    static let byteCountMax = 1 << 20

    /// The root node; nil for a text without content.
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

    /// The text of the file at `path`, or why it cannot be had.
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

    /// What the parser says of a text that is no YAML, in one line, with the line number where it has one.
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
