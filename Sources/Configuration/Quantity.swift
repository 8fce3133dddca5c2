/// The unit of a whole number in the configuration, and its notation.
enum Unit: Sendable, CaseIterable {
    case count
    case bytes
    case bytesPerSecond
    case milliseconds
    case microseconds
    case percent

    /// The suffixes that a value may have, largest first. A number without suffix has the unit in the name of the key.
    var suffixes: [(name: String, factor: Int)] {
        switch self {
        case .count, .percent: []
        case .bytes, .bytesPerSecond: [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        case .milliseconds: [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
        case .microseconds: [("ms", 1_000), ("us", 1)]
        }
    }

    /// The unit as text, for the reference. Empty for a plain number.
    var name: String {
        switch self {
        case .count: ""
        case .bytes: "bytes"
        case .bytesPerSecond: "bytes per second"
        case .milliseconds: "milliseconds"
        case .microseconds: "microseconds"
        case .percent: "percent"
        }
    }

    /// Parses decimal digits and at most one suffix. nil: not a number, or it does not fit 64 bits.
    func parse(_ text: String) -> Int? {
        let digits = text.utf8.prefix { (0x30...0x39).contains($0) }
        guard !digits.isEmpty, let number = Int(String(Substring(digits))) else { return nil }
        let suffix = String(Substring(text.utf8.dropFirst(digits.count)))
        if suffix.isEmpty { return number }
        guard let factor = suffixes.first(where: { $0.name == suffix })?.factor else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }

    /// The shortest text that `parse` reads back as `value`: 8KiB, 5s, 1000.
    func format(_ value: Int) -> String {
        for (name, factor) in suffixes where factor > 1 && value >= factor && value.isMultiple(of: factor) {
            return "\(value / factor)\(name)"
        }
        return "\(value)"
    }

    /// As `format`, but with the suffix of the unit if there is one: 100ms.
    func describe(_ value: Int) -> String {
        let text = format(value)
        guard text == "\(value)", let own = suffixes.first(where: { $0.factor == 1 }) else { return text }
        return text + own.name
    }
}

/// The whole numbers that a key accepts.
struct Quantity: Sendable {
    var unit: Unit
    var range: ClosedRange<Int>
    /// The value must be a power of two, because the kernel requires it. Rounding silently would hide from the operator
    /// which value is used.
    var isPowerOfTwo = false
    /// The meaning of 0 if it is allowed in addition to `range`.
    var zeroMeaning: String?

    func accepts(_ value: Int) -> Bool {
        if value == 0 && zeroMeaning != nil { return true }
        return range.contains(value) && !(isPowerOfTwo && value.nonzeroBitCount != 1)
    }

    /// "a power of two from 64 to 32768", "0 (off), or 1KiB to 64MiB".
    var allowed: String {
        let bounds =
            (isPowerOfTwo ? "a power of two from " : "")
            + "\(unit.describe(range.lowerBound)) to \(unit.describe(range.upperBound))"
        guard let zeroMeaning else { return bounds }
        return "0 (\(zeroMeaning)), or \(bounds)"
    }

    /// `allowed`, followed by the suffixes that may be used.
    var allowedInFull: String {
        let names = unit.suffixes.map(\.name)
        let unitNote =
            switch (unit.name.isEmpty, names.isEmpty) {
            case (true, _): "a whole number"
            case (false, true): "in \(unit.name)"
            case (false, false): "in \(unit.name) or with \(names.reversed().joined(separator: ", "))"
            }
        return "\(allowed), \(unitNote)"
    }
}
