import Broker
import Foundation
import Testing

@testable import Configuration

@Suite("Virtual hosts in the configuration")
struct HostTests {
    private static let yaml = """
        default-host: shop
        hosts:
          - name: shop
            aliases: [shop.example.org, "127.0.0.1"]
            connections-max: 10
            subscriptions-max: 20
            frames-per-second-max: 30
            bytes-per-second-max: 64KiB
            storage-bytes-max: 2GiB
          - blog
          - name: /
            aliases: localhost
        """

    @Test("Hosts are names, or mappings with options")
    func values() throws {
        let effective = try EffectiveSettings.load(yaml: Self.yaml)
        var shop = HostOptions(name: "shop")
        shop.aliases = ["shop.example.org", "127.0.0.1"]
        shop.connectionCountMax = 10
        shop.subscriptionCountMax = 20
        shop.framesPerSecondMax = 30
        shop.bytesPerSecondMax = 65_536
        shop.storedByteCountMax = 2 << 30
        var standard = HostOptions(name: "/")
        standard.aliases = ["localhost"]
        #expect(effective.settings.broker.hosts == [shop, HostOptions(name: "blog"), standard])
        #expect(effective.settings.broker.defaultHost == "shop")
        #expect(effective.settings.access.hosts == ["shop", "blog", "/"], "the users file may name them")
        #expect("\(effective.origin(of: "hosts[0].connections-max"))".hasSuffix("line 5"))
    }

    @Test("The explanation of a configuration with hosts gives the same configuration")
    func explanation() throws {
        let effective = try EffectiveSettings.load(yaml: Self.yaml)
        let again = try EffectiveSettings.load(yaml: effective.explanation)
        #expect(again.settings.broker.hosts == effective.settings.broker.hosts)
        #expect(again.settings.broker.defaultHost == "shop")
        #expect(try EffectiveSettings.load(yaml: "").explanation.contains("\nhosts: []"))
    }

    @Test("Without hosts there is none", arguments: ["", "hosts:\n", "hosts: []\n", "default-host: /\n"])
    func none(yaml: String) throws {
        #expect(try EffectiveSettings.load(yaml: yaml).settings.broker.hosts.isEmpty)
    }

    @Test(
        "What is wrong is told with its place",
        arguments: [
            ("hosts: shop", "stampede.yaml:1: hosts: found \"shop\"; allowed: a list of names or mappings"),
            ("hosts: [\"\"]", "hosts[0]: found \"\"; allowed: 1 to 64 bytes"),
            ("hosts: [a, {}]", "hosts[1]: the key name is missing"),
            ("hosts: [a, [b]]", "hosts[1]: found a list; allowed:"),
            ("hosts: [a, ~]", "hosts[1]: found nothing; allowed:"),
            ("hosts: [\"*\"]", "hosts[0]: found \"*\"; allowed:"),
            ("hosts: [\"a\\nb\"]", "hosts[0]: found"),
            ("hosts: [{name: a, colour: red}]", "hosts[0].colour: unknown key"),
            ("hosts: [{name: a, connections-max: -1}]", "hosts[0].connections-max: found \"-1\"; allowed:"),
            ("hosts: [{name: a, aliases: [\"*\"]}]", "hosts[0].aliases[0]: found \"*\"; allowed:"),
            ("hosts: [a, b, a]", "hosts[2].name: found \"a\" again, which is a name of hosts[0] already"),
            ("hosts: [{name: a, aliases: [b]}, b]", "hosts[1].name: found \"b\" again"),
            ("hosts: [a, {name: b, aliases: [a]}]", "hosts[1].aliases: found \"a\" again"),
            ("hosts: [{name: a, aliases: [/]}]", "hosts[0].aliases: found \"/\", which is the name of the host that"),
            (
                "hosts: [a]\ndefault-host: b",
                "stampede.yaml:2: default-host: found \"b\", which is the name of no entry"
            ),
            ("hosts: [{name: a, aliases: [b]}]\ndefault-host: b", "allowed: \"a\", \"/\""),
            ("default-host: a", "default-host: has no effect: there are no hosts; set hosts, too"),
        ])
    func faults(yaml: String, expected: String) {
        let found = problems(yaml: yaml)
        #expect(found.contains { $0.contains(expected) }, "\(found)")
    }

    @Test("A name that is too long, and too many names")
    func bounds() {
        let long = String(repeating: "a", count: 65)
        #expect(problems(yaml: "hosts: [\(long)]").count == 1)
        #expect(problems(yaml: "hosts: [\(long.dropLast())]").isEmpty)
        let many = (0...4096).map { "h\($0)" }.joined(separator: ", ")
        #expect(problems(yaml: "hosts: [\(many)]").first?.contains("found 4097 names and aliases") == true)
    }

    @Test("The list is set in a file only; the default host anywhere")
    func overrides() throws {
        let list = problems(yaml: "", commandLine: [Override(assignment: "hosts=a")!])
        #expect(list.first?.contains("can be set in a file only") == true)
        let environment = problems(yaml: "", environment: ["STAMPEDE_HOSTS": "a"])
        #expect(environment.first?.contains("can be set in a file only") == true)
        let effective = try EffectiveSettings.load(
            yaml: "hosts: [a]", commandLine: [Override(assignment: "default-host=a")!])
        #expect(effective.settings.broker.defaultHost == "a")
    }

    @Test("The example of a host in the reference holds every key, each with its default")
    func example() throws {
        let reference = ConfigurationReference.yaml
        let start = try #require(reference.firstRange(of: Schema.hostsWhy)).lowerBound
        let lines = reference[start...].split(separator: "\n").prefix { $0.hasPrefix("#") || !$0.hasPrefix("hosts") }
        let example = lines.filter { $0.hasPrefix("#   - ") || $0.hasPrefix("#     ") && !$0.hasPrefix("#     #") }
            .map { $0.dropFirst(2) }.joined(separator: "\n")
        let effective = try EffectiveSettings.load(yaml: "hosts:\n" + example)
        #expect(effective.settings.broker.hosts == [HostOptions(name: "shop")])
        for key in Schema.hostKeys { #expect(effective.origins["hosts[0].\(key.path)"] != nil, "\(key.path)") }
    }
}
