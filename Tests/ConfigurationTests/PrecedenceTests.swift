import Broker
import Testing

@testable import Configuration

@Suite("Environment and command line")
struct PrecedenceTests {
    @Test("The command line beats the environment, which beats the file, which beats the default")
    func precedence() throws {
        let yaml = "io: {workers: 2}\nlimits: {headers-max: 10, linger-ms: 1s}\n"
        let environment = ["STAMPEDE_IO_WORKERS": "3", "STAMPEDE_LIMITS_HEADERS_MAX": "11", "PATH": "/bin"]
        let effective = try EffectiveSettings.load(
            yaml: yaml, environment: environment, commandLine: [try #require(Override(assignment: "io.workers=4"))])
        #expect(effective.settings.workerCount == 4)
        #expect(effective.settings.broker.limits.headerCountMax == 11)
        #expect(effective.settings.broker.limits.lingerMillisecondsMax == 1000)
        #expect(effective.settings.broker.limits.bodyByteCountMax == Limits().bodyByteCountMax)
        #expect(effective.origin(of: "io.workers").description == "command line --set")
        #expect(effective.origin(of: "limits.headers-max").description == "environment STAMPEDE_LIMITS_HEADERS_MAX")
        #expect(effective.origin(of: "limits.linger-ms").description == "file stampede.yaml line 2")
        #expect(effective.origin(of: "limits.body-bytes").description == "default")
    }

    @Test("Every key can be set by its variable and by --set", arguments: Schema.settings.map(\.path))
    func everyKey(path: String) throws {
        let setting = try #require(Schema.setting(at: path))
        let text: String
        switch setting.form {
        case .integer(let quantity): text = quantity.unit.format(quantity.range.lowerBound)
        case .flag: text = "false"
        case .choice(let names): text = names[names.count - 1]
        case .list where path == "tls.certificates": text = "chain.pem:key.pem,both.pem"
        case .text where path.hasPrefix("access.http.") && path.hasSuffix("-path"): text = "https://[::1]:2/a"
        case .text, .list: text = "127.0.0.1:1,[::1]:2"
        }
        var byEnvironment = EffectiveSettings()
        byEnvironment.apply(environment: [EnvironmentName.variable(for: path): text])
        var bySet = EffectiveSettings()
        bySet.apply(try #require(Override(assignment: "\(path)=\(text)")))
        for effective in [byEnvironment, bySet] {
            #expect(effective.problems.isEmpty)
            #expect(setting.get(effective.settings) == setting.parseOverride(text))
            #expect(effective.origins.keys.sorted() == [path])
        }
    }

    @Test("Of several values on the command line the last counts")
    func lastWins() throws {
        let overrides = ["io.workers=1", "io.workers=2"].compactMap { Override(assignment: $0) }
        #expect(try EffectiveSettings.load(yaml: "", commandLine: overrides).settings.workerCount == 2)
    }

    @Test("--set takes a key, an equals sign and any text behind the first one")
    func assignments() {
        #expect(Override(assignment: "a.b=c=d")?.path == "a.b")
        #expect(Override(assignment: "a.b=c=d")?.text == "c=d")
        #expect(Override(assignment: "a.b=")?.text == "")
        #expect(Override(assignment: "a.b") == nil)
        #expect(Override(assignment: "=c") == nil)
        #expect(Override(assignment: "") == nil)
    }

    @Test(
        "An error names the variable or the option",
        arguments: [
            (
                ["STAMPEDE_IO_WORKERS": "x"], "",
                "STAMPEDE_IO_WORKERS: io.workers: found \"x\"; allowed: 0 (one per available CPU), or 1 to 128, "
                    + "a whole number"
            ),
            (["STAMPEDE_DESTINATIONS": "x"], "", "STAMPEDE_DESTINATIONS: destinations: can be set in a file only"),
            ([:], "destinations[0].match=x", "--set: destinations[0].match: can be set in a file only"),
            ([:], "io.uring=1", "--set: io.uring: is a section, not a key"),
            (
                [:], "io.uring.cq-entires=1",
                "--set: unknown key \"io.uring.cq-entires\"; did you mean io.uring.cq-entries?"
            ),
            (
                [:], "log.level=",
                "--set: log.level: found \"\"; allowed: trace, debug, info, notice, warning, error, critical"
            ),
            (
                [:], "listeners=127.0.0.1:1,",
                "--set: listeners: found \"\"; allowed: one or several of \(ListenerURL.allowed)"
            ),
        ])
    func errors(environment: [String: String], assignment: String, expected: String) {
        let overrides = [Override(assignment: assignment)].compactMap { $0 }
        #expect(problems(yaml: "", environment: environment, commandLine: overrides) == [expected])
    }

    /// A Service named `stampede-broker` sets STAMPEDE_BROKER_PORT and more, which must not keep the broker down.
    @Test("A variable that is no key's is a warning that names the nearest")
    func unknownVariables() throws {
        let environment = [
            "STAMPEDE_BROKER_PORT": "tcp://10.0.0.1:61613", "STAMPEDE_IO_WORKER": "1", "STAMPEDE_LISTEN": "x",
        ]
        let effective = try EffectiveSettings.load(environment: environment)
        #expect(
            effective.warnings.map(\.description) == [
                "STAMPEDE_BROKER_PORT: is ignored: no key has this variable",
                "STAMPEDE_IO_WORKER: is ignored: no key has this variable; did you mean STAMPEDE_IO_WORKERS?",
                "STAMPEDE_LISTEN: is ignored: no key has this variable; did you mean STAMPEDE_LISTENERS?",
            ])
        #expect(effective.origins.isEmpty)
    }

    /// For a Service named `stampede`.
    @Test("The variables of Kubernetes are no configuration")
    func kubernetes() throws {
        let environment = [
            "STAMPEDE_SERVICE_HOST": "10.0.0.1", "STAMPEDE_SERVICE_PORT": "61613",
            "STAMPEDE_SERVICE_PORT_STOMP": "61613", "STAMPEDE_PORT": "tcp://10.0.0.1:61613",
            "STAMPEDE_PORT_61613_TCP": "tcp://10.0.0.1:61613",
            "STAMPEDE_PORT_61613_TCP_PROTO": "tcp", "STAMPEDE_PORT_61613_TCP_PORT": "61613",
            "STAMPEDE_PORT_61613_TCP_ADDR": "10.0.0.1",
        ]
        #expect(try EffectiveSettings.load(environment: environment).warnings == [])
        let others = environment.merging(["STAMPEDE_SERVER": "x"]) { $1 }
        #expect(try EffectiveSettings.load(environment: others).warnings.count == 1)
    }

    @Test("An empty STAMPEDE_CONFIG names no file")
    func emptyFileName() throws {
        #expect(try EffectiveSettings.load(environment: ["STAMPEDE_CONFIG": ""]).origins.isEmpty)
    }

    @Test("Errors of the file, the environment and the command line are reported together")
    func together() {
        let found = problems(
            yaml: "x: 1", environment: ["STAMPEDE_IO_WORKERS": "y"],
            commandLine: [Override(path: "z", text: "1", origin: .commandLine(option: "--set"))])
        #expect(found.map { $0.prefix { $0 != ":" } } == ["stampede.yaml", "STAMPEDE_IO_WORKERS", "--set"])
    }

    @Test("The effective configuration reads back as itself and says where each value came from")
    func explanation() throws {
        let effective = try EffectiveSettings.load(
            yaml: """
                listeners: ["127.0.0.1:0", "[::1]:0"]
                destinations:
                  - {match: "/queue/a\\"b", overflow: block, dead-letter: ""}
                  - {match: "/topic/>"}
                """, environment: ["STAMPEDE_BARE_NAMES": "queue"],
            commandLine: [Override(path: "io.workers", text: "7", origin: .commandLine(option: "--workers"))])
        let text = effective.explanation
        let again = try EffectiveSettings.load(yaml: text)
        for setting in Schema.settings {
            #expect(setting.get(again.settings) == setting.get(effective.settings), "\(setting.path)")
        }
        #expect(again.settings.broker.destinationPolicies == effective.settings.broker.destinationPolicies)
        let lines = text.split(separator: "\n")
        func line(_ start: String) -> Substring? {
            lines.first { $0.drop { $0 == " " }.hasPrefix(start) }
        }
        #expect(line("listeners:")?.hasSuffix("# file stampede.yaml line 1") == true)
        #expect(line("workers: 7 ")?.hasSuffix("# command line --workers") == true)
        #expect(line("bare-names: queue ")?.hasSuffix("# environment STAMPEDE_BARE_NAMES") == true)
        #expect(line("overflow: block ")?.hasSuffix("# file stampede.yaml line 3") == true)
        #expect(line("driver: auto ")?.hasSuffix("# default") == true)
    }
}

@Suite("Values compared with each other")
struct CrossCheckTests {
    @Test(
        "Values that contradict each other are an error at the one that was set",
        arguments: [
            (
                "io: {uring: {sq-entries: 1024, cq-entries: 512}}",
                "1: io.uring.sq-entries: found 1024; allowed: at most io.uring.cq-entries = 512 (file "
                    + "stampede.yaml line 1)"
            ),
            (
                "io:\n  uring:\n    cq-entries: 512",
                "3: io.uring.sq-entries: found 4096; allowed: at most io.uring.cq-entries = 512 (file "
                    + "stampede.yaml line 3)"
            ),
            (
                "io: {keepalive-ms: 2m}",
                "1: io.user-timeout-ms: found 2m; allowed: at least io.keepalive-ms + 30s = 150s, so that 3 "
                    + "probes may be lost"
            ),
            (
                "io: {uring: {send-batch: 8192}}",
                "1: io.uring.send-batch: found 8192; allowed: at most io.uring.sq-entries = 4096 (default)"
            ),
            (
                "io: {uring: {sq-entries: 256, cq-entries: 512, wait-completions: 1024}}",
                "1: io.uring.wait-completions: found 1024; allowed: at most io.uring.cq-entries = 512 (file "
                    + "stampede.yaml line 1)"
            ),
            (
                "io: {uring: {receive-buffers: {bytes: 128KiB}}}",
                "1: io.uring.receive-buffers.bytes: found 128KiB; allowed: at most "
                    + "io.uring.large-receive-buffers.bytes = 64KiB (default)"
            ),
            (
                "io: {uring: {large-receive-buffers: {count: 32768}}}",
                "1: io.uring.large-receive-buffers: found count times bytes = 2GiB; allowed: at most 1GiB a worker"
            ),
            (
                "limits: {header-bytes: 48KiB}",
                "1: limits.header-bytes: found 48KiB; allowed: at most limits.headers-bytes = 32KiB (default)"
            ),
            (
                "limits: {command-bytes: 1KiB, pre-connect-bytes: 256}",
                "1: limits.command-bytes: found 1KiB; allowed: at most limits.pre-connect-bytes = 256 (file "
                    + "stampede.yaml line 1)"
            ),
            (
                "limits: {destination-name-bytes: 1000, header-bytes: 999}",
                "1: limits.destination-name-bytes: found 1000; allowed: at most limits.header-bytes = 999 (file "
                    + "stampede.yaml line 1)"
            ),
            (
                "limits: {output-bytes: 1MiB}",
                "1: limits.output-bytes: found 1MiB, less than a largest frame; allowed: at least "
                    + "limits.body-bytes + limits.headers-bytes = 1056KiB"
            ),
            (
                "limits: {message-memory-bytes: 16MiB}\nio: {workers: 1}",
                "1: limits.message-memory-bytes: found 16MiB, a quarter of which is less than four largest frames "
                    + "(limits.body-bytes + limits.headers-bytes = 1056KiB) = 4224KiB; allowed: at least 16896KiB"
            ),
            (
                "limits:\n  body-bytes: 256KiB\n  message-memory-bytes: 9MiB\nio: {workers: 1}",
                "3: limits.message-memory-bytes: found 9MiB, a quarter of which is less than all of "
                    + "io.uring.receive-buffers and io.uring.large-receive-buffers = 2560KiB; allowed: at least 10MiB"
            ),
            (
                "limits: {message-memory-bytes: 32MiB}\nio: {workers: 2}",
                "1: limits.message-memory-bytes: found 32MiB, a quarter of which is less than what other workers may "
                    + "have sent (limits.mailbox-bytes) = 16MiB; allowed: at least 64MiB"
            ),
            (
                "clients-create-destinations: false",
                "1: clients-create-destinations: found false without any entry of destinations, so no client "
                    + "could send; allowed: true, or entries"
            ),
            (
                "listeners: [\"127.0.0.1:1\", \"localhost:1\"]",
                "1: listeners: found 127.0.0.1:1 twice; allowed: each address once"
            ),
            (
                "listeners: [\"0.0.0.0:1\", \"127.0.0.1:1\"]",
                "1: listeners: found 127.0.0.1:1 beside 0.0.0.0:1, which includes it; allowed: one of them"
            ),
            (
                "listeners: [\"[::1]:1\", \"[::]:1\"]",
                "1: listeners: found [::1]:1 beside [::]:1, which includes it; allowed: one of them"
            ),
            (
                "listeners: \"[::ffff:127.0.0.1]:1\"",
                "1: listeners: found [::ffff:127.0.0.1]:1, an IPv4 address written as one of IPv6; allowed: 127.0.0.1:1"
            ),
            (
                "destinations:\n  - {match: /queue/a}\n  - {match: /queue/a}",
                "3: destinations[1].match: found \"/queue/a\" again: destinations[0] always applies before it"
            ),
            (
                "limits: {destination-name-bytes: 16}\ndestinations:\n  - {match: /queue/0123456789}",
                "3: destinations[0].match: found 17 bytes; allowed: limits.destination-name-bytes = 16"
            ),
            (
                "limits: {destination-levels-max: 2}\ndestinations:\n  - {match: /queue/a.b.c}",
                "3: destinations[0].match: found 3 levels; allowed: limits.destination-levels-max = 2"
            ),
            (
                "destinations:\n  - {match: /queue/a, overflow: block, bytes-max: 1MiB}",
                "2: destinations[0].bytes-max: found 1MiB: with overflow: block a larger message would stop its "
                    + "publisher for ever; allowed: at least limits.body-bytes + limits.headers-bytes = 1056KiB"
            ),
            (
                "storage: {bytes-max: 64MiB}\nio: {workers: 2}",
                "1: storage.bytes-max: found 64MiB; allowed: two segments (storage.segment-bytes = 64MiB) of each of 2 "
                    + "workers (io.workers), at least 256MiB; or lower one of these two"
            ),
            (
                "destinations:\n  - {match: /queue/a, log-messages-max: 5}",
                "2: destinations[0].log-messages-max: has no effect: /queue/a is no topic; allowed: only with /topic/"
            ),
            (
                "destinations:\n  - {match: /queue/a, durable-subscription-expires-ms: 1d}",
                "2: destinations[0].durable-subscription-expires-ms: has no effect: /queue/a is no topic; allowed: only "
                    + "with /topic/"
            ),
            (
                "destinations:\n  - {match: /topic/a, log-age-max-ms: 1d}",
                "2: destinations[0].log-age-max-ms: has no effect: the topic keeps no log; allowed: with log-messages-max"
            ),
            (
                "destinations:\n  - {match: /topic/a, deduplication-window-ms: 1m}",
                "2: destinations[0].deduplication-window-ms: has no effect: /topic/a is no queue; allowed: only with "
                    + "/queue/"
            ),
        ])
    func contradictions(yaml: String, expected: String) {
        #expect(problems(yaml: yaml) == ["stampede.yaml:" + expected])
    }

    @Test("A body larger than what holds it is one error, which names all that has to grow with it")
    func largeBody() throws {
        let four = "limits.transaction-bytes, limits.output-bytes, limits.prefetch-bytes, limits.mailbox-bytes"
        #expect(
            problems(yaml: "limits: {body-bytes: 64MiB}") == [
                "stampede.yaml:1: limits.body-bytes: found 64MiB, which needs larger limits beside it: \(four) of at "
                    + "least limits.body-bytes + limits.headers-bytes = 65568KiB; and limits.message-memory-bytes of at "
                    + "least 1049088KiB; and storage.segment-bytes of at least 131511KiB"
            ])
        #expect(
            problems(yaml: "limits: {body-bytes: 16MiB}") == [
                "stampede.yaml:1: limits.body-bytes: found 16MiB, which needs larger limits beside it: \(four) of at "
                    + "least limits.body-bytes + limits.headers-bytes = 16416KiB"
            ])
        // What it says is enough.
        let raised = ["transaction", "output", "prefetch", "mailbox"].map { "\($0)-bytes: 16416KiB" }
        #expect(problems(yaml: "limits: {body-bytes: 16MiB, \(raised.joined(separator: ", "))}") == [])
    }

    @Test("A segment that has to grow with a body is asked for once, with one number")
    func largeBodyAndSegment() throws {
        func found(_ mebibytes: Int) -> [String] {
            let holders = ["transaction", "output", "prefetch", "mailbox"].map { "\($0)-bytes: \(mebibytes + 1)MiB" }
            let memory = "message-memory-bytes: \((mebibytes + 1) * 16)MiB"
            return problems(
                yaml: "limits: {body-bytes: \(mebibytes)MiB, \((holders + [memory]).joined(separator: ", "))}")
        }
        #expect(found(30) == [])
        for mebibytes in [31, 32, 40] {
            // Twice the transaction, and 1,000 frames of it.
            let needed = 2 * ((mebibytes + 1) << 10) + 375
            let problems = found(mebibytes)
            #expect(problems.count == 1, "\(problems)")
            #expect(problems.first?.contains("at least \(needed)KiB") == true, "\(problems)")
        }
    }

    @Test("An entry of destinations that an earlier one hides is warned of, and others are not")
    func shadows() throws {
        func warnings(_ patterns: [String]) throws -> [String] {
            let entries = patterns.map { "  - {match: \"\($0)\"}\n" }.joined()
            return try EffectiveSettings.load(yaml: "destinations:\n\(entries)").warnings.map(\.description)
        }
        #expect(
            try warnings(["/queue/orders.#", "/queue/orders.big"]) == [
                "stampede.yaml:3: destinations[1].match: \"/queue/orders.big\" never applies, because destinations[0] "
                    + "(\"/queue/orders.#\") comes first and matches it; put it before that one"
            ])
        #expect(try warnings(["/topic/#", "/queue/a", "/topic/a.*"]).count == 1)
        #expect(try warnings(["/queue/orders.big", "/queue/orders.#", "/queue/#", "/topic/#"]).isEmpty)
    }

    @Test("A holder that was set too small is an error of its own")
    func largeBodyAndSmallHolder() {
        let found = problems(yaml: "limits:\n  body-bytes: 16MiB\n  output-bytes: 16MiB")
        #expect(found.count == 2)
        #expect(found.first?.hasPrefix("stampede.yaml:3: limits.output-bytes: found 16MiB") == true, "\(found)")
        #expect(found.last?.contains("output-bytes") == false, "\(found)")
    }

    @Test(
        "Values at their bounds pass together",
        arguments: [
            "io: {uring: {sq-entries: 512, cq-entries: 512, send-batch: 512, wait-completions: 512}}",
            "limits: {heart-beat-send-ms: 0, heart-beat-receive-ms: 0}",
            "listeners: [\"127.0.0.1:0\", \"127.0.0.1:0\"]", "listeners: [\"0.0.0.0:0\", \"127.0.0.1:0\"]",
            "listeners: [\"0.0.0.0:1\", \"127.0.0.1:2\"]", "listeners: [\"0.0.0.0:1\", \"[::]:1\"]",
            "listeners: [\"0.0.0.0:1\", \"[::1]:1\"]",
            "clients-create-destinations: false\ndestinations: [{match: \"/queue/#\"}]",
            "limits: {output-bytes: 1056KiB}",
            "limits: {message-memory-bytes: 64MiB}",
            "limits: {message-memory-bytes: 16MiB, body-bytes: 256KiB}\nio: {workers: 1}",
            "limits: {message-memory-bytes: 2MiB, body-bytes: 64KiB}\nio: {workers: 1, driver: epoll}",
        ])
    func compatible(yaml: String) {
        #expect(problems(yaml: yaml) == [])
    }

    @Test("A wildcard is a whole level of a pattern")
    func patterns() {
        for text in ["/queue/a", "/topic/a.b/c-d", "/queue/*", "/topic/a.*.b", "/topic/#", "/topic/a.>", "/topic/a/**"]
        {
            #expect(DestinationPattern.accepts(text), "\(text)")
        }
        for text in ["", "a", "/queue/", "/topic", "/other/a", "/queue/a*", "/topic/a.#b", "/topic/a\nb", "/topic/***"]
        {
            #expect(!DestinationPattern.accepts(text), "\(text)")
        }
    }
}
