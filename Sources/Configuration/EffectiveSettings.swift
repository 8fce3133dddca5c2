/// A value that is not from the file but from an environment variable or the command line.
public struct Override: Sendable, Equatable {
    /// The key's path: "io.workers".
    public var path: String
    /// The value as text. The items of a list are separated by commas.
    public var text: String
    public var origin: Origin

    public init(path: String, text: String, origin: Origin) {
        self.path = path
        self.text = text
        self.origin = origin
    }

    /// Reads the argument of `--set KEY=VALUE`.
    public init?(assignment: String) {
        guard let equals = assignment.firstIndex(of: "="), equals != assignment.startIndex else { return nil }
        path = String(assignment[..<equals])
        text = String(assignment[assignment.index(after: equals)...])
        origin = .commandLine(option: "--set")
    }
}

/// The configuration in force, and where each value came from.
public struct EffectiveSettings: Sendable {
    public internal(set) var settings = Settings()
    /// The path of the file that was read. nil: none.
    public internal(set) var file: String?
    /// The origins of the values that were set, by key path. Other keys have their default.
    var origins: [String: Origin] = [:]
    var problems: [ConfigurationProblem] = []
    /// Warnings: environment variables that name no key, and entries of `destinations` that never apply.
    public internal(set) var warnings: [ConfigurationProblem] = []

    init() {}

    /// The origin of the value of the key at `path`.
    public func origin(of path: String) -> Origin { origins[path] ?? .builtIn }

    /// Combines all sources. The command line overrides the environment, which overrides the file, which overrides the
    /// defaults.
    ///
    /// - Parameters:
    ///   - file: the path of a YAML file. nil: the file that STAMPEDE_CONFIG names, or none. No other places are
    ///     searched, so that the broker never uses a file that its operator did not name.
    ///   - environment: all variables of the process. Those that begin with STAMPEDE_ are used. An unknown one is a
    ///     warning, unless Kubernetes sets it.
    ///   - commandLine: if a key occurs several times, the last value counts.
    /// - Throws: all problems. The rules between values are checked only if each value is valid.
    public static func load(
        file: String? = nil, environment: [String: String] = [:], commandLine: [Override] = []
    ) throws(ConfigurationError) -> EffectiveSettings {
        var effective = EffectiveSettings()
        let path = file ?? environment[EnvironmentName.configurationFile] ?? ""
        if !path.isEmpty {
            effective.file = path
            effective.read(file: path)
        }
        return try effective.completed(environment: environment, commandLine: commandLine)
    }

    /// As `load(file:environment:commandLine:)`, from the text of a file.
    static func load(
        yaml: String, name: String = "stampede.yaml", environment: [String: String] = [:], commandLine: [Override] = []
    ) throws(ConfigurationError) -> EffectiveSettings {
        var effective = EffectiveSettings()
        effective.read(yaml: yaml, name: name)
        return try effective.completed(environment: environment, commandLine: commandLine)
    }

    /// Applies the overrides to the values of the file, and checks the result.
    private consuming func completed(
        environment: [String: String], commandLine: [Override]
    ) throws(ConfigurationError) -> EffectiveSettings {
        var effective = self
        effective.apply(environment: environment)
        for override in commandLine { effective.apply(override) }
        if effective.problems.isEmpty { effective.crossCheck() }
        guard effective.problems.isEmpty else { throw ConfigurationError(problems: effective.problems) }
        effective.derive()
        return effective
    }

    /// Sets fields that have no key of their own, because they follow from other values.
    private mutating func derive() {
        settings.driverOptions.findsPeerAddress = settings.broker.limits.needsAddresses || settings.access.isOn
        settings.driverOptions.usesFiles = settings.storage.isEnabled
        settings.access.listeners = listenerAccess
        settings.access.hosts = settings.broker.hosts.map(\.name)
    }

    mutating func report(_ origin: Origin, _ path: String, _ text: String) {
        problems.append(ConfigurationProblem(place: origin.place, path: path, text: text))
    }
}

// MARK: - Environment and command line

/// The names of environment variables.
enum EnvironmentName {
    static let prefix = "STAMPEDE_"
    /// Names the configuration file if `--config` does not.
    static let configurationFile = "STAMPEDE_CONFIG"
    /// Prefixes of variables that Kubernetes sets in the containers of a namespace with a Service named `stampede`:
    /// STAMPEDE_SERVICE_HOST, STAMPEDE_PORT, STAMPEDE_PORT_61613_TCP_ADDR and so on. No variable of a key has these
    /// prefixes.
    static let foreignPrefixes = ["STAMPEDE_SERVICE_", "STAMPEDE_PORT"]

    /// The variable of a key: "io.uring.sq-entries" becomes STAMPEDE_IO_URING_SQ_ENTRIES.
    static func variable(for path: String) -> String {
        prefix + String(path.uppercased().map { $0 == "." || $0 == "-" ? "_" : $0 })
    }
}

extension EffectiveSettings {
    mutating func apply(environment: [String: String]) {
        let paths = Dictionary(
            uniqueKeysWithValues: (Schema.settings.map(\.path) + [Schema.destinations, Schema.hosts])
                .map { (EnvironmentName.variable(for: $0), $0) })
        for (variable, text) in environment.sorted(by: { $0.key < $1.key })
        where variable.hasPrefix(EnvironmentName.prefix) && variable != EnvironmentName.configurationFile
            && !EnvironmentName.foreignPrefixes.contains(where: variable.hasPrefix)
        {
            let origin = Origin.environment(variable: variable)
            if let path = paths[variable] {
                apply(Override(path: path, text: text, origin: origin))
            } else {
                let note = Suggestion.note(for: variable, among: paths.keys.sorted())
                warnings.append(
                    ConfigurationProblem(
                        place: origin.place, path: "", text: "is ignored: no key has this variable\(note)"))
            }
        }
    }

    mutating func apply(_ override: Override) {
        let path = override.path
        if path == Schema.listenersPath {
            applyListeners(override)
        } else if let setting = Schema.setting(at: path) {
            if let value = setting.parseOverride(override.text) {
                setting.set(&settings, value)
                origins[path] = override.origin
            } else {
                report(override.origin, path, "found \(excerpt(override.text)); allowed: \(setting.allowed)")
            }
        } else if [Schema.destinations, Schema.hosts, Schema.listenersPath].contains(where: { path.hasPrefix($0 + "[") }
        )
            || path == Schema.destinations || path == Schema.hosts
        {
            report(override.origin, path, "can be set in a file only")
        } else if Schema.sections.contains(path) {
            report(override.origin, path, "is a section, not a key")
        } else {
            let note = Suggestion.note(for: path, among: Schema.settings.map(\.path))
            let advice = note.isEmpty ? "; stampede config --reference prints all" : note
            report(override.origin, "", "unknown key \(excerpt(path))\(advice)")
        }
    }

    /// Replaces all listeners by URLs.
    private mutating func applyListeners(_ override: Override) {
        var listeners: [ListenerSettings] = []
        for item in override.text.split(separator: ",", omittingEmptySubsequences: false) {
            do throws(ListenerURL.Fault) {
                listeners.append(try ListenerSettings(String(item)))
            } catch {
                report(override.origin, override.path, "found \(excerpt(String(item))); \(error.reason)")
                return
            }
        }
        settings.listeners = listeners
        origins = origins.filter { !$0.key.hasPrefix(Schema.listenersPath) }
        origins[override.path] = override.origin
    }
}
