/// The head of an HTTP/1.1 request: the request line and the headers (RFC 9112, sections 3 and 5), up to the empty line.
///
///     GET /ws HTTP/1.1\r\n
///     Host: broker.example.org\r\n
///     Upgrade: websocket\r\n
///     \r\n
struct HTTPRequest {
    private let head: UnsafeRawBufferPointer
    private let fields: [Field]
    let method: Slice<UnsafeRawBufferPointer>
    /// The path of the target, without its query.
    let path: Slice<UnsafeRawBufferPointer>

    private struct Field {
        var name: Range<Int>
        var value: Range<Int>
    }

    static var headerCountMax: Int { 64 }

    /// - Parameter head: with the empty line at its end; it stays valid as long as the request is used.
    init(_ head: UnsafeRawBufferPointer) throws(HTTPRefusal) {
        self.head = head
        let lineEnd = Self.lineEnd(head, from: 0)
        (method, path) = try Self.requestLine(head[..<lineEnd])
        var fields: [Field] = []
        var place = lineEnd + 2
        while place < head.count - 2 {
            let end = Self.lineEnd(head, from: place)
            guard fields.count < Self.headerCountMax else { throw .headTooLarge }
            fields.append(try Self.field(head[place..<end]))
            place = end + 2
        }
        self.fields = fields
    }

    /// Where the line at `place` ends, before CR LF. A CR alone is part of the line, and found malformed there.
    private static func lineEnd(_ head: UnsafeRawBufferPointer, from place: Int) -> Int {
        var place = place
        while head[place] != 0x0D || head[place + 1] != 0x0A { place += 1 }
        return place
    }

    private static func requestLine(
        _ line: Slice<UnsafeRawBufferPointer>
    ) throws(HTTPRefusal) -> (Slice<UnsafeRawBufferPointer>, Slice<UnsafeRawBufferPointer>) {
        let words = line.split(separator: 0x20, omittingEmptySubsequences: false)
        guard words.count == 3, !words[0].isEmpty, words[0].allSatisfy(Token.isTokenOctet),
            words[1].allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else { throw .malformed("the request line is malformed") }
        guard words[2].elementsEqual("HTTP/1.1".utf8) else { throw .malformed("the version must be HTTP/1.1") }
        return (words[0], try path(of: words[1]))
    }

    /// Of "/path?query" or "http://host/path?query".
    private static func path(
        of target: Slice<UnsafeRawBufferPointer>
    ) throws(HTTPRefusal) -> Slice<UnsafeRawBufferPointer> {
        var path = target
        for scheme in ["http://", "https://", "ws://", "wss://"] where Token.begins(target, with: scheme) {
            path = target.dropFirst(scheme.utf8.count).drop { $0 != UInt8(ascii: "/") }
            if path.isEmpty { throw .malformed("the target has no path") }
        }
        guard path.first == UInt8(ascii: "/") else { throw .malformed("the target must be a path") }
        return path.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
    }

    private static func field(_ line: Slice<UnsafeRawBufferPointer>) throws(HTTPRefusal) -> Field {
        // A line that begins with a space continues the one before; nobody sends that, and proxies disagree about it.
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
            line[..<colon].allSatisfy(Token.isTokenOctet)
        else { throw .malformed("a header line is malformed") }
        var value = line[(colon + 1)...]
        guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
            throw .malformed("a header's value holds a control character")
        }
        value = value.drop(while: Token.isBlank)
        while let last = value.last, Token.isBlank(last) { value = value.dropLast() }
        return Field(name: line.startIndex..<colon, value: value.startIndex..<value.endIndex)
    }

    // MARK: Headers

    /// The values of the headers of that name, which is in lower case, in order.
    func values(_ name: StaticString) -> [Slice<UnsafeRawBufferPointer>] {
        fields.filter { Token.equals(head[$0.name], name) }.map { head[$0.value] }
    }

    /// The value of a header that may be there once. nil: it is not there.
    func value(_ name: StaticString) throws(HTTPRefusal) -> Slice<UnsafeRawBufferPointer>? {
        let values = values(name)
        guard values.count <= 1 else { throw .malformed("a header is there twice that may be there once") }
        return values.first
    }

    /// Whether one of the comma-separated elements of the headers is `token`, which is in lower case.
    func lists(_ name: StaticString, _ token: StaticString) -> Bool {
        elements(name).contains { Token.equals($0, token) }
    }

    /// The comma-separated elements of all headers of that name.
    func elements(_ name: StaticString) -> [Slice<UnsafeRawBufferPointer>] {
        values(name).flatMap { $0.split(separator: UInt8(ascii: ",")) }.compactMap { element in
            var element = element.drop(while: Token.isBlank)
            while let last = element.last, Token.isBlank(last) { element = element.dropLast() }
            return element.isEmpty ? nil : element
        }
    }
}

/// Comparisons without regard to case, of ASCII.
enum Token {
    static func isBlank(_ octet: UInt8) -> Bool { octet == 0x20 || octet == 0x09 }

    /// RFC 9110, section 5.6.2: what methods and names consist of.
    static func isTokenOctet(_ octet: UInt8) -> Bool {
        switch octet {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(octet)
        }
    }

    /// - Parameter token: in lower case.
    static func equals(_ octets: Slice<UnsafeRawBufferPointer>, _ token: StaticString) -> Bool {
        guard octets.count == token.utf8CodeUnitCount else { return false }
        for (place, octet) in octets.enumerated() where lowered(octet) != token.utf8Start[place] { return false }
        return true
    }

    static func begins(_ octets: Slice<UnsafeRawBufferPointer>, with start: String) -> Bool {
        octets.count >= start.utf8.count && zip(octets, start.utf8).allSatisfy { lowered($0) == $1 }
    }

    private static func lowered(_ octet: UInt8) -> UInt8 { (0x41...0x5A).contains(octet) ? octet | 0x20 : octet }
}
