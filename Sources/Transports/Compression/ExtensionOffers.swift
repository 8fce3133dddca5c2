/// The value of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1), read element by element:
///
///     permessage-deflate; server_max_window_bits=10; client_no_context_takeover, permessage-deflate
///
/// A value may be a token or a token in quotation marks. Nothing is copied.
struct ExtensionOffers {
    typealias Octets = Slice<UnsafeRawBufferPointer>

    struct Parameter {
        var name: Octets
        /// nil: it has none.
        var value: Octets?
    }

    struct Offer {
        var name: Octets
        var parameters: [Parameter] = []
    }

    /// Parameters of one offer. There are four that mean something, and none of them may be there twice.
    private static let parameterCountMax = 16

    private var rest: Octets

    /// - Parameter value: of one header. Several of them are a list together.
    init(_ value: Octets) { rest = value }

    /// All offers of the headers, in the order of the client's preference. nil: malformed.
    static func all(_ values: [Octets]) -> [Offer]? {
        var offers: [Offer] = []
        for value in values {
            var reader = ExtensionOffers(value)
            reader.skipBlanks()
            while !reader.rest.isEmpty {
                // Empty elements of a list are allowed (RFC 9110, section 5.6.1).
                if !reader.take(UInt8(ascii: ",")) {
                    guard let offer = reader.offer() else { return nil }
                    offers.append(offer)
                }
                reader.skipBlanks()
            }
        }
        return offers
    }

    private mutating func offer() -> Offer? {
        guard let name = token() else { return nil }
        var offer = Offer(name: name)
        skipBlanks()
        while take(UInt8(ascii: ";")) {
            skipBlanks()
            guard let name = token(), offer.parameters.count < Self.parameterCountMax else { return nil }
            var parameter = Parameter(name: name)
            skipBlanks()
            if take(UInt8(ascii: "=")) {
                skipBlanks()
                guard let value = value() else { return nil }
                parameter.value = value
                skipBlanks()
            }
            offer.parameters.append(parameter)
        }
        return rest.isEmpty || take(UInt8(ascii: ",")) ? offer : nil
    }

    private mutating func value() -> Octets? {
        guard take(UInt8(ascii: "\"")) else { return token() }
        let value = token()
        return take(UInt8(ascii: "\"")) ? value : nil
    }

    private mutating func token() -> Octets? {
        let token = rest.prefix(while: Token.isTokenOctet)
        rest = rest[token.endIndex...]
        return token.isEmpty ? nil : token
    }

    private mutating func take(_ octet: UInt8) -> Bool {
        guard rest.first == octet else { return false }
        rest = rest.dropFirst()
        return true
    }

    private mutating func skipBlanks() { rest = rest.drop(while: Token.isBlank) }
}
