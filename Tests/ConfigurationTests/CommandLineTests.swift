import Foundation
import Testing

@testable import Configuration

/// The command line, by running it.
@Suite("Command line")
struct CommandLineTests {
    let stampede: Executable

    init() throws { stampede = try Executable() }

    @Test("--version prints the version, on standard output")
    func version() throws {
        let outcome = try stampede.run(["--version"])
        #expect(outcome.exitCode == 0 && outcome.output == "0.1.0\n" && outcome.error == "")
    }

    @Test("--help names the commands", arguments: [["--help"], ["help"], []])
    func help(arguments: [String]) throws {
        let outcome = try stampede.run(arguments)
        #expect(outcome.exitCode == 0 && outcome.error == "")
        for command in ["serve", "config", "probe", "storage", "tap", "sink"] {
            #expect(outcome.output.contains("  \(command) "))
        }
    }

    @Test(
        "A wrong command is one line and exit code 2",
        arguments: [
            ["serv"], ["serve", "--unknown"], ["serve", "--config"], ["serve", "--workers", "x"], ["serve", "extra"],
            ["serve", "--set", "io.workers"], ["serve", "--driver", "kqueue"], ["config", "--listen", "nowhere"],
            ["probe", "--log-level", "loud"], ["tap"], ["tap", "/topic/a", "--count", "x"], ["sink"],
            ["tap", "/topic/a", "--host", "here:x"],
        ])
    func usage(arguments: [String]) throws {
        let outcome = try stampede.run(arguments)
        #expect(outcome.exitCode == 2)
        #expect(outcome.output == "")
        #expect(outcome.errorLines.count == 1 && outcome.error.hasPrefix("stampede: "), "\(outcome.error)")
    }

    @Test(
        "A bad value is named, a negative number too, and so is the help of the command in use",
        arguments: [
            (["serve", "--workers", "-1"], "--workers: io.workers: found \"-1\"; allowed: 0"),
            (["serve", "--config", ""], "--config: found \"\"; allowed: the name of a file"),
            (["config", "--set", "io.workers=-1"], "--set: io.workers: found \"-1\"; allowed: 0"),
            (
                ["probe", "--connections", "-1"],
                "--connections: found -1; allowed: 1 to 100000000 (see stampede probe --help)"
            ),
            (["tap", "/a", "--count", "-1"], "--count: found -1; allowed: 1 or more (see stampede tap --help)"),
            (["sink", "/a", "--receipt", "-1"], "--receipt: found -1; allowed: 1 or more (see stampede sink --help)"),
            (
                ["tap", "/a", "--from", "bar"],
                "--from: found \"bar\"; allowed: first, last, next, an offset, or @SECONDS since 1970 (see stampede tap"
            ),
            (
                ["config", "--set", "foo=1"],
                "--set: unknown key \"foo\"; stampede config --reference prints all"
            ),
            (["serve", "--workers"], "Missing value for '--workers <workers>' (see stampede serve --help)"),
            (
                ["serve", "--port", "3"],
                "Unknown option '--port'; did you mean --listen HOST:PORT? (see stampede serve --help)"
            ),
            (
                ["tap", "/a", "--port", "3"],
                "Unknown option '--port'; did you mean --host HOST:PORT? (see stampede tap --help)"
            ),
            (["--unknown"], "Unknown option '--unknown' (see stampede --help)"),
        ])
    func badValue(arguments: [String], expected: String) throws {
        let outcome = try stampede.run(arguments)
        #expect(outcome.exitCode == 2)
        #expect(outcome.errorLines.count == 1 && outcome.error.hasPrefix("stampede: " + expected), "\(outcome.error)")
    }

    @Test(
        "serve and config refuse a bad file with all its errors, a line each, and exit code 2",
        arguments: [
            "serve", "config", "probe",
        ])
    func badFile(command: String) throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).yaml")
        try Data("io:\n  workers: many\n  wokers: 1\n".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let outcome = try stampede.run([command, "--config", file.path])
        #expect(outcome.exitCode == 2)
        #expect(
            outcome.errorLines == [
                "stampede: \(file.path):2: io.workers: found \"many\"; allowed: 0 (one per available CPU), or 1 to "
                    + "128, a whole number",
                "stampede: \(file.path):3: io.wokers: unknown key; did you mean io.workers?",
            ])
    }

    /// A Service of Kubernetes may be named so that its variables look like ours.
    @Test("An unknown variable is a warning", arguments: ["config", "probe"])
    func unknownVariable(command: String) throws {
        let outcome = try stampede.run([command], environment: ["STAMPEDE_IO_WORKER": "1"])
        #expect(outcome.exitCode == 0 && !outcome.output.isEmpty)
        #expect(
            outcome.error == "stampede: warning: STAMPEDE_IO_WORKER: is ignored: no key has this variable; did you "
                + "mean STAMPEDE_IO_WORKERS?\n")
    }

    @Test("A missing file is one line and exit code 2, also where STAMPEDE_CONFIG names it")
    func missingFile() throws {
        for outcome in [
            try stampede.run(["serve", "--config", "/nonexistent/x.yaml"]),
            try stampede.run(["serve"], environment: ["STAMPEDE_CONFIG": "/nonexistent/x.yaml"]),
        ] {
            #expect(outcome.exitCode == 2)
            #expect(outcome.error == "stampede: /nonexistent/x.yaml: cannot be read: No such file or directory\n")
        }
    }

    @Test(
        "config prints what is in force and whence: options, --set, variables, the file")
    func effective() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).yaml")
        try Data("io: {workers: 2}\nlimits: {headers-max: 20, linger-ms: 2s}\nlog: {level: debug}\n".utf8).write(
            to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let outcome = try stampede.run(
            [
                "config", "--config", file.path, "--set", "io.workers=5", "--workers", "4", "--listen", "127.0.0.1:0",
                "--listen", "[::1]:0", "--set", "limits.linger-ms=1s",
            ],
            environment: ["STAMPEDE_LIMITS_HEADERS_MAX": "30", "STAMPEDE_LIMITS_LINGER_MS": "3s"])
        #expect(outcome.exitCode == 0 && outcome.error == "")
        let lines = outcome.output.split(separator: "\n").map { $0.split(separator: "#").map { $0.trimmed } }
        for line in [
            ["listeners: [\"127.0.0.1:0\", \"[::1]:0\"]", "command line --listen"],
            ["workers: 4", "command line --workers"],
            ["headers-max: 30", "environment STAMPEDE_LIMITS_HEADERS_MAX"],
            ["linger-ms: 1s", "command line --set"],
            ["level: debug", "file \(file.path) line 3"],
            ["driver: auto", "default"],
        ] {
            #expect(lines.contains(line), "\(line)")
        }
        let again = try EffectiveSettings.load(yaml: outcome.output)
        #expect(again.settings.workerCount == 4)
    }

    @Test("config --reference prints Config/stampede.yaml")
    func reference() throws {
        let outcome = try stampede.run(["config", "--reference"])
        #expect(outcome.exitCode == 0 && outcome.output == ConfigurationReference.yaml)
    }

    @Test("probe names the kernel and the limits that matter")
    func probe() throws {
        let outcome = try stampede.run(["probe"])
        #expect(outcome.exitCode == 0 && outcome.error == "")
        for name in [
            "kernel ", "container", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "kernel.io_uring_disabled", "net.core.somaxconn",
        ] {
            #expect(outcome.output.contains("\n\(name)") || outcome.output.hasPrefix(name), "\(name)")
        }
    }
}

extension Substring {
    var trimmed: String { trimmingCharacters(in: .whitespaces) }
}
