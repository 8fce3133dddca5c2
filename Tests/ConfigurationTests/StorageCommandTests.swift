import Foundation
import Glibc
import Journal
import JournalFixtures
import Testing

@testable import Configuration

/// `stampede storage`, by running it, and where the store is.
@Suite("The store")
struct StorageCommandTests {
    let stampede: Executable

    init() throws { stampede = try Executable() }

    /// A directory with a store of some messages in several segments.
    private final class Store {
        let url = FileManager.default.temporaryDirectory.appending(path: "stampede-store-\(UUID().uuidString)")
        let log = TestLog()
        var path: String { url.path }

        init() throws {
            for number in 0..<30 { log.send("message \(number)", to: "/queue/q\(number % 2)") }
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
            try write("format", Array("stampede-storage 1\n".utf8))
            for (name, bytes) in log.files { try write(name.description, bytes) }
        }

        deinit { try? FileManager.default.removeItem(at: url) }

        func write(_ name: String, _ bytes: [UInt8]) throws { try Data(bytes).write(to: url.appending(path: name)) }

        func damage(_ name: SegmentName, at byte: Int) throws {
            var bytes = log.files[name]!
            bytes[byte] ^= 0xFF
            try write(name.description, bytes)
        }

        var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
    }

    @Test("verify says what lives, and changes nothing")
    func verify() throws {
        let store = try Store()
        let before = store.names
        let outcome = try stampede.run(["storage", "verify", store.path])
        #expect(outcome.exitCode == 0 && outcome.error == "")
        #expect(
            outcome.output.split(separator: "\n").suffix(3) == [
                "  /queue/q0: 15 messages", "  /queue/q1: 15 messages", "a broker would start with it",
            ])
        #expect(store.names == before)
        let json = try stampede.run(["storage", "verify", store.path, "--json"])
        let value = try JSONSerialization.jsonObject(with: Data(json.outputBytes)) as? [String: Any]
        #expect(value?["messages"] as? Int == 30)
        #expect(value?["isUsable"] as? Bool == true)
    }

    @Test("Damage is named by file and byte; repair gives it up, keeps a copy, and then it is usable")
    func damage() throws {
        let store = try Store()
        try store.damage(store.log.names[0], at: 64 + 64 + 70)
        let outcome = try stampede.run(["storage", "verify", store.path])
        #expect(outcome.exitCode == 1)
        #expect(outcome.output.contains("damaged: 00000001-0000-00000000.log, byte 128: a record's checksum is wrong"))
        #expect(outcome.output.contains("29 messages and 0 acknowledgements that are intact"))
        #expect(outcome.output.contains("stampede storage repair"))
        let serve = try stampede.run(
            ["serve", "--listen", "127.0.0.1:0", "--driver", "epoll", "--set", "storage.directory=\(store.path)"])
        #expect(serve.exitCode == 1)
        #expect(serve.error.contains("00000001-0000-00000000.log, byte 128"))
        #expect(serve.error.contains("stampede storage verify"))

        let repair = try stampede.run(["storage", "repair", store.path])
        #expect(repair.exitCode == 0 && repair.error == "", "\(repair.error)")
        #expect(repair.output.hasSuffix("mended in 1 place\n"))
        #expect(store.names.contains("damaged-00000001-0000-00000000.log-128"))
        let again = try stampede.run(["storage", "verify", store.path])
        #expect(again.exitCode == 0 && again.output.contains("29 messages"))
        #expect(try stampede.run(["storage", "repair", store.path]).output == "nothing to mend\n")
    }

    @Test("dump shows each record, and bodies for those who ask")
    func dump() throws {
        let store = try Store()
        let outcome = try stampede.run(["storage", "dump", store.path])
        #expect(outcome.exitCode == 0 && outcome.error == "")
        let lines = outcome.output.split(separator: "\n")
        #expect(lines.count { $0.contains(" message ") && $0.contains("queue=/queue/q") } == 30)
        let json = try stampede.run(
            ["storage", "dump", store.path, "--json", "--contents", "--segment", "00000001-0000-00000001.log"])
        let records = json.output.split(separator: "\n").compactMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
        #expect(records.first?["type"] as? String == "segmentHeader")
        let message = try #require(records.first { $0["type"] as? String == "message" })
        let body = try #require(message["body"] as? [UInt8])
        #expect(String(decoding: body, as: UTF8.self).hasPrefix("message "))
        #expect(message["headers"] as? String == "k:v\n")
    }

    @Test("dump names destinations as clients do, and their virtual host beside them")
    func dumpOfHosts() throws {
        let store = try Store()
        store.log.send("x", to: "\u{1}shop\u{1}/queue/a")
        for (name, bytes) in store.log.files { try store.write(name.description, bytes) }
        let outcome = try stampede.run(["storage", "dump", store.path])
        let lines = outcome.output.split(separator: "\n").filter { $0.contains("queue=/queue/a") }
        #expect(lines.count == 1 && lines.first?.contains("host=shop") == true, "\(lines)")
        #expect(!outcome.output.contains("queue=/queue/q0 host="))
        let report = try stampede.run(["storage", "verify", store.path])
        #expect(report.output.contains("  /queue/a (host shop): 1 messages"), "\(report.output)")
    }

    @Test("A directory in use is refused, with the number of its user")
    func inUse() throws {
        let store = try Store()
        let lock = open("\(store.path)/lock", O_RDWR | O_CREAT, 0o600)
        defer { close(lock) }
        #expect(write(lock, "4711\n", 5) == 5)
        #expect(flock(lock, LOCK_EX) == 0)
        for command in ["verify", "dump", "repair"] {
            let outcome = try stampede.run(["storage", command, store.path])
            #expect(outcome.exitCode == 1)
            #expect(outcome.errorLines.count == 1 && outcome.error.contains("is in use by process 4711"))
        }
    }

    @Test("What is no store, or a newer one, is refused with one line")
    func refusals() throws {
        let store = try Store()
        let empty = store.url.appending(path: "empty")
        try FileManager.default.createDirectory(at: empty, withIntermediateDirectories: true)
        for (path, text) in [
            ("/nonexistent", "/nonexistent cannot be opened: No such file or directory"),
            (empty.path, "is not a store"),
        ] {
            let repair = try stampede.run(["storage", "repair", path])
            #expect(repair.exitCode == 1 && repair.error.contains(text), "\(repair.error)")
            let outcome = try stampede.run(["storage", "verify", path])
            #expect(outcome.exitCode == 1 && outcome.errorLines.count == 1)
            #expect(outcome.error.contains(text), "\(outcome.error)")
        }
        try store.write("format", Array("stampede-storage 3\n".utf8))
        let newer = try stampede.run(["storage", "verify", store.path])
        #expect(newer.exitCode == 1 && newer.error.contains("\"stampede-storage 3\""), "\(newer.error)")
        #expect(try stampede.run(["storage", "dump", store.path, "--segment", "x"]).exitCode == 2)
        #expect(try stampede.run(["storage", "dump", store.path, "--contents"]).exitCode == 2)
        #expect(try stampede.run(["storage", "verify"]).exitCode == 2)
    }

    @Test("A store of an older version is looked at and mended as it is, and a broker raises its version")
    func olderFormat() throws {
        let store = try Store()
        func format() throws -> String {
            try String(contentsOf: store.url.appending(path: "format"), encoding: .utf8)
        }
        #expect(try stampede.run(["storage", "verify", store.path]).exitCode == 0)
        #expect(try stampede.run(["storage", "repair", store.path]).exitCode == 0)
        let before = try format()
        #expect(before == "stampede-storage 1\n")
        try store.damage(store.log.names[0], at: 200)
        #expect(try stampede.run(["storage", "repair", store.path]).exitCode == 0)
        let after = try format()
        #expect(after == "stampede-storage 2\n")
        #expect(try stampede.run(["storage", "verify", store.path]).exitCode == 0)
    }

    @Test("A broker that has no place for its store, or cannot write there, does not start")
    func noPlace() throws {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--driver", "epoll"]
        let nowhere = try stampede.run(serve)
        #expect(nowhere.exitCode == 1)
        #expect(nowhere.error.contains("storage.directory") && nowhere.error.contains("storage.enabled"))
        let unwritable = try stampede.run(serve + ["--set", "storage.directory=/proc/stampede"])
        #expect(unwritable.exitCode == 1)
        #expect(unwritable.error.contains("/proc/stampede cannot be made"), "\(unwritable.error)")
    }

    @Test("The store is where the configuration says, else where the environment does")
    func place() {
        var settings = StorageSettings()
        #expect(settings.directory(environment: [:]) == nil)
        var environment = ["HOME": "/home/a"]
        #expect(settings.directory(environment: environment) == "/home/a/.local/state/stampede")
        environment["XDG_STATE_HOME"] = "relative"
        #expect(settings.directory(environment: environment) == "/home/a/.local/state/stampede")
        environment["XDG_STATE_HOME"] = "/state"
        #expect(settings.directory(environment: environment) == "/state/stampede")
        environment["STATE_DIRECTORY"] = "/var/lib/one:/var/lib/two"
        #expect(settings.directory(environment: environment) == "/var/lib/one")
        settings.directory = "/here"
        #expect(settings.directory(environment: environment) == "/here")
    }

    @Test("A segment that could not hold a largest frame or transaction is an error")
    func segments() throws {
        func problems(_ yaml: String) -> [String] {
            do throws(ConfigurationError) {
                _ = try EffectiveSettings.load(yaml: yaml)
                return []
            } catch { return error.problems.map(\.path) }
        }
        #expect(problems("storage: {segment-bytes: 1MiB}") == ["storage.segment-bytes"])
        #expect(problems("storage: {segment-bytes: 67108800}") == ["storage.segment-bytes"])
        #expect(problems("storage: {segment-bytes: 1MiB, enabled: false}") == [])
        #expect(problems("limits: {frames-per-transaction-max: 1000000}") == ["storage.segment-bytes"])
        let usesFiles = try EffectiveSettings.load(yaml: "").settings.driverOptions.usesFiles
        #expect(usesFiles)
    }
}
