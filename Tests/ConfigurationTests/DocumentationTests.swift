import Broker
import Foundation
import Testing

/// The README and the catalogue name files, constants and flags. What they name is there.
@Suite("The documentation")
struct DocumentationTests {
    private static let package = SchemaTests.reference.deletingLastPathComponent().deletingLastPathComponent()
    private static let catalogue = "Sources/Broker/Broker.docc"
    private static let roots = [".ci", "Bench", "Config", "Sources", "Tests"]

    static let pages: [String] = {
        let folder = package.appending(path: catalogue).path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return ["README.md"] + names.filter { $0.hasSuffix(".md") }.sorted().map { "\(catalogue)/\($0)" }
    }()

    /// Every path in the package, folders too.
    private static let paths: Set<String> = {
        var paths: Set<String> = []
        for root in roots {
            paths.insert(root)
            let folder = package.appending(path: root).path
            for path in FileManager.default.enumerator(atPath: folder)?.compactMap({ $0 as? String }) ?? [] {
                paths.insert("\(root)/\(path)")
            }
        }
        return paths
    }()

    private static let fileNames = Set(paths.compactMap { $0.split(separator: "/").last.map(String.init) })

    private static func text(of path: String) throws -> String {
        try String(contentsOf: package.appending(path: path), encoding: .utf8)
    }

    /// The pieces of Markdown between backticks, on one line.
    private static func codes(in text: some StringProtocol) -> [String] {
        text.split(separator: "\n").flatMap { line in
            line.split(separator: "`", omittingEmptySubsequences: false).enumerated()
                .compactMap { $0.offset % 2 == 1 ? String($0.element) : nil }
        }
    }

    /// A file's name without a folder: the names of the sources, which are told from other words by their ending.
    private static func isFileName(_ code: String) -> Bool {
        !code.contains("/") && !code.contains(" ") && [".swift", ".yaml", ".md"].contains { code.hasSuffix($0) }
    }

    /// A path from the package's folder.
    private static func isPath(_ code: String) -> Bool {
        !code.contains(" ") && !code.contains("DATE") && roots.contains { code == $0 || code.hasPrefix("\($0)/") }
    }

    /// A name of the sources, and no key, path or unit.
    private static func isName(_ code: String) -> Bool {
        code.first?.isLetter == true && !code.contains { ".-/".contains($0) }
    }

    /// The sources that a row of a table names.
    private static func sources(namedIn row: Substring) -> [String] {
        codes(in: row).filter { $0.hasSuffix(".swift") }.compactMap { code in
            paths.first { $0 == code || $0.hasSuffix("/\(code)") }
        }
    }

    private static func rows(of text: String) -> [Substring] {
        text.split(separator: "\n").filter { $0.hasPrefix("| ") && !$0.hasPrefix("|---") }
    }

    @Test("Every file that a page names is there", arguments: pages)
    func filesExist(page: String) throws {
        let missing = Self.codes(in: try Self.text(of: page)).filter { code in
            Self.isPath(code) && !Self.paths.contains(code)
                || Self.isFileName(code) && !Self.fileNames.contains(code)
        }
        #expect(missing == [])
    }

    @Test("Every constant in the tables of memory is in one of the files of its row")
    func thresholdsExist() throws {
        let rows = Self.rows(of: try Self.text(of: "\(Self.catalogue)/Memory-thresholds.md"))
        #expect(rows.count > 20)
        for row in rows {
            let texts = try Self.sources(namedIn: row).map { try Self.text(of: $0) }
            for code in Self.codes(in: row) where Self.isName(code) {
                let name = code.prefix { $0 != "(" }
                let isThere = texts.contains { $0.contains(name) }
                #expect(isThere, "\(name)")
            }
        }
    }

    @Test("The page about limits names every limit and its key", arguments: LimitKind.allCases)
    func limitsAreListed(_ limit: LimitKind) throws {
        let codes = Set(Self.codes(in: try Self.text(of: "\(Self.catalogue)/How-limits-are-built.md")))
        let names = limit == .queue ? ["\(limit)"] : ["\(limit)", limit.key]
        #expect(Set(names).subtracting(codes) == [])
    }

    @Test("The page about sessions names every flag and every state")
    func sessionsAreDescribed() throws {
        let codes = Set(Self.codes(in: try Self.text(of: "\(Self.catalogue)/Session-states.md")))
        let sources = try Self.sourcesOfTheCore()
        let flags = sources.matches(of: /static let (\w+) = SessionFlags\(/).map { String($0.1) }
        let states = try Self.cases(of: "SessionState", in: sources)
        #expect(flags.count > 10 && states.count > 3)
        #expect(Set(flags + states).subtracting(codes) == [])
    }

    @Test("The page about peer messages has a row for every kind, and no other")
    func peerMessagesAreDescribed() throws {
        let rows = Self.rows(of: try Self.text(of: "\(Self.catalogue)/Peer-messages.md"))
        let listed = rows.compactMap { Self.codes(in: $0.split(separator: "|")[0]).first }
        let kinds = try Self.cases(of: "PeerMessageKind", in: try Self.sourcesOfTheCore())
        #expect(listed.sorted() == kinds.map { $0.prefix(1).uppercased() + $0.dropFirst() }.sorted())
    }

    private static func sourcesOfTheCore() throws -> String {
        let sources = paths.filter { $0.hasPrefix("Sources/Broker/") && $0.hasSuffix(".swift") }.sorted()
        return try sources.map { try text(of: $0) }.joined(separator: "\n")
    }

    /// The cases of an enum without methods, by its text.
    private static func cases(of name: String, in sources: String) throws -> [String] {
        let start = try #require(sources.firstRange(of: "enum \(name):"))
        let body = sources[start.upperBound...].prefix { $0 != "}" }.drop { $0 != "{" }
        return body.matches(of: /case ([\w, ]+)/).flatMap { $0.1.split(separator: ",") }
            .map { $0.trimmingCharacters(in: .whitespaces) }
    }
}
