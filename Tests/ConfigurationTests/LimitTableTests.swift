import Broker
import Foundation
import Testing

@testable import Configuration

/// What acts as a limit is configuration, and an operator can read about it.
@Suite("The table of limits")
struct LimitTableTests {
    @Test("Each limit that is counted is a key of the configuration", arguments: LimitKind.allCases)
    func isConfiguration(_ limit: LimitKind) {
        // The limits of a queue belong to its destination.
        guard limit != .queue else { return }
        if limit.key.hasPrefix("hosts.") {
            #expect(Schema.hostKeys.contains { "hosts.\($0.path)" == limit.key }, "\(limit.key)")
            return
        }
        #expect(Schema.settings.contains { $0.path == "limits.\(limit.key)" }, "limits.\(limit.key)")
    }

    @Test("The README's table of limits names the key of each limit that is counted", arguments: LimitKind.allCases)
    func isInReadme(_ limit: LimitKind) throws {
        let package = SchemaTests.reference.deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: package.appending(path: "README.md"), encoding: .utf8)
        let section = try #require(text.components(separatedBy: "\n## ").first { $0.hasPrefix("Limits\n") })
        #expect(section.contains("`\(limit.key)`"), "\(limit.key)")
    }
}
