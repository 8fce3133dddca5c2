import Permissions
import Yams

/// The text of a users file, changed in place: comments, order and spaces of all else stay as they are.
///
/// It works on lines, and knows by the marks of the parsed nodes which ones belong to a user. To add and remove users takes
/// block style, one key on a line; a password is changed in `{}` too. Whatever comes out as something else than was meant is
/// refused.
public struct UsersFileText: Sendable {
    /// Why a text was not changed.
    public struct Failure: Error, Equatable, Sendable {
        public let reason: String
    }

    public private(set) var text: String
    private let name: String
    private let limits: PatternLimits
    public private(set) var file: UsersFile

    /// - Throws: the problems of the file. One that is wrong is not changed.
    public init(_ text: String, name: String, _ limits: PatternLimits) throws(AccessError) {
        self.text = text
        self.name = name
        self.limits = limits
        file = try UsersFile(text, name: name, limits)
    }

    /// The text of a new file, with roles that allow nothing yet.
    public static func new(roles: [String]) -> String {
        var text = """
            # Who may connect to the broker (access.users), and what they may do. `stampede user` changes users; roles are
            # written by hand. A reload (SIGHUP) puts changes into force.
            users:
            roles:

            """
        for role in roles {
            text += """
                  \(role):
                    # Patterns of destinations, as in /topic/news.# or /queue/{user}.*; [] allows nothing.
                    publish: []
                    subscribe: []

                """
        }
        return text
    }

    // MARK: Changing

    public mutating func add(_ user: String, _ hash: PasswordHash, roles: [String]) throws(Failure) {
        guard file.users[user] == nil else { throw Failure(reason: "there is a user \(quoted(user)) already") }
        if let problem = UsersFile.problem(ofUserName: user) { throw Failure(reason: "the user's name \(problem)") }
        for role in roles where file.roles[role] == nil {
            let known = file.roles.isEmpty ? "none is defined" : file.roleNames.joined(separator: ", ")
            throw Failure(reason: "there is no role \(quoted(role)) in \(name); allowed: \(known)")
        }
        var lines = try editableLines()
        let root = self.root()
        var indentation = 2
        var place = lines.count
        if let (key, value) = entry("users", in: root) {
            let line = self.line(key)
            guard let mapping = value.mapping, !mapping.isEmpty else {
                guard lines[line].hasSuffix("users:") || lines[line].contains("users: #") else { throw notBlock }
                place = line + 1
                return try finish(&lines, at: place, user, hash, roles, indentation)
            }
            guard let last = mapping.map(\.key).last, begins(last, lines) else { throw notBlock }
            indentation = column(last)
            place = lines.end(ofEntryAt: self.line(last), indentation)
        } else {
            lines.append("users:")
            place = lines.count
        }
        try finish(&lines, at: place, user, hash, roles, indentation)
    }

    private mutating func finish(
        _ lines: inout Lines, at place: Int, _ user: String, _ hash: PasswordHash, _ roles: [String], _ indentation: Int
    ) throws(Failure) {
        let margin = String(repeating: " ", count: indentation)
        lines.insert(
            [
                "\(margin)\(Self.scalar(user)):", "\(margin)  hash: \(Self.scalar(hash.text))",
                "\(margin)  roles: [\(roles.map(Self.scalar).joined(separator: ", "))]",
            ], at: place)
        try accept(lines) { users in users[user] = (hash.text, roles) }
    }

    public mutating func setHash(_ hash: PasswordHash, of user: String) throws(Failure) {
        let (key, value) = try entry(ofUser: user)
        var lines = try editableLines()
        guard let mapping = value.mapping else { throw notBlock }
        let scalar = Self.scalar(hash.text)
        if let (_, old) = entry("hash", in: mapping) {
            try lines.replaceScalar(at: line(old), column(old), with: scalar, orElse: notBlock)
        } else if lines[line(value)].dropFirst(column(value)).first == "{" {
            let separator = mapping.isEmpty ? "" : ", "
            lines.insert("hash: \(scalar)\(separator)", behindBraceAt: line(value), column(value))
        } else {
            guard let first = mapping.first?.key, begins(first, lines) else { throw notBlock }
            let margin = String(repeating: " ", count: column(first))
            lines.insert(["\(margin)hash: \(scalar)"], at: line(key) + 1)
        }
        let roles = file.users[user]?.roles ?? []
        try accept(lines) { users in users[user] = (hash.text, roles) }
    }

    public mutating func remove(_ user: String) throws(Failure) {
        let (key, _) = try entry(ofUser: user)
        var lines = try editableLines()
        guard begins(key, lines) else { throw notBlock }
        lines.remove(line(key)..<lines.end(ofEntryAt: line(key), column(key)))
        try accept(lines) { users in users[user] = nil }
    }

    /// Takes the lines for the text, if they say what was meant.
    private mutating func accept(
        _ lines: Lines, _ change: (inout [String: (hash: String?, roles: [String])]) -> Void
    ) throws(Failure) {
        var expected = file.users.mapValues { (hash: $0.hash?.text, roles: $0.roles) }
        change(&expected)
        let changed = lines.text
        guard let result = try? UsersFile(changed, name: name, limits), result.roles == file.roles,
            result.users.count == expected.count,
            result.users.allSatisfy({ name, user in
                expected[name].map { $0.hash == user.hash?.text && $0.roles == user.roles } ?? false
            })
        else { throw notBlock }
        text = changed
        file = result
    }

    // MARK: Pieces

    /// The lines as YAML counts them. It ends lines with more than line feeds (YAML 1.1, section 4.2).
    private func editableLines() throws(Failure) -> Lines {
        let hasOtherEnds = text.unicodeScalars.contains { [0x0D, 0x85, 0x2028, 0x2029].contains($0.value) }
        if hasOtherEnds {
            throw Failure(
                reason: "\(name) has lines that do not end with a line feed alone, and is not changed; convert it first"
            )
        }
        return Lines(text)
    }

    private var notBlock: Failure {
        Failure(
            reason:
                "\(name) is written in a style that cannot be changed without losing something; allowed: one key on a "
                + "line, as in the documentation; change it by hand")
    }

    private func root() -> Node.Mapping {
        guard let node = try? Yams.compose(yaml: text) else { return Node.Mapping([]) }
        return node.mapping ?? Node.Mapping([])
    }

    private func entry(_ name: String, in mapping: Node.Mapping) -> (key: Node, value: Node)? {
        mapping.first { $0.key.string == name }.map { ($0.key, $0.value) }
    }

    private func entry(ofUser user: String) throws(Failure) -> (key: Node, value: Node) {
        guard file.users[user] != nil, let users = entry("users", in: root())?.value.mapping,
            let entry = users.first(where: { $0.key.scalar?.string == user })
        else { throw Failure(reason: "there is no user \(quoted(user)) in \(name)") }
        return (entry.key, entry.value)
    }

    /// A key in block style is the first on its line.
    private func begins(_ key: Node, _ lines: Lines) -> Bool {
        lines[line(key)].prefix(column(key)).allSatisfy { $0 == " " }
    }

    /// From 0.
    private func line(_ node: Node) -> Int { (node.mark?.line ?? 1) - 1 }
    private func column(_ node: Node) -> Int { (node.mark?.column ?? 1) - 1 }

    /// Text in double quotes, as YAML and the eye read it.
    private static func scalar(_ text: String) -> String {
        let isPlain =
            text.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || $0 == 0x2D || $0 == 0x5F
            }
            && !["true", "false", "null", "yes", "no", "on", "off"].contains(text.lowercased()) && text.first != "-"
        if isPlain { return text }
        return "\"" + text.flatMap { $0 == "\"" || $0 == "\\" ? "\\\($0)" : "\($0)" } + "\""
    }
}

/// Lines of a text, without their ends.
private struct Lines {
    private var lines: [String]

    init(_ text: String) {
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
    }

    var text: String { lines.map { $0 + "\n" }.joined() }
    var count: Int { lines.count }

    subscript(_ line: Int) -> String { line < lines.count ? lines[line] : "" }

    mutating func append(_ line: String) { lines.append(line) }
    mutating func insert(_ more: [String], at line: Int) { lines.insert(contentsOf: more, at: min(line, lines.count)) }
    mutating func remove(_ range: Range<Int>) { lines.removeSubrange(range.clamped(to: 0..<lines.count)) }

    /// The line behind the last one of the entry that begins at `line`: those behind it that are further in. Comments and
    /// empty lines behind its last key are not its own.
    func end(ofEntryAt line: Int, _ indentation: Int) -> Int {
        var end = line + 1
        for place in lines.indices.dropFirst(line + 1) {
            let content = lines[place].drop { $0 == " " }
            if content.isEmpty || content.first == "#" { continue }
            if lines[place].count - content.count <= indentation { break }
            end = place + 1
        }
        return end
    }

    mutating func insert(_ text: String, behindBraceAt line: Int, _ column: Int) {
        let old = self[line]
        if line < lines.count { lines[line] = old.prefix(column + 1) + text + old.dropFirst(column + 1) }
    }

    /// Replaces a scalar on one line, and keeps what is behind it.
    mutating func replaceScalar(
        at line: Int, _ column: Int, with scalar: String, orElse failure: UsersFileText.Failure
    ) throws(UsersFileText.Failure) {
        let start = lines[line].prefix(column)
        let old = lines[line].dropFirst(column)
        let rest: Substring
        if let quote = old.first, quote == "\"" || quote == "'" {
            // Hashes have no quotes in them.
            guard let end = old.dropFirst().firstIndex(of: quote) else { throw failure }
            rest = old[old.index(after: end)...]
        } else {
            rest = old[(old.firstIndex { " ,}".contains($0) } ?? old.endIndex)...]
        }
        lines[line] = start + scalar + rest
    }
}
