import Broker
import IO
import Testing

@testable import Configuration

@Suite("Listeners in the configuration")
struct ListenerTests {
    @Test(
        "A URL is read and written in its shortest form",
        arguments: [
            ("127.0.0.1:61613", "127.0.0.1:61613", TransportKind.stomp),
            ("stomp://127.0.0.1", "127.0.0.1:61613", .stomp),
            ("stomp://localhost:1/", "127.0.0.1:1", .stomp), ("STOMP://[::1]", "[::1]:61613", .stomp),
            ("stomps://0.0.0.0", "stomps://0.0.0.0:61614", .stomps), ("ws://127.0.0.1", "ws://127.0.0.1:15674", .ws),
            ("wss://[::]:443/a/b", "wss://[::]:443/a/b", .wss), ("wss://[::]", "wss://[::]:15673", .wss),
            ("unix:/run/s.sock", "unix:/run/s.sock", .stomp), ("unix:///run/s.sock", "unix:/run/s.sock", .stomp),
            ("ws+unix:/run/s.sock", "ws+unix:/run/s.sock", .ws),
            ("unix:/a?mode=660", "unix:/a", .stomp),
            ("unix:/a?mode=0600&group=mqm", "unix:/a?mode=0600&group=mqm", .stomp),
            ("unix:/a?owner=0", "unix:/a?owner=0", .stomp),
        ])
    func urls(text: String, expected: String, transport: TransportKind) throws {
        let listener = try ListenerSettings(text)
        #expect(listener.description == expected)
        #expect(listener.transport == transport)
        #expect(try ListenerSettings(listener.description) == listener)
    }

    @Test(
        "What is no URL of a listener is refused with the reason",
        arguments: [
            ("http://127.0.0.1:80", "unknown scheme"), ("tcp://127.0.0.1:1", "unknown scheme"),
            ("ws://example.org", "no address"), ("ws://", "no address"), ("ws://:1", "no address"),
            ("ws://user@127.0.0.1", "no user"), ("stomp://127.0.0.1/ws", "only ws:// and wss:// have a path"),
            ("ws://127.0.0.1/a?b", "no path"), ("ws://127.0.0.1?a", "no path"), ("ws://127.0.0.1:99999", "no address"),
            ("unix:run/s.sock", "absolute path"), ("unix:", "absolute path"), ("unix:/", "absolute path"),
            ("unix://run/s.sock", "absolute path"), ("unix:/a?mode=999", "mode is"),
            ("unix:/a?colour=red", "unknown option"),
            ("unix:/a?", "unknown option"), ("unix:/" + String(repeating: "a", count: 107), "107 bytes"),
            ("unix:/a\u{7}", "control characters"), ("somewhere", "allowed: one or several of"),
            ("127.0.0.1:1?mode=0600", "allowed: one or several of"),
        ])
    func faults(text: String, reason: String) {
        let fault = #expect(throws: ListenerURL.Fault.self) { _ = try ListenerSettings(text) }
        #expect(fault?.reason.contains(reason) == true, "\(fault?.reason ?? "")")
    }

    @Test("Networks are read and written, and bits beyond the prefix are refused")
    func networks() {
        for text in ["10.0.0.0/8", "192.0.2.1", "0.0.0.0/0", "fd00::/8", "::1", "::/0", "128.0.0.0/1"] {
            #expect(Network(text)?.description == text)
        }
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "fd00::1/64", "::/129", "a", "", "/8"] {
            #expect(Network(text) == nil, "\(text)")
        }
    }

    @Test("A file has strings and mappings side by side, with the origin of each option")
    func file() throws {
        let effective = try EffectiveSettings.load(
            yaml: """
                listeners:
                  - 127.0.0.1:1
                  - url: unix:/run/s.sock
                    group: mqm
                    mode: 0666
                    connections-max: 100
                  - url: "[::1]:2"
                    lenient-heart-beats: true
                """)
        let listeners = effective.settings.listeners
        #expect(listeners.map(\.url.description) == ["127.0.0.1:1", "unix:/run/s.sock", "[::1]:2"])
        #expect(listeners[1].socketMode == 0o666 && listeners[1].socketGroup == "mqm")
        #expect(listeners[1].connectionCountMax == 100 && listeners[2].hasLenientHeartBeats)
        #expect(effective.origin(of: "listeners[1].mode") == .file(name: "stampede.yaml", line: 5))
        let again = try EffectiveSettings.load(yaml: effective.explanation)
        #expect(again.settings.listeners == listeners)
        #expect(effective.explanation.contains("    connections-max: 100 "))
        #expect(effective.explanation.contains("# file stampede.yaml line 6"))
        #expect(!effective.explanation.contains("owner"))
    }

    @Test("What clients of a listener may do is read, and written again")
    func access() throws {
        let effective = try EffectiveSettings.load(
            yaml: """
                listeners:
                  - url: unix:/run/s.sock
                    authenticators: [uid, users]
                    publish: []
                  - url: 127.0.0.1:1
                    authenticators: any
                    subscribe: /topic/web.#
                  - 127.0.0.1:2
                access: {users: users.yaml}
                """)
        let listeners = effective.settings.listeners
        #expect(listeners[0].authenticators == [.uid, .users] && listeners[0].publishPatterns == [])
        #expect(listeners[1].authenticators == [] && listeners[1].subscribePatterns == ["/topic/web.#"])
        let again = try EffectiveSettings.load(yaml: effective.explanation)
        #expect(again.settings.listeners == listeners)
        let access = effective.settings.access.listeners
        #expect(access.map(\.path) == ["listeners[0]", "listeners[1]", "listeners[2]"])
        #expect(access[0].authenticators == [.uid, .users] && access[0].rules?.publish == [])
        #expect(access[0].rules?.subscribe.map(\.text) == ["#"])
        #expect(access[1].authenticators == nil && access[1].rules?.subscribe.map(\.text) == ["/topic/web.#"])
        #expect(access[2].rules == nil && effective.settings.access.listenerRules.count == 3)
        #expect(try EffectiveSettings.load(yaml: "access: {users: u}").settings.access.listenerRules.isEmpty)
    }

    @Test("One listener needs no list")
    func single() throws {
        #expect(try EffectiveSettings.load(yaml: "listeners: unix:/a").settings.listeners.count == 1)
        let mapped = try EffectiveSettings.load(yaml: "listeners: {url: \"127.0.0.1:1\", connections-max: 5}")
        #expect(mapped.settings.listeners[0].connectionCountMax == 5)
    }

    @Test("The command line replaces all listeners and their options")
    func override() throws {
        let effective = try EffectiveSettings.load(
            yaml: "listeners: [{url: \"127.0.0.1:1\", connections-max: 5}]",
            commandLine: [
                Override(
                    path: "listeners", text: "unix:/a?mode=0600,127.0.0.1:2", origin: .commandLine(option: "--listen"))
            ])
        #expect(effective.settings.listeners.map(\.description) == ["unix:/a?mode=0600", "127.0.0.1:2"])
        #expect(effective.origin(of: "listeners") == .commandLine(option: "--listen"))
        #expect(effective.origin(of: "listeners[0].connections-max") == .builtIn)
    }

    @Test(
        "An error in a listener names its line, its key and what is right",
        arguments: [
            (
                "listeners:\n  - {mode: 0600}",
                "2: listeners[0]: the key url is missing; allowed: \(ListenerURL.allowed)"
            ),
            (
                "listeners:\n  - url: tcp://a",
                "2: listeners[0].url: found \"tcp://a\"; unknown scheme \"tcp\"; allowed: stomp://, stomps://, ws://, "
                    + "wss://, unix:/"
            ),
            ("listeners:\n  - {url: unix:/a, colour: red}", "2: listeners[0].colour: unknown key"),
            ("listeners:\n  - {url: unix:/a, modes: 0600}", "2: listeners[0].modes: unknown key; did you mean mode?"),
            (
                "listeners:\n  - {url: unix:/a, mode: rw}",
                "2: listeners[0].mode: found \"rw\"; allowed: permission bits in octal, 0000 to 0777"
            ),
            (
                "listeners:\n  - {url: \"127.0.0.1:1\", mode: 0600}",
                "2: listeners[0].mode: has no effect: 127.0.0.1:1 is no Unix socket; allowed: only with unix:/PATH"
            ),
            (
                "listeners:\n  - {url: unix:/a, url: unix:/b}",
                "2: listeners[0].url: given more than once, first in line 2"
            ),
            (
                "listeners:\n  - {url: \"unix:/a?group=mqm&mode=0600\", owner: root, mode: \"0666\"}",
                "2: listeners[0].mode: is in the URL too; allowed: one of both"
            ),
            (
                "listeners:\n  - {url: \"127.0.0.1:1\", proxy-protocol: [10.0.0.1/8]}",
                "2: listeners[0].proxy-protocol[0]: found \"10.0.0.1/8\", which has bits behind the first 8; the network is "
                    + "10.0.0.0/8; allowed: one or several of true (from anyone), false, or networks: \(Network.allowed)"
            ),
            ("listeners: [unix:/a, unix:/a]", "1: listeners: found unix:/a twice; allowed: each address once"),
            (
                "listeners: [[unix:/a]]",
                "1: listeners[0]: found a list; allowed: one or several of \(ListenerURL.allowed)"
            ),
        ])
    func errors(yaml: String, expected: String) {
        let error = #expect(throws: ConfigurationError.self) { _ = try EffectiveSettings.load(yaml: yaml) }
        #expect(error?.problems.map(\.description) == ["stampede.yaml:\(expected)"])
    }

    @Test("An owner or a group that this machine does not know is told with its place")
    func accounts() throws {
        func problems(_ yaml: String) throws -> [String] {
            let effective = try EffectiveSettings.load(yaml: yaml)
            do throws(ConfigurationError) {
                try effective.checkAccounts()
                return []
            } catch { return error.problems.map(\.description) }
        }
        let known = "listeners: [\"unix:/a?owner=root&group=0\", \"unix:/b?group=4000000001\", \"127.0.0.1:1\"]"
        #expect(try problems(known) == [])
        let unknown = "listeners:\n  - {url: unix:/a, group: no-such}\n  - \"unix:/b?owner=no-such\""
        let group =
            "found \"no-such\", which this machine does not know; allowed: a name of `getent group`, or a number"
        let owner = group.replacing("getent group", with: "getent passwd")
        #expect(
            try problems(unknown) == [
                "stampede.yaml:2: listeners[0].group: \(group)", "stampede.yaml:1: listeners[1].owner: \(owner)",
            ])
    }
}
