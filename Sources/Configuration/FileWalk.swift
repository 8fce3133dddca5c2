import Broker
import Yams

/// Visits the nodes of a file, applies valid values and reports all others.
struct FileWalk {
    let name: String
    var effective: EffectiveSettings
    private var problems: [(line: Int, path: String, text: String)] = []

    init(name: String, effective: EffectiveSettings) {
        self.name = name
        self.effective = effective
    }

    /// Reads the whole tree. Problems are reported in the order of their lines.
    mutating func read(root: Node) {
        readRoot(root)
        let sorted = problems.enumerated().sorted { ($0.element.line, $0.offset) < ($1.element.line, $1.offset) }
        for (_, problem) in sorted {
            effective.report(.file(name: name, line: problem.line), problem.path, problem.text)
        }
    }

    private mutating func readRoot(_ root: Node) {
        if root.isNothing { return }
        guard case .mapping(let mapping) = root else {
            report(root, "", "found \(root.kind); allowed: a mapping of sections and keys")
            return
        }
        read(mapping, section: "")
    }

    private mutating func read(_ mapping: Node.Mapping, section: String) {
        for entry in entries(of: mapping, section: section) {
            let path = section.isEmpty ? entry.name : "\(section).\(entry.name)"
            if path == Schema.listenersPath {
                readListeners(entry)
            } else if let setting = Schema.setting(at: path) {
                if let value = value(of: entry, path: path, setting) {
                    setting.set(&effective.settings, value)
                    effective.origins[path] = origin(entry.key)
                }
            } else if path == Schema.destinations {
                readDestinations(entry)
            } else if path == Schema.hosts {
                readHosts(entry)
            } else if Schema.sections.contains(path) {
                if case .mapping(let inner) = entry.value {
                    read(inner, section: path)
                } else if !entry.value.isNothing {
                    report(entry.value, path, "found \(entry.value.kind); allowed: a mapping of keys")
                }
            } else {
                let lists = [Schema.destinations, Schema.hosts]
                let names = Schema.settings.map(\.path) + Schema.sections.sorted() + lists
                report(entry.key, path, "unknown key\(Suggestion.note(for: path, among: names))")
            }
        }
    }

    // MARK: Destinations

    private mutating func readDestinations(_ entry: Entry) {
        if entry.value.isNothing { return }
        guard case .sequence(let items) = entry.value else {
            report(entry.value, Schema.destinations, "found \(entry.value.kind); allowed: a list of mappings")
            return
        }
        effective.origins[Schema.destinations] = origin(entry.key)
        for (index, item) in items.enumerated() {
            let path = "\(Schema.destinations)[\(index)]"
            guard case .mapping(let mapping) = item else {
                report(item, path, "found \(item.kind); allowed: a mapping with the key match")
                continue
            }
            readDestination(mapping, path: path)
            if mapping.first(where: { $0.key.string == "match" }) == nil {
                report(item, path, "the key match is missing; allowed: \(DestinationPattern.allowed)")
            }
        }
    }

    private mutating func readDestination(_ mapping: Node.Mapping, path: String) {
        var policy = DestinationPolicy(pattern: "")
        read(mapping, path: path, keys: Schema.destinationKeys, into: &policy)
        effective.settings.broker.destinationPolicies.append(policy)
    }

    /// Reads one entry of a list of mappings. Its keys may have sections.
    private mutating func read<Root>(
        _ mapping: Node.Mapping, path: String, section: String = "", keys: [Setting<Root>], into root: inout Root
    ) {
        for entry in entries(of: mapping, section: path) {
            let name = section.isEmpty ? entry.name : "\(section).\(entry.name)"
            let keyPath = "\(path).\(entry.name)"
            if let key = keys.first(where: { $0.path == name }) {
                if let value = value(of: entry, path: keyPath, key) {
                    key.set(&root, value)
                    effective.origins[keyPath] = origin(entry.key)
                }
            } else if keys.contains(where: { $0.path.hasPrefix(name + ".") }) {
                if case .mapping(let inner) = entry.value {
                    read(inner, path: keyPath, section: name, keys: keys, into: &root)
                } else {
                    report(entry.value, keyPath, "found \(entry.value.kind); allowed: a mapping of keys")
                }
            } else {
                report(entry.key, keyPath, "unknown key\(Suggestion.note(for: name, among: keys.map(\.path)))")
            }
        }
    }

    // MARK: Hosts

    private mutating func readHosts(_ entry: Entry) {
        if entry.value.isNothing { return }
        guard case .sequence(let items) = entry.value else {
            report(entry.value, Schema.hosts, "found \(entry.value.kind); allowed: a list of names or mappings")
            return
        }
        effective.origins[Schema.hosts] = origin(entry.key)
        for (index, item) in items.enumerated() {
            let path = "\(Schema.hosts)[\(index)]"
            var host = HostOptions(name: "")
            if case .mapping(let mapping) = item {
                read(mapping, path: path, keys: Schema.hostKeys, into: &host)
                if mapping.first(where: { $0.key.string == Schema.hostName }) == nil {
                    report(item, path, "the key name is missing; allowed: \(Schema.hostNameAllowed)")
                }
            } else if let name = item.scalar?.string, !item.isNothing, HostOptions.problem(ofName: name) == nil {
                host.name = name
            } else {
                report(
                    item, path,
                    "found \(item.kind); allowed: \(Schema.hostNameAllowed), or a mapping with the key name")
            }
            effective.settings.broker.hosts.append(host)
        }
    }

    // MARK: Listeners

    private mutating func readListeners(_ entry: Entry) {
        let items: [Node]
        switch entry.value {
        case .sequence(let sequence): items = Array(sequence)
        default: items = [entry.value]
        }
        if items.isEmpty {
            report(entry.value, Schema.listenersPath, "found an empty list; allowed: \(Self.listenersAllowed)")
        }
        let isList = entry.value.sequence != nil
        var listeners: [ListenerSettings] = []
        for (index, item) in items.enumerated() {
            let path = isList ? "\(Schema.listenersPath)[\(index)]" : Schema.listenersPath
            if let listener = readListener(item, path: path) { listeners.append(listener) }
        }
        guard !items.isEmpty, listeners.count == items.count else { return }
        effective.settings.listeners = listeners
        effective.origins[Schema.listenersPath] = origin(entry.key)
    }

    private static var listenersAllowed: String { "one or several of \(ListenerURL.allowed)" }

    private mutating func readListener(_ node: Node, path: String) -> ListenerSettings? {
        if case .mapping(let mapping) = node { return readListener(mapping, in: node, path: path) }
        guard case .scalar(let scalar) = node, !node.isNothing else {
            report(node, path, "found \(node.kind); allowed: \(Self.listenersAllowed)")
            return nil
        }
        do throws(ListenerURL.Fault) {
            return try ListenerSettings(scalar.string)
        } catch {
            report(node, path, "found \(excerpt(scalar.string)); \(error.reason)")
            return nil
        }
    }

    /// The URL is read first, because the other keys may replace the options in it.
    private mutating func readListener(
        _ mapping: Node.Mapping, in node: Node, path: String
    ) -> ListenerSettings? {
        guard let url = mapping.first(where: { $0.key.string == Schema.listenerURL }) else {
            report(node, path, "the key url is missing; allowed: \(ListenerURL.allowed)")
            return nil
        }
        let problemCount = problems.count
        let urlPath = "\(path).\(Schema.listenerURL)"
        var listener = readListener(url.value, path: urlPath) ?? .standard
        effective.origins[urlPath] = origin(url.key)
        refuseTwice(Self.socketOptions(in: url.value), of: mapping, path: path)
        let options = mapping.filter { $0.key.string != Schema.listenerURL }.map { ($0.key, $0.value) }
        read(Node.Mapping(options), path: path, keys: Schema.listenerOptions, into: &listener)
        return problems.count == problemCount ? listener : nil
    }

    /// The names of the options behind the question mark of a Unix socket's URL.
    private static func socketOptions(in url: Node) -> [String] {
        guard let text = url.scalar?.string, text.contains("unix:"), let mark = text.firstIndex(of: "?") else {
            return []
        }
        return text[mark...].dropFirst().split(separator: "&").map { String($0.prefix { $0 != "=" }) }
    }

    private mutating func refuseTwice(_ names: [String], of mapping: Node.Mapping, path: String) {
        for (key, _) in mapping {
            guard let name = key.scalar?.string, names.contains(name) else { continue }
            report(key, "\(path).\(name)", "is in the URL too; allowed: one of both")
        }
    }

    // MARK: Entries

    private struct Entry {
        var name: String
        var key: Node
        var value: Node
    }

    /// The entries of a mapping whose keys are unique texts. Reports the others.
    private mutating func entries(of mapping: Node.Mapping, section: String) -> [Entry] {
        var entries: [Entry] = []
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                report(key, section, "found \(key.kind) as a key; allowed: a name")
                continue
            }
            var name = Substring(scalar.string)
            guard name.hasPrefix(ConfigurationFile.duplicatePrefix) else {
                entries.append(Entry(name: scalar.string, key: key, value: value))
                continue
            }
            while name.hasPrefix(ConfigurationFile.duplicatePrefix) {
                name = name.dropFirst(ConfigurationFile.duplicatePrefix.count)
            }
            let path = section.isEmpty ? String(name) : "\(section).\(name)"
            let later = mapping.reversed().first { $0.key.string == String(name) }
            report(later?.key ?? key, path, "given more than once, first in line \(line(key))")
        }
        return entries
    }

    /// The value of a key. nil: it is not valid and was reported.
    private mutating func value<Root>(of entry: Entry, path: String, _ setting: Setting<Root>) -> SettingValue? {
        if case .list(_, let accepts) = setting.form, case .sequence(let items) = entry.value {
            if items.isEmpty, setting.mayBeEmpty { return .list([]) }
            return list(items, in: entry, path: path, accepts: accepts, allowed: setting.allowed)
        }
        guard case .scalar(let scalar) = entry.value, !entry.value.isNothing else {
            report(entry.value, path, "found \(entry.value.kind); allowed: \(setting.allowed)")
            return nil
        }
        // A quoted number or flag is a text: somebody added the quotes on purpose.
        let isTextInstead = scalar.style != .plain && scalar.style != .any && !setting.takesText
        if !isTextInstead, let value = setting.parse(scalar.string) { return value }
        let found = (isTextInstead ? "the text " : "") + excerpt(scalar.string)
        var note = ""
        if case .list = setting.form { note = Network.note(on: scalar.string) ?? "" }
        report(entry.value, path, "found \(found)\(note); allowed: \(setting.allowed)")
        return nil
    }

    private mutating func list(
        _ items: Node.Sequence, in entry: Entry, path: String, accepts: (String) -> Bool, allowed: String
    ) -> SettingValue? {
        var texts: [String] = []
        for (index, item) in items.enumerated() {
            if case .scalar(let scalar) = item, accepts(scalar.string) {
                texts.append(scalar.string)
            } else {
                let found = item.scalar.map { excerpt($0.string) } ?? item.kind
                let note = item.scalar.flatMap { Network.note(on: $0.string) } ?? ""
                report(item, "\(path)[\(index)]", "found \(found)\(note); allowed: \(allowed)")
            }
        }
        if items.isEmpty { report(entry.value, path, "found an empty list; allowed: \(allowed)") }
        return texts.count == items.count && !texts.isEmpty ? .list(texts) : nil
    }

    // MARK: Places

    private func line(_ node: Node) -> Int { node.mark?.line ?? 1 }

    private func origin(_ node: Node) -> Origin { .file(name: name, line: line(node)) }

    private mutating func report(_ node: Node, _ path: String, _ text: String) {
        problems.append((line(node), path, text))
    }
}

extension Setting {
    /// Whether the key takes text, so that quotes make no difference.
    fileprivate var takesText: Bool {
        switch form {
        case .integer, .flag: false
        case .choice, .text, .list: true
        }
    }
}

extension Node {
    /// An empty value, `~` or `null`, not quoted.
    fileprivate var isNothing: Bool {
        guard case .scalar(let scalar) = self, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    /// The kind of the node as text.
    fileprivate var kind: String {
        switch self {
        case .scalar: isNothing ? "nothing" : excerpt(string ?? "")
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }
}
