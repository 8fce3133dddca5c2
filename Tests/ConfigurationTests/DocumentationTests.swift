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
        codes(in: row).filter { $0.hasSuffix(".swift") }.map { $0.contains("/") ? $0 : "Sources/Broker/\($0)" }
    }

    private static func rows(of text: String) -> [Substring] {
        text.split(separator: "\n").filter { $0.hasPrefix("| ") && !$0.hasPrefix("|---") }
    }

    @Test("Every file that a page names is there", arguments: pages)
    func filesExist(page: String) throws {
        for code in Self.codes(in: try Self.text(of: page)) {
            if Self.isPath(code) {
                #expect(Self.paths.contains(code), "\(code)")
            } else if Self.isFileName(code) {
                #expect(Self.fileNames.contains(code), "\(code)")
            }
        }
    }

    @Test("Every constant in the tables of memory is in one of the files of its row")
    func thresholdsExist() throws {
        let rows = Self.rows(of: try Self.text(of: "\(Self.catalogue)/Memory-thresholds.md"))
        #expect(rows.count > 20)
        for row in rows {
            let texts = try Self.sources(namedIn: row).map { try Self.text(of: $0) }
            for code in Self.codes(in: row) where Self.isName(code) {
                let name = code.prefix { $0 != "(" }
                #expect(texts.contains { $0.contains(name) }, "\(name)")
            }
        }
    }

    @Test("The page about limits names every limit and its key", arguments: LimitKind.allCases)
    func limitsAreListed(_ limit: LimitKind) throws {
        let codes = Set(Self.codes(in: try Self.text(of: "\(Self.catalogue)/How-limits-are-built.md")))
        #expect(codes.contains("\(limit)"))
        #expect(limit == .queue || codes.contains(limit.key), "\(limit.key)")
    }

    @Test("The page about sessions names every flag and every state")
    func sessionsAreDescribed() throws {
        let sources = Self.paths.filter { $0.hasPrefix("Sources/Broker/") && $0.hasSuffix(".swift") }.sorted()
        let records = try sources.map { try Self.text(of: $0) }.joined(separator: "\n")
        let codes = Set(Self.codes(in: try Self.text(of: "\(Self.catalogue)/Session-states.md")))
        let flags = records.matches(of: /static let (\w+) = SessionFlags\(/).map { String($0.1) }
        let states = try #require(records.firstMatch(of: /enum SessionState[^{]*\{([^}]*)\}/)).1
            .matches(of: /case (\w+)/).map { String($0.1) }
        #expect(flags.count > 10 && states.count > 3)
        for name in flags + states { #expect(codes.contains(name), "\(name)") }
    }
}
