import Broker

extension EffectiveSettings {
    /// The configuration as a YAML file, with the origin of each value as a comment. Reading the file gives the same
    /// configuration.
    public var explanation: String {
        var writer = YAMLWriter()
        for setting in Schema.settings {
            if setting.path == "log.level" {
                writeHosts(to: &writer)
                writeDestinations(to: &writer)
            }
            if setting.path == Schema.listenersPath, hasListenerOptions {
                writeListeners(to: &writer)
                continue
            }
            writer.write(setting.path, setting.format(setting.get(settings)), note: "\(origin(of: setting.path))")
        }
        return writer.text
    }

    private func writeDestinations(to writer: inout YAMLWriter) {
        write(settings.broker.destinationPolicies, of: Schema.destinations, keys: Schema.destinationKeys, to: &writer)
    }

    /// Writes a list of mappings.
    func write<Root>(_ entries: [Root], of list: String, keys: [Setting<Root>], to writer: inout YAMLWriter) {
        guard !entries.isEmpty else {
            writer.write(list, "[]", note: "\(origin(of: list))")
            return
        }
        writer.write(list, "", note: "\(origin(of: list))")
        for (index, entry) in entries.enumerated() {
            var lead = "  - "
            for key in keys {
                let origin = origin(of: "\(list)[\(index)].\(key.path)")
                writer.line("\(lead)\(key.path): \(key.format(key.get(entry)))", note: "\(origin)")
                lead = "    "
            }
        }
    }
}

extension EffectiveSettings {
    /// Whether a listener has options that a URL cannot have.
    private var hasListenerOptions: Bool {
        settings.listeners.contains { (try? ListenerSettings($0.description)) != $0 }
    }

    private func writeListeners(to writer: inout YAMLWriter) {
        writer.write(Schema.listenersPath, "", note: "\(origin(of: Schema.listenersPath))")
        for (index, listener) in settings.listeners.enumerated() {
            let path = "\(Schema.listenersPath)[\(index)]"
            let url = "  - \(Schema.listenerURL): \(quoted(listener.url.description))"
            writer.line(url, note: "\(origins["\(path).\(Schema.listenerURL)"] ?? origin(of: Schema.listenersPath))")
            let plain = ListenerSettings(url: listener.url)
            var section = Substring()
            for option in Schema.listenerOptions where option.get(listener) != option.get(plain) {
                let parts = option.path.split(separator: ".")
                if parts.count > 1, parts[0] != section { writer.line("    \(parts[0]):") }
                section = parts.count > 1 ? parts[0] : ""
                let indentation = parts.count > 1 ? "      " : "    "
                writer.line(
                    "\(indentation)\(parts[parts.count - 1]): \(option.format(option.get(listener)))",
                    note: "\(origin(of: "\(path).\(option.path)"))")
            }
        }
    }
}

/// The documentation of all keys: the text of Config/stampede.yaml. It is generated from the table of keys, so that
/// both agree.
public enum ConfigurationReference {
    public static var yaml: String {
        var writer = YAMLWriter()
        for line in heading { writer.comment(line) }
        let defaults = Settings()
        for setting in Schema.settings {
            if setting.path == "log.level" {
                writeHosts(to: &writer)
                writeDestinations(to: &writer)
            }
            writer.open(sectionsOf: setting.path, separated: true)
            writer.comment(setting.why)
            writer.comment(form(of: setting))
            if setting.path == Schema.listenersPath { writeListenerOptions(to: &writer) }
            writer.write(setting.path, setting.format(setting.get(defaults)))
        }
        return writer.text
    }

    private static let heading = [
        "The configuration of Stampede: every key, with its default.",
        "",
        "    stampede serve --config FILE          STAMPEDE_CONFIG names a file too; no other file is read",
        "    stampede config --config FILE         checks a file; prints each value in force and its origin",
        "",
        "A file holds only what differs from here. Any key can also be set by `--set KEY=VALUE`, as in",
        "`--set io.uring.sq-entries=8192`, or by an environment variable, as in STAMPEDE_IO_URING_SQ_ENTRIES=8192;",
        "a list's items are separated by commas there. The command line beats the environment, which beats the file.",
        "Unknown keys, wrong types and values out of range are errors. `destinations`, `hosts`, and options of a listener,",
        "can be set in a file only.",
        "",
        "This file is made by `stampede config --reference`.",
    ]

    /// The line below the reason: "Allowed: a power of two from 64 to 32768, a whole number."
    static func form<Root>(of setting: Setting<Root>) -> String {
        "Allowed: \(setting.allowed)."
    }

    private static func writeListenerOptions(to writer: inout YAMLWriter) {
        writer.comment("An entry with options, each with its default:")
        writer.comment("")
        writer.comment("    # \(Schema.listenerURLWhy)")
        writer.comment("  - \(Schema.listenerURL): \(quoted("unix:/run/stampede/stampede.sock"))")
        var section = Substring()
        for option in Schema.listenerOptions {
            let parts = option.path.split(separator: ".")
            writer.comment("")
            if parts.count > 1, parts[0] != section { writer.comment("    \(parts[0]):") }
            section = parts.count > 1 ? parts[0] : ""
            let indentation = parts.count > 1 ? "      " : "    "
            writer.comment("\(indentation)# \(option.why)")
            writer.comment("\(indentation)# \(form(of: option))")
            let value = option.format(option.get(ListenerSettings.standard))
            writer.comment("\(indentation)\(parts[parts.count - 1]): \(value)")
        }
    }

    private static func writeDestinations(to writer: inout YAMLWriter) {
        writer.open(sectionsOf: Schema.destinations, separated: true)
        writer.comment(Schema.destinationsWhy)
        writer.comment("None by default: every destination has the values shown here. Each entry needs `match`.")
        write(
            DestinationPolicy(pattern: "/queue/orders.#"), of: Schema.destinations, keys: Schema.destinationKeys,
            to: &writer)
    }

    /// Writes an example of an entry as a comment, and the list, which has no entries by default.
    static func write<Root>(_ example: Root, of list: String, keys: [Setting<Root>], to writer: inout YAMLWriter) {
        var lead = "- "
        for key in keys {
            writer.comment("")
            writer.comment("    # \(key.why)")
            writer.comment("    # \(form(of: key))")
            writer.comment("  \(lead)\(key.path): \(key.format(key.get(example)))")
            lead = "  "
        }
        writer.write(list, "[]")
    }
}

/// Writes keys as nested YAML, given their paths. The keys of a section must be written one after the other.
struct YAMLWriter {
    private(set) var text = ""
    private var sections: [Substring] = []
    private let noteColumn = 52

    mutating func line(_ line: String, note: String = "") {
        text += line
        if !note.isEmpty {
            text += String(repeating: " ", count: max(noteColumn - line.count, 1)) + "# " + note
        }
        text += "\n"
    }

    mutating func comment(_ comment: String) {
        line(comment.isEmpty ? "\(indentation)#" : "\(indentation)# \(comment)")
    }

    /// Opens the sections of `path` that are not open yet. If `separated`, an empty line comes first.
    mutating func open(sectionsOf path: String, separated: Bool = false) {
        let wanted = Array(path.split(separator: ".").dropLast())
        let sharedCount = zip(wanted, sections).prefix { $0 == $1 }.count
        if separated && !text.hasSuffix(":\n") { text += "\n" }
        sections.removeLast(sections.count - sharedCount)
        for name in wanted[sharedCount...] {
            line("\(indentation)\(name):")
            sections.append(name)
        }
    }

    mutating func write(_ path: String, _ value: String, note: String = "") {
        open(sectionsOf: path)
        let key = path.split(separator: ".").last ?? ""
        line(value.isEmpty ? "\(indentation)\(key):" : "\(indentation)\(key): \(value)", note: note)
    }

    private var indentation: String { String(repeating: "  ", count: sections.count) }
}
