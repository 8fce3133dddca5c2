import Broker
import Foundation
import IO
import Testing

@testable import Configuration

/// The rules of the table itself, checked for every key.
@Suite("The table of keys")
struct SchemaTests {
    /// The reference beside these sources.
    static let reference = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Config/stampede.yaml")

    @Test("Config/stampede.yaml is what the table makes, so it holds every key, default, unit and reason")
    func referenceIsCurrent() throws {
        let text = try String(contentsOf: Self.reference, encoding: .utf8)
        #expect(text == ConfigurationReference.yaml, "mend it by: stampede config --reference > Config/stampede.yaml")
    }

    @Test("Config/stampede.yaml sets every key, each to its default")
    func referenceHoldsDefaults() throws {
        let effective = try EffectiveSettings.load(file: Self.reference.path)
        let defaults = Settings()
        for setting in Schema.settings {
            #expect(setting.get(effective.settings) == setting.get(defaults), "\(setting.path)")
            guard case .file = effective.origin(of: setting.path) else {
                Issue.record("\(setting.path) is missing")
                continue
            }
        }
        #expect(effective.settings.broker.destinationPolicies.isEmpty)
    }

    @Test("The example of a destination in the reference holds every key, each with its default")
    func exampleHoldsDefaults() throws {
        let reference = ConfigurationReference.yaml
        let lines = reference[try #require(reference.firstRange(of: "None by default")).lowerBound...]
            .split(separator: "\n")
        let example = lines.filter { $0.hasPrefix("#   - ") || $0.hasPrefix("#     ") && !$0.hasPrefix("#     #") }
            .filter { !$0.contains("stampede ") }.map { $0.dropFirst(2) }.joined(separator: "\n")
        let effective = try EffectiveSettings.load(yaml: "destinations:\n" + example)
        #expect(effective.settings.broker.destinationPolicies == [DestinationPolicy(pattern: "/queue/orders.#")])
        for key in Schema.destinationKeys {
            #expect(effective.origins["destinations[0].\(key.path)"] != nil, "\(key.path)")
        }
    }

    @Test("The example of a listener in the reference holds every key, each with its default")
    func listenerExampleHoldsDefaults() throws {
        let reference = ConfigurationReference.yaml
        let start = try #require(reference.firstRange(of: "# An entry with options")).lowerBound
        let lines = reference[start...].split(separator: "\n").dropFirst().prefix { $0.hasPrefix("#") }
        let example = lines.map { $0.dropFirst(2) }.filter { $0.drop { $0 == " " }.first != "#" }
        var listener = try ListenerSettings("unix:/run/stampede/stampede.sock")
        for option in Schema.listenerOptions {
            let name = option.path.split(separator: ".").last ?? ""
            let line = try #require(example.first { $0.drop { $0 == " " }.hasPrefix("\(name): ") })
            let value = line.drop { $0 == " " }.dropFirst(name.count + 2)
            #expect(value == option.format(option.get(listener)), "\(option.path)")
            option.set(&listener, option.get(listener))
        }
        #expect(listener == (try ListenerSettings("unix:/run/stampede/stampede.sock")))
    }

    @Test("Every field of ListenerSettings but its URL has exactly one key")
    func listenerSettingsAreCovered() throws {
        var changed = ["url"]
        for key in Schema.listenerOptions {
            let before = ListenerSettings.standard
            var after = before
            let other: SettingValue =
                switch key.path {
                case "proxy-protocol": .list(["10.0.0.0/8"])
                case "mode": .text("0600")
                case "authenticators": .list(["users"])
                default:
                    if case .list = key.form { .list(["/other"]) } else { Self.otherValue(than: key.get(before), key) }
                }
            key.set(&after, other)
            changed += Self.differingFields(before, after)
            #expect(key.get(after) == other, "\(key.path)")
        }
        let fields = Mirror(reflecting: ListenerSettings.standard).children.compactMap(\.label)
        #expect(changed.sorted() == fields.sorted())
    }

    @Test("Every field of Limits has exactly one key")
    func limitsAreCovered() {
        expectCoverage(of: { $0.broker.limits }, by: Schema.limits, except: [])
    }

    @Test("Every field of AccessSettings has exactly one key")
    func accessIsCovered() {
        expectCoverage(of: { $0.access }, by: Schema.access, except: ["listeners", "hosts"])
    }

    @Test("Every field of DriverOptions has exactly one key, but the one that follows from a limit")
    func driverOptionsAreCovered() {
        let keys = Schema.io.filter { !["io.driver", "io.workers"].contains($0.path) }
        expectCoverage(
            of: { $0.driverOptions }, by: keys, except: ["findsPeerAddress", "opensConnections", "usesFiles"])
    }

    @Test("Every field of StorageSettings has exactly one key")
    func storageIsCovered() {
        expectCoverage(of: { $0.storage }, by: Schema.storage, except: [])
    }

    @Test("Every field of DestinationPolicy has exactly one key")
    func destinationPolicyIsCovered() {
        var changed: [String] = []
        for key in Schema.destinationKeys {
            let before = DestinationPolicy(pattern: "/queue/a")
            var after = before
            key.set(&after, Self.otherValue(than: key.get(before), key))
            changed += Self.differingFields(before, after)
        }
        #expect(
            changed.sorted() == Mirror(reflecting: DestinationPolicy(pattern: "")).children.compactMap(\.label).sorted()
        )
    }

    @Test("A limit per address makes the driver find addresses")
    func findsPeerAddress() throws {
        #expect(try !EffectiveSettings.load(yaml: "").settings.driverOptions.findsPeerAddress)
        let effective = try EffectiveSettings.load(yaml: "limits: {connections-per-address-max: 4}")
        #expect(effective.settings.driverOptions.findsPeerAddress)
        let users = try EffectiveSettings.load(yaml: "access: {users: users.yaml}")
        #expect(users.settings.driverOptions.findsPeerAddress, "logins are counted by address")
    }

    @Test("Every key takes the ends of its range and refuses what lies beyond", arguments: Schema.settings.map(\.path))
    func edges(path: String) throws {
        let setting = try #require(Schema.setting(at: path))
        switch setting.form {
        case .integer(let quantity):
            let lower = quantity.range.lowerBound
            let upper = quantity.range.upperBound
            for value in [lower, upper] {
                #expect(setting.parse("\(value)") == .integer(value))
                #expect(setting.parse(quantity.unit.describe(value)) == .integer(value))
                var settings = Settings()
                setting.set(&settings, .integer(value))
                #expect(setting.get(settings) == .integer(value))
            }
            if lower > 1 || quantity.zeroMeaning == nil { #expect(setting.parse("\(lower - 1)") == nil) }
            #expect(setting.parse("\(upper + 1)") == nil)
            #expect((setting.parse("0") != nil) == (quantity.zeroMeaning != nil))
            #expect(setting.parse("-1") == nil)
        case .flag:
            #expect(setting.parse("true") == .flag(true))
            #expect(setting.parse("false") == .flag(false))
            for text in ["yes", "no", "on", "1", "True", ""] { #expect(setting.parse(text) == nil) }
        case .choice(let names):
            for name in names {
                var settings = Settings()
                setting.set(&settings, .text(name))
                #expect(setting.get(settings) == .text(name))
            }
            for text in ["", "Auto", "nonsense"] { #expect(setting.parse(text) == nil) }
        case .text:
            // What is off by default is an empty text.
            #expect((setting.parse("") != nil) == (setting.get(Settings()) == .text("")))
            #expect(setting.parse("a\u{7}") == nil)
        case .list:
            // Unless nothing is the default.
            if setting.get(Settings()) != .list([]) { #expect(setting.parse("") == nil) }
        }
    }

    @Test("Every default is allowed, and is what its own text reads as")
    func defaultsAreAllowed() {
        let settings = Settings()
        for setting in Schema.settings {
            let value = setting.get(settings)
            if case .list(let items) = value {
                #expect(setting.parseOverride(items.joined(separator: ",")) == value, "\(setting.path)")
            } else if case .text(let text) = value {
                #expect(setting.parse(text) == value, "\(setting.path)")
            } else {
                #expect(setting.parse(setting.format(value)) == value, "\(setting.path)")
            }
        }
        for key in Schema.destinationKeys where key.path != "match" {
            let value = key.get(DestinationPolicy(pattern: ""))
            if case .text(let text) = value {
                #expect(key.parse(text) == value, "\(key.path)")
            } else {
                #expect(key.parse(key.format(value)) == value, "\(key.path)")
            }
        }
    }

    @Test("Every key ends in its unit, has a reason of one line, and a variable of its own")
    func conventions() {
        var variables: Set<String> = [EnvironmentName.configurationFile]
        for setting in Schema.settings {
            let variable = EnvironmentName.variable(for: setting.path)
            #expect(variables.insert(variable).inserted, "\(setting.path)")
            #expect(!EnvironmentName.foreignPrefixes.contains(where: variable.hasPrefix), "\(setting.path)")
            #expect(
                setting.why.hasSuffix(".") && !setting.why.contains("\n") && setting.why.count <= 104, "\(setting.path)"
            )
            guard case .integer(let quantity) = setting.form else { continue }
            let endings =
                switch quantity.unit {
                case .bytes: ["bytes", "bytes-max"]
                case .bytesPerSecond: ["bytes-per-second-min"]
                case .milliseconds: ["-ms", "-ms-min"]
                case .microseconds: ["-microseconds"]
                case .percent: ["-percent"]
                case .count: [""]
                }
            #expect(endings.contains { setting.path.hasSuffix($0) }, "\(setting.path)")
        }
    }

    // MARK: Pieces

    private func expectCoverage<Part>(
        of part: (Settings) -> Part, by keys: [Setting<Settings>], except exceptions: [String]
    ) {
        var changed = exceptions
        for key in keys {
            let before = Settings()
            var after = before
            key.set(&after, Self.otherValue(than: key.get(before), key))
            let fields = Self.differingFields(part(before), part(after))
            #expect(fields.count == 1, "\(key.path)")
            changed += fields
        }
        #expect(changed.sorted() == Mirror(reflecting: part(Settings())).children.compactMap(\.label).sorted())
    }

    private static func differingFields<Part>(_ first: Part, _ second: Part) -> [String] {
        zip(Mirror(reflecting: first).children, Mirror(reflecting: second).children)
            .filter { "\($0.value)" != "\($1.value)" }.compactMap { $0.0.label }
    }

    private static func otherValue<Root>(than value: SettingValue, _ setting: Setting<Root>) -> SettingValue {
        switch (value, setting.form) {
        case (.integer(let number), .integer(let quantity)):
            let bounds = quantity.range
            return .integer(number == bounds.upperBound ? bounds.lowerBound : bounds.upperBound)
        case (.flag(let flag), _): return .flag(!flag)
        case (.text(let text), .choice(let names)): return .text(names.first { $0 != text } ?? text)
        default: return .text("/queue/other")
        }
    }
}
