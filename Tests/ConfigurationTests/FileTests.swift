import Broker
import Foundation
import IO
import Testing

@testable import Configuration

/// The problems of a configuration as an operator reads them.
func problems(
    yaml: String, environment: [String: String] = [:], commandLine: [Override] = []
) -> [String] {
    do {
        _ = try EffectiveSettings.load(yaml: yaml, environment: environment, commandLine: commandLine)
        return []
    } catch {
        return error.problems.map(\.description)
    }
}

@Suite("Files")
struct FileTests {
    @Test(
        "An empty file, and one of comments and empty sections, leave the defaults",
        arguments: [
            "", "# nothing\n", "---\n", "io:\nlimits:\n", "io:\n  uring:\n", "destinations:\n", "destinations: []\n",
            "~",
        ])
    func nothing(yaml: String) throws {
        let effective = try EffectiveSettings.load(yaml: yaml)
        let defaults = Settings()
        for setting in Schema.settings {
            #expect(setting.get(effective.settings) == setting.get(defaults))
            #expect(effective.origin(of: setting.path) == .builtIn)
        }
    }

    @Test("Values of every kind are read, with where they came from")
    func values() throws {
        let effective = try EffectiveSettings.load(
            yaml: """
                listeners:
                  - 127.0.0.1:0
                  - "[::1]:61613"
                io:
                  driver: epoll
                  workers: 3
                  uring:
                    sq-entries: 64
                    send-batch: 64
                    receive-mode: "poll"
                    restrict: false
                limits:
                  body-bytes: 2MiB
                  connect-timeout-ms: 1m
                clients-create-destinations: false
                bare-names: reject
                destinations:
                  - match: /queue/orders.#
                    messages-max: 10
                    overflow: drop-oldest
                    message-ttl-ms: 1d
                    dead-letter: ""
                  - {match: "/topic/#"}
                log: {level: debug, format: json}
                """)
        let settings = effective.settings
        #expect(settings.listeners.map(\.description) == ["127.0.0.1:0", "[::1]:61613"])
        #expect(settings.driver == .epoll)
        #expect(settings.workerCount == 3)
        #expect(settings.driverOptions.submissionEntryCount == 64)
        #expect(settings.driverOptions.receiveMode == .poll)
        #expect(!settings.driverOptions.isRestricted)
        #expect(settings.broker.limits.bodyByteCountMax == 2 << 20)
        #expect(settings.broker.limits.connectMillisecondsMax == 60_000)
        #expect(!settings.broker.clientsCreateDestinations)
        #expect(settings.broker.bareNamePrefix == "")
        #expect(settings.logLevel == .debug)
        #expect(settings.logFormat == .json)
        var orders = DestinationPolicy(pattern: "/queue/orders.#")
        orders.queueMessageCountMax = 10
        orders.overflow = .dropOldest
        orders.messageMillisecondsMax = 86_400_000
        orders.deadLetterDestination = ""
        #expect(settings.broker.destinationPolicies == [orders, DestinationPolicy(pattern: "/topic/#")])
        #expect(effective.origin(of: "io.uring.sq-entries") == .file(name: "stampede.yaml", line: 8))
        #expect(effective.origin(of: "destinations[0].overflow") == .file(name: "stampede.yaml", line: 20))
        #expect(effective.origin(of: "io.uring.cq-entries") == .builtIn)
    }

    @Test(
        "An error names file, line and key path, what was found and what is allowed",
        arguments: [
            (
                "io:\n  workers: 129",
                "2: io.workers: found \"129\"; allowed: 0 (one per available CPU), or 1 to 128, a whole number"
            ),
            (
                "io:\n  workers: \"2\"",
                "2: io.workers: found the text \"2\"; allowed: 0 (one per available CPU), or 1 to 128, "
                    + "a whole number"
            ),
            (
                "\nio:\n  uring: {sq-entries: 100}",
                "3: io.uring.sq-entries: found \"100\"; allowed: a power of two from 64 to 32768, a whole number"
            ),
            (
                "limits:\n  body-bytes: 1MB",
                "2: limits.body-bytes: found \"1MB\"; allowed: 256 to 64MiB, in bytes or with KiB, MiB, GiB"
            ),
            (
                "limits:\n  linger-ms: [1]",
                "2: limits.linger-ms: found a list; allowed: 10ms to 1m, in milliseconds or with ms, s, m, h, d"
            ),
            (
                "limits:\n  linger-ms:\n",
                "2: limits.linger-ms: found nothing; allowed: 10ms to 1m, in milliseconds or with ms, s, m, h, d"
            ),
            (
                "io:\n  uring:\n    restrict: yes",
                "3: io.uring.restrict: found \"yes\"; allowed: true or false"
            ),
            ("io:\n  driver: uringg", "2: io.driver: found \"uringg\"; allowed: auto, uring, epoll"),
            ("io: fast", "1: io: found \"fast\"; allowed: a mapping of keys"),
            ("- io", "1: found a list; allowed: a mapping of sections and keys"),
            ("io", "1: found \"io\"; allowed: a mapping of sections and keys"),
            (
                "listeners: [\"127.0.0.1:1\", here]",
                "1: listeners[1]: found \"here\"; allowed: one or several of "
                    + ListenerURL.allowed
            ),
            (
                "listeners: []",
                "1: listeners: found an empty list; allowed: one or several of "
                    + ListenerURL.allowed
            ),
            ("io:\n  wokers: 2", "2: io.wokers: unknown key; did you mean io.workers?"),
            ("workers: 2", "1: workers: unknown key; did you mean io.workers?"),
            ("listen: x", "1: listen: unknown key; did you mean listeners?"),
            ("io:\n  port: 1", "2: io.port: unknown key; did you mean listeners?"),
            ("limit:\n  body-bytes: 1", "1: limit: unknown key; did you mean limits?"),
            ("colour: red", "1: colour: unknown key"),
            ("? [a]\n: 1", "1: found a list as a key; allowed: a name"),
            (
                "io:\n  workers: 1\n  driver: auto\n  workers: 2",
                "4: io.workers: given more than once, first in line 2"
            ),
            ("\"log\": {}\nlog: {}", "2: log: given more than once, first in line 1"),
            ("destinations: 3", "1: destinations: found \"3\"; allowed: a list of mappings"),
            (
                "destinations:\n  - /queue/a",
                "2: destinations[0]: found \"/queue/a\"; allowed: a mapping with the key match"
            ),
            (
                "destinations:\n  - overflow: block",
                "2: destinations[0]: the key match is missing; allowed: \(DestinationPattern.allowed)"
            ),
            (
                "destinations:\n  - match: /queue/a\n    overflov: block",
                "3: destinations[0].overflov: unknown key; did you mean overflow?"
            ),
            (
                "destinations:\n  - match: orders",
                "2: destinations[0].match: found \"orders\"; allowed: \(DestinationPattern.allowed)"
            ),
            (
                "destinations:\n  - match: /queue/a\n    dead-letter: /queue/*",
                "3: destinations[0].dead-letter: found \"/queue/*\"; allowed: \"\" (drop them), or a "
                    + DestinationPattern.allowedName
            ),
            (
                "a: 1\n---\nb: 2",
                "2: not YAML: but found another document in column 1 (expected a single document in the stream, line 1)"
            ),
        ])
    func errors(yaml: String, expected: String) {
        #expect(problems(yaml: yaml) == ["stampede.yaml:" + expected])
    }

    @Test(
        "What is not YAML is an error with its line",
        arguments: [
            ("io:\n  workers: [1\nlog: {}", 3), ("io:\n\tworkers: 1", 2), ("a: b: c", 1), ("a: 'b", 1),
            ("a: *nowhere", 1),
        ])
    func syntax(yaml: String, line: Int) throws {
        let found = problems(yaml: yaml)
        #expect(found.count == 1)
        #expect(try #require(found.first).hasPrefix("stampede.yaml:\(line): not YAML: "), "\(found)")
        #expect(!found[0].contains("\n"))
    }

    @Test("A tab where YAML has spaces is named as what it is")
    func tab() {
        #expect(
            problems(yaml: "io:\n\tworkers: 1") == [
                "stampede.yaml:2: not YAML: found character that cannot start any token in column 1 (while scanning for "
                    + "the next token, line 2); this is a tab: indent with spaces"
            ])
        #expect(problems(yaml: "a: *nowhere").allSatisfy { !$0.contains("tab") })
    }

    @Test("All errors of a file are reported, in the order of its lines")
    func allErrors() {
        let found = problems(
            yaml: """
                io:
                  workers: many
                  workers: more
                  wokers: 1
                limits: {body-bytes: 1, body-bytes: 2, headers-max: 0}
                log: {level: loud}
                log: {format: xml}
                """)
        let lines = found.map { $0.split(separator: ":")[1] }
        #expect(lines == ["3", "3", "4", "5", "5", "5", "7", "7"])
        for part in [
            ":7: log: given more than once, first in line 6", ":3: io.workers: given more than once, first in line 2",
            ":3: io.workers: found \"more\"", ":4: io.wokers: unknown key",
            ":5: limits.body-bytes: given more than once",
            ":5: limits.body-bytes: found \"2\"", ":5: limits.headers-max: found \"0\"",
            ":7: log.format: found \"xml\"",
        ] {
            #expect(found.contains { $0.contains(part) }, "\(part) is not in \(found)")
        }
    }

    @Test("What was found is escaped and cut")
    func excerpts() throws {
        let text = try #require(
            problems(yaml: "log: {level: \"\\e[31m\\n\(String(repeating: "x", count: 500))\"}").first)
        #expect(text.contains("\"\\u001b[31m\\nxxx"))
        #expect(text.count < 250)
    }

    @Test("A file that cannot be read is an error that says why")
    func unreadable() throws {
        let directory = FileManager.default.temporaryDirectory
        let missing = directory.appending(path: UUID().uuidString).path
        #expect(throws: ConfigurationError.self) { try EffectiveSettings.load(file: missing) }
        do {
            _ = try EffectiveSettings.load(file: missing)
        } catch {
            #expect(error.description == "\(missing): cannot be read: No such file or directory")
        }
        let binary = directory.appending(path: UUID().uuidString)
        try Data([0x6C, 0x6F, 0x67, 0xFF]).write(to: binary)
        defer { try? FileManager.default.removeItem(at: binary) }
        do {
            _ = try EffectiveSettings.load(file: binary.path)
            Issue.record("bytes that are no text were read")
        } catch {
            #expect(error.description == "\(binary.path): cannot be read: not UTF-8 text")
        }
        do {
            _ = try EffectiveSettings.load(file: directory.path)
            Issue.record("a directory was read")
        } catch {
            #expect(error.description == "\(directory.path): cannot be read: Is a directory")
        }
    }
}
