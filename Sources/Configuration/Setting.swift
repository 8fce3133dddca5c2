/// The value of a key, independent of the type of its field.
enum SettingValue: Equatable, Sendable {
    case integer(Int)
    case flag(Bool)
    case text(String)
    case list([String])
}

/// One key of the configuration: a row of the table that is used to read files, apply overrides, explain the
/// configuration and generate the reference. `Root` is `Settings`, or `DestinationPolicy` for the entries of
/// `destinations`.
struct Setting<Root>: Sendable {
    /// The values that the key accepts.
    enum Form: Sendable {
        case integer(Quantity)
        case flag
        case choice([String])
        /// Text for which `accepts` returns true. `allowed` describes it.
        case text(allowed: String, accepts: @Sendable (String) -> Bool)
        /// One text or several. `accepts` must return true for each.
        case list(allowed: String, accepts: @Sendable (String) -> Bool)
    }

    /// The sections and the key, joined by dots: "io.uring.sq-entries".
    let path: String
    let form: Form
    /// One line of documentation: what the key does, and when to change it.
    let why: String
    let get: @Sendable (Root) -> SettingValue
    /// Sets the field. The value must match `form`.
    let set: @Sendable (inout Root, SettingValue) -> Void
    /// The value may be a list without items.
    var mayBeEmpty = false
    /// Words that may stand in place of a list.
    var words: [String] = []

    /// The text that completes "allowed: ".
    var allowed: String {
        switch form {
        case .integer(let quantity): quantity.allowedInFull
        case .flag: "true or false"
        case .choice(let names): names.joined(separator: ", ")
        case .text(let allowed, _): allowed
        case .list(let allowed, _): "one or several of \(allowed)"
        }
    }

    /// Parses an unquoted text. nil: not allowed.
    func parse(_ text: String) -> SettingValue? {
        switch form {
        case .integer(let quantity):
            guard let value = quantity.unit.parse(text), quantity.accepts(value) else { return nil }
            return .integer(value)
        case .flag:
            return text == "true" ? .flag(true) : text == "false" ? .flag(false) : nil
        case .choice(let names):
            return names.contains(text) ? .text(text) : nil
        case .text(_, let accepts):
            return accepts(text) ? .text(text) : nil
        case .list(_, let accepts):
            return accepts(text) || words.contains(text) ? .list([text]) : nil
        }
    }

    /// Parses the text of an environment variable or of `--set`. The items of a list are separated by commas.
    func parseOverride(_ text: String) -> SettingValue? {
        guard case .list(_, let accepts) = form else { return parse(text) }
        if text.isEmpty, mayBeEmpty { return .list([]) }
        let items = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        return items.allSatisfy(accepts) ? .list(items) : nil
    }

    /// The value as text, in the notation of the configuration file.
    func format(_ value: SettingValue) -> String {
        switch (value, form) {
        case (.integer(let number), .integer(let quantity)): quantity.unit.format(number)
        case (.integer(let number), _): "\(number)"
        case (.flag(let flag), _): "\(flag)"
        case (.text(let text), .choice): text
        case (.text(let text), _): quoted(text)
        case (.list(let items), _) where items.count == 1 && words.contains(items[0]): items[0]
        case (.list(let items), _): "[\(items.map(quoted).joined(separator: ", "))]"
        }
    }
}

// MARK: - Rows

extension Setting {
    typealias Field<Value> = any WritableKeyPath<Root, Value> & Sendable

    static func integer(_ path: String, _ field: Field<Int>, _ quantity: Quantity, _ why: String) -> Setting {
        Setting(
            path: path, form: .integer(quantity), why: why,
            get: { .integer($0[keyPath: field]) },
            set: { root, value in
                if case .integer(let number) = value { root[keyPath: field] = number }
            })
    }

    static func count(
        _ path: String, _ field: Field<Int>, _ range: ClosedRange<Int>, zero: String? = nil, powerOfTwo: Bool = false,
        _ why: String
    ) -> Setting {
        let quantity = Quantity(unit: .count, range: range, isPowerOfTwo: powerOfTwo, zeroMeaning: zero)
        return integer(path, field, quantity, why)
    }

    static func bytes(
        _ path: String, _ field: Field<Int>, _ range: ClosedRange<Int>, zero: String? = nil, _ why: String
    ) -> Setting {
        integer(path, field, Quantity(unit: .bytes, range: range, zeroMeaning: zero), why)
    }

    static func milliseconds(
        _ path: String, _ field: Field<Int>, _ range: ClosedRange<Int>, zero: String? = nil, _ why: String
    ) -> Setting {
        integer(path, field, Quantity(unit: .milliseconds, range: range, zeroMeaning: zero), why)
    }

    static func flag(_ path: String, _ field: Field<Bool>, _ why: String) -> Setting {
        Setting(
            path: path, form: .flag, why: why,
            get: { .flag($0[keyPath: field]) },
            set: { root, value in
                if case .flag(let flag) = value { root[keyPath: field] = flag }
            })
    }

    static func text(
        _ path: String, _ field: Field<String>, allowed: String, _ why: String,
        accepts: @escaping @Sendable (String) -> Bool
    ) -> Setting {
        Setting(
            path: path, form: .text(allowed: allowed, accepts: accepts), why: why,
            get: { .text($0[keyPath: field]) },
            set: { root, value in
                if case .text(let text) = value { root[keyPath: field] = text }
            })
    }

    /// A list of texts.
    static func list(
        _ path: String, _ field: Field<[String]>, allowed: String, mayBeEmpty: Bool = true, _ why: String,
        accepts: @escaping @Sendable (String) -> Bool
    ) -> Setting {
        Setting(
            path: path, form: .list(allowed: allowed, accepts: accepts), why: why,
            get: { .list($0[keyPath: field]) },
            set: { root, value in
                if case .list(let items) = value { root[keyPath: field] = items }
            },
            mayBeEmpty: mayBeEmpty)
    }

    /// A choice of named values. A field value without a name is shown as the first one.
    static func choice<Value: Equatable & Sendable>(
        _ path: String, _ field: Field<Value>, _ names: [(name: String, value: Value)], _ why: String
    ) -> Setting {
        Setting(
            path: path, form: .choice(names.map(\.name)), why: why,
            get: { root in .text((names.first { $0.value == root[keyPath: field] } ?? names[0]).name) },
            set: { root, value in
                if case .text(let name) = value, let chosen = names.first(where: { $0.name == name }) {
                    root[keyPath: field] = chosen.value
                }
            })
    }

    /// A choice of all cases of an enum, named by their raw values.
    static func choice<Value: CaseIterable & RawRepresentable & Equatable & Sendable>(
        _ path: String, _ field: Field<Value>, _ why: String
    ) -> Setting where Value.RawValue == String {
        choice(path, field, Value.allCases.map { ($0.rawValue, $0) }, why)
    }
}
