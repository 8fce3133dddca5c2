/// One offer of permessage-deflate (RFC 7692, section 7.1), and what is answered to it.
struct CompressionOffer {
    /// The client asks that what it is sent refers to no message before.
    private(set) var serverNoContextTakeover = false
    /// What the client sends will not.
    private(set) var clientNoContextTakeover = false
    /// What the client is sent may refer back 2^this bytes at most. nil: it says nothing.
    private(set) var serverMaxWindowBits: Int?
    /// The client lets the server limit its window, which is 2^this at most. nil: it does not.
    private(set) var clientMaxWindowBits: Int?

    static let name: StaticString = "permessage-deflate"

    /// nil: a parameter is unknown, is there twice, or has a value that it cannot have. Such an offer is declined (RFC
    /// 7692, section 7.1).
    init?(_ offer: ExtensionOffers.Offer) {
        var seen: UInt8 = 0
        for parameter in offer.parameters {
            guard let kind = Kind(parameter.name), seen & kind.rawValue == 0 else { return nil }
            seen |= kind.rawValue
            switch kind {
            case .serverNoContextTakeover, .clientNoContextTakeover:
                guard parameter.value == nil else { return nil }
                if kind == .serverNoContextTakeover {
                    serverNoContextTakeover = true
                } else {
                    clientNoContextTakeover = true
                }
            case .serverMaxWindowBits:
                guard let value = parameter.value, let bits = Self.windowBits(value) else { return nil }
                serverMaxWindowBits = bits
            case .clientMaxWindowBits:
                guard let value = parameter.value else {
                    clientMaxWindowBits = 15
                    continue
                }
                guard let bits = Self.windowBits(value) else { return nil }
                clientMaxWindowBits = bits
            }
        }
    }

    private enum Kind: UInt8 {
        case serverNoContextTakeover = 1
        case clientNoContextTakeover = 2
        case serverMaxWindowBits = 4
        case clientMaxWindowBits = 8

        init?(_ name: ExtensionOffers.Octets) {
            if Token.equals(name, "server_no_context_takeover") {
                self = .serverNoContextTakeover
            } else if Token.equals(name, "client_no_context_takeover") {
                self = .clientNoContextTakeover
            } else if Token.equals(name, "server_max_window_bits") {
                self = .serverMaxWindowBits
            } else if Token.equals(name, "client_max_window_bits") {
                self = .clientMaxWindowBits
            } else {
                return nil
            }
        }
    }

    /// A decimal number from 8 to 15 without leading zeros.
    private static func windowBits(_ value: ExtensionOffers.Octets) -> Int? {
        if value.elementsEqual("8".utf8) { return 8 }
        if value.elementsEqual("9".utf8) { return 9 }
        guard value.count == 2, value.first == UInt8(ascii: "1"), let last = value.last,
            (UInt8(ascii: "0")...UInt8(ascii: "5")).contains(last)
        else { return nil }
        return 10 + Int(last - UInt8(ascii: "0"))
    }

    /// What is agreed on. nil: the offer is declined, because the client wants a window of 2^8 bytes, which zlib does not
    /// make.
    func agreement(_ options: CompressionOptions) -> CompressionAgreement? {
        let serverBits = min(serverMaxWindowBits ?? 15, options.windowBits)
        guard serverBits >= 9 else { return nil }
        let clientBits = min(clientMaxWindowBits ?? 15, options.windowBits)
        // A client that does not let its window be limited may use all of it. Without a context that costs nothing.
        let isLimited = clientMaxWindowBits != nil || options.windowBits == 15
        let clientTakesOver = options.takesOverContext && !clientNoContextTakeover && isLimited
        return CompressionAgreement(
            serverWindowBits: serverBits, clientWindowBits: clientTakesOver ? clientBits : 15,
            serverTakesOver: options.takesOverContext && !serverNoContextTakeover, clientTakesOver: clientTakesOver)
    }

    /// The value of `Sec-WebSocket-Extensions` in the answer.
    func answer(_ agreement: CompressionAgreement) -> String {
        var text = "\(Self.name)"
        if !agreement.serverTakesOver { text += "; server_no_context_takeover" }
        if !agreement.clientTakesOver { text += "; client_no_context_takeover" }
        if agreement.serverWindowBits < 15 || serverMaxWindowBits != nil {
            text += "; server_max_window_bits=\(agreement.serverWindowBits)"
        }
        // Only a client that offers it understands it (section 7.1.2.2).
        if clientMaxWindowBits != nil, agreement.clientTakesOver, agreement.clientWindowBits < 15 {
            text += "; client_max_window_bits=\(agreement.clientWindowBits)"
        }
        return text
    }

    /// The first offer that is acceptable, and its answer. nil: there is none, or compression is off.
    ///
    /// - Parameter hasRoom: whether there is memory for the contexts that would be taken over.
    static func accept(
        _ values: [ExtensionOffers.Octets], _ options: CompressionOptions,
        _ hasRoom: (CompressionAgreement) -> Bool
    ) throws(HTTPRefusal) -> (agreement: CompressionAgreement, answer: String)? {
        guard options.isOn, !values.isEmpty else { return nil }
        guard let offers = ExtensionOffers.all(values) else {
            throw .malformed("Sec-WebSocket-Extensions is malformed")
        }
        for offer in offers where Token.equals(offer.name, name) {
            guard let parsed = CompressionOffer(offer), var agreement = parsed.agreement(options) else { continue }
            if !hasRoom(agreement) {
                var frugal = options
                frugal.takesOverContext = false
                agreement = parsed.agreement(frugal) ?? agreement
            }
            return (agreement, parsed.answer(agreement))
        }
        return nil
    }
}
