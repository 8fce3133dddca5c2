import STOMP

enum Ascii {
    static let nul: UInt8 = 0
    static let lineFeed = UInt8(ascii: "\n")
    static let carriageReturn = UInt8(ascii: "\r")
    static let colon = UInt8(ascii: ":")
    static let backslash = UInt8(ascii: "\\")
    static let comma = UInt8(ascii: ",")

    /// What STOMP 1.0 trims.
    static func isBlank(_ octet: UInt8) -> Bool {
        octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\t") || octet == carriageReturn
    }
}

/// The escapes as the specifications list them.
enum ReferenceEscapes {
    /// What the octet behind a backslash stands for; nil: undefined in this version.
    static func meaning(_ letter: UInt8, _ version: Version) -> UInt8? {
        switch (letter, version) {
        case (_, .v1_0): nil
        case (UInt8(ascii: "n"), _): Ascii.lineFeed
        case (UInt8(ascii: "c"), _): Ascii.colon
        case (Ascii.backslash, _): Ascii.backslash
        case (UInt8(ascii: "r"), .v1_2): Ascii.carriageReturn
        default: nil
        }
    }

    /// The letter that stands for an octet; nil: the octet stands for itself.
    static func letter(_ octet: UInt8, _ version: Version) -> UInt8? {
        // In 1.0 a line feed cannot be said; two characters in its place keep the frame whole.
        if octet == Ascii.lineFeed { return UInt8(ascii: "n") }
        for letter in StaticString("cr\\").octets where meaning(letter, version) == octet { return letter }
        return nil
    }

    /// Escapes `text` into `target` and returns how many octets that took.
    static func escape(_ text: UnsafeRawBufferPointer, _ version: Version, into target: UnsafeMutableRawPointer) -> Int
    {
        var count = 0
        for octet in text {
            if let letter = letter(octet, version) {
                target.storeBytes(of: Ascii.backslash, toByteOffset: count, as: UInt8.self)
                target.storeBytes(of: letter, toByteOffset: count + 1, as: UInt8.self)
                count += 2
            } else {
                target.storeBytes(of: octet, toByteOffset: count, as: UInt8.self)
                count += 1
            }
        }
        return count
    }

    /// Undoes the escapes of `raw`; nil where one is undefined or cut off.
    static func unescape(
        _ raw: UnsafeRawBufferPointer, _ version: Version, into target: UnsafeMutableRawPointer
    ) -> Int? {
        var count = 0
        var isSecond = false
        for octet in raw {
            if octet == Ascii.backslash && !isSecond {
                isSecond = true
                continue
            }
            guard let meant = isSecond ? meaning(octet, version) : octet else { return nil }
            isSecond = false
            target.storeBytes(of: meant, toByteOffset: count, as: UInt8.self)
            count += 1
        }
        return isSecond ? nil : count
    }
}

/// Numbers, versions and heart-beats as headers hold them.
enum ReferenceValues {
    /// Digits alone, and a number of at most 64 bits.
    static func integer(_ text: UnsafeRawBufferPointer) -> UInt64? {
        if text.isEmpty { return nil }
        var number: UInt64 = 0
        for octet in text {
            guard octet >= UInt8(ascii: "0"), octet <= UInt8(ascii: "9") else { return nil }
            let (tenfold, isTooLarge) = number.multipliedReportingOverflow(by: 10)
            let (sum, carries) = tenfold.addingReportingOverflow(UInt64(octet & 15))
            if isTooLarge || carries { return nil }
            number = sum
        }
        return number
    }

    static func heartBeat(_ text: UnsafeRawBufferPointer) -> (UInt32, UInt32)? {
        guard let comma = text.firstIndex(of: Ascii.comma) else { return nil }
        let first = trimmed(UnsafeRawBufferPointer(rebasing: text[..<comma]))
        let second = trimmed(UnsafeRawBufferPointer(rebasing: text[(comma + 1)...]))
        guard let sends = integer(first), let wants = integer(second), sends <= UInt32.max, wants <= UInt32.max else {
            return nil
        }
        return (UInt32(sends), UInt32(wants))
    }

    static func highestVersion(_ list: UnsafeRawBufferPointer) -> Version? {
        var best: Version?
        var start = 0
        while start <= list.count {
            let end = list[start...].firstIndex(of: Ascii.comma) ?? list.count
            let entry = trimmed(UnsafeRawBufferPointer(rebasing: list[start..<end]))
            let digit = entry.last ?? 0
            if entry.count == 3, entry.starts(with: StaticString("1.").octets),
                let version = Version(rawValue: digit &- UInt8(ascii: "0")), best == nil || version > best!
            {
                best = version
            }
            start = end + 1
        }
        return best
    }

    static func trimmed(_ text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var text = text[...]
        while let first = text.first, Ascii.isBlank(first) { text.removeFirst() }
        while let last = text.last, Ascii.isBlank(last) { text.removeLast() }
        return UnsafeRawBufferPointer(rebasing: text)
    }
}

/// The names that the broker knows, looked up one by one among those of the same length.
struct ReferenceNames: ~Copyable {
    static let byteCountMax = 32
    /// In the order of their lengths.
    private let names: UnsafeMutablePointer<(name: HeaderName, text: StaticString)>
    /// Where the names of each length begin.
    private let starts: UnsafeMutablePointer<Int>

    init() {
        let all = HeaderName.allCases.map { ($0, $0.text) } + HeaderName.sendOptions.map { (.sendOption, $0) }
        names = .allocate(capacity: all.count)
        starts = .allocate(capacity: Self.byteCountMax + 2)
        var count = 0
        for length in 0...(Self.byteCountMax + 1) {
            starts[length] = count
            for (name, text) in all where length > 0 && text.utf8CodeUnitCount == length {
                names[count] = (name, text)
                count += 1
            }
        }
    }

    deinit {
        names.deallocate()
        starts.deallocate()
    }

    func name(_ text: UnsafeRawBufferPointer) -> HeaderName {
        guard text.count <= Self.byteCountMax else { return .other }
        for place in starts[text.count]..<starts[text.count + 1] where names[place].text.octets.elementsEqual(text) {
            return names[place].name
        }
        return .other
    }
}

extension StaticString {
    var octets: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: utf8Start, count: utf8CodeUnitCount) }
}
