import Transports

/// Octets as what comes before STOMP: a PROXY header, or the request that opens a WebSocket.
enum HandshakeFuzzer {
    /// Memory that ends with the last octet, so that Address Sanitizer finds a read beyond.
    private static func withCopy<Result>(
        _ octets: UnsafeRawBufferPointer, _ count: Int, _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyMemory(from: UnsafeRawBufferPointer(rebasing: octets[..<count]))
        return body(UnsafeRawBufferPointer(copy))
    }

    /// A header is found when its last octet is there, and a fault stays one.
    static func checkProxy(_ octets: UnsafeRawBufferPointer) -> String? {
        let whole = withCopy(octets, octets.count) { ProxyHeader($0) }
        var decidedAt = octets.count + 1
        for count in 0...octets.count {
            let verdict = withCopy(octets, count) { ProxyHeader($0) }
            if verdict == .incomplete {
                if count >= ProxyHeader.byteCountMax { return "\(count) octets are not enough" }
                continue
            }
            if verdict != whole { return "after \(count) octets \(verdict), after all \(whole)" }
            decidedAt = min(decidedAt, count)
        }
        guard case .complete(let byteCount, let source) = whole else { return nil }
        if byteCount != decidedAt { return "a header of \(byteCount) octets is found after \(decidedAt)" }
        if let source, ClientAddress(source.description) != source { return "\(source) is not read back" }
        return nil
    }

    /// The end of the head is found wherever the pieces end, and what is accepted is what the RFC demands.
    static func checkUpgrade(_ octets: UnsafeRawBufferPointer) -> String? {
        guard octets.count > 1 else { return nil }
        let split = Int(octets[0]) * (octets.count - 1) / 256
        let request = UnsafeRawBufferPointer(rebasing: octets.dropFirst())
        let whole = withCopy(request, request.count) { HTTPUpgrade.head($0, from: 0) }
        let first = withCopy(request, split) { HTTPUpgrade.head($0, from: 0) }
        switch first {
        case .incomplete(let searched):
            let second = withCopy(request, request.count) { HTTPUpgrade.head($0, from: searched) }
            if !same(second, whole) { return "split at \(split): \(second), whole: \(whole)" }
        case .complete, .refused: if first != whole { return "after \(split) octets \(first), after all \(whole)" }
        }
        guard case .complete(let byteCount) = whole else { return nil }
        let end = String(decoding: request[..<byteCount].suffix(4), as: UTF8.self)
        if end != "\r\n\r\n" { return "the head ends with \(end.debugDescription)" }
        return withCopy(request, byteCount) { judge($0) }
    }

    /// How far was searched may differ.
    private static func same(_ one: HTTPUpgrade.Head, _ other: HTTPUpgrade.Head) -> Bool {
        if case .incomplete = one, case .incomplete = other { return true }
        return one == other
    }

    private static func judge(_ head: UnsafeRawBufferPointer) -> String? {
        var listener = ListenerTransport()
        listener.origins = OriginRules(origins: ["https://*.example.org"])
        let text = String(decoding: head, as: UTF8.self).lowercased()
        do throws(HTTPRefusal) {
            let upgrade = try HTTPUpgrade(head, for: listener)
            for word in ["get ", " http/1.1\r\n", "upgrade", "websocket", "sec-websocket-key", "host:"] {
                guard text.contains(word) else { return "accepted without \(word.debugDescription)" }
            }
            if text.contains("\norigin:"), !text.contains(".example.org") { return "a strange origin is accepted" }
            if !String(decoding: upgrade.answer, as: UTF8.self).hasSuffix("\r\n\r\n") { return "the answer has no end" }
            return nil
        } catch {
            return error.answer.isEmpty ? "a refusal without an answer" : nil
        }
    }
}
