/// A frame of the server as a client reads it.
struct ServerFrame {
    enum Command { case connected, message, receipt, error }
    var command: Command
    /// Unescaped as the version has it, in order.
    var headers: [(name: String, value: String)]
    var body: ArraySlice<UInt8>

    func value(_ name: String) -> String? {
        for header in headers where header.name == name { return header.value }
        return nil
    }
}

/// Decodes what the server sends: small, strict, and written independently of the broker's own parser.
///
///     COMMAND LF (name : value LF)* LF body NUL, and LF between frames.
struct WireDecoder {
    private var bytes: [UInt8] = []
    private var start = 0
    /// Bytes of whole frames and of line ends between them so far.
    private(set) var decodedByteCount = 0
    private(set) var lineEndCount = 0
    private(set) var failure: String?
    /// CONNECTED and ERROR before it are never escaped; afterwards the version decides.
    var version = 10

    /// Nothing of a frame has been received.
    var isBetweenFrames: Bool { start == bytes.count }

    mutating func append(_ more: UnsafeRawBufferPointer) {
        if start > 4096 {
            bytes.removeFirst(start)
            start = 0
        }
        bytes.append(contentsOf: more)
    }

    private mutating func fail(_ text: String) -> ServerFrame? {
        if failure == nil { failure = text }
        return nil
    }

    /// The next whole frame, or nil: more bytes are needed, or the stream is broken (`failure`).
    mutating func next() -> ServerFrame? {
        guard failure == nil else { return nil }
        while start < bytes.count, bytes[start] == 10 {
            start += 1
            decodedByteCount += 1
            lineEndCount += 1
        }
        return bytes.withUnsafeBufferPointer { $0.count > start } ? parse() : nil
    }

    private mutating func parse() -> ServerFrame? {
        var position = start
        func line() -> Range<Int>? {
            var end = position
            while end < bytes.count, bytes[end] != 10 { end += 1 }
            guard end < bytes.count else { return nil }
            defer { position = end + 1 }
            return position..<end
        }
        guard let first = line() else {
            return bytes.count - start > 16 ? fail("a command of more than 16 bytes") : nil
        }
        let command: ServerFrame.Command
        switch String(decoding: bytes[first], as: UTF8.self) {
        case "CONNECTED": command = .connected
        case "MESSAGE": command = .message
        case "RECEIPT": command = .receipt
        case "ERROR": command = .error
        case let other: return fail("'\(other.debugDescription)' is no command of a server")
        }
        var headers: [(name: String, value: String)] = []
        headers.reserveCapacity(8)
        var length: Int?
        while true {
            guard let range = line() else { return nil }
            if range.isEmpty { break }
            guard let colon = bytes[range].firstIndex(of: 58), colon > range.lowerBound else {
                return fail("a header line without name or colon")
            }
            let escapes = command == .connected ? 10 : version
            guard let name = unescaped(bytes[range.lowerBound..<colon], escapes),
                let value = unescaped(bytes[(colon + 1)..<range.upperBound], escapes)
            else { return fail("an undefined escape") }
            if name == "content-length", length == nil {
                guard let number = Int(value), number >= 0 else { return fail("content-length:\(value)") }
                length = number
            }
            headers.append((name, value))
        }
        var end = position
        if let length {
            end += length
            guard end < bytes.count else { return nil }
        } else {
            while end < bytes.count, bytes[end] != 0 { end += 1 }
            guard end < bytes.count else { return nil }
        }
        guard bytes[end] == 0 else { return fail("the byte behind a body is not NUL") }
        let frame = ServerFrame(command: command, headers: headers, body: bytes[position..<end])
        if !frame.body.isEmpty, command == .connected || command == .receipt { return fail("a body where none may be") }
        decodedByteCount += end + 1 - start
        start = end + 1
        return frame
    }

    private func unescaped(_ text: ArraySlice<UInt8>, _ version: Int) -> String? {
        guard version > 10, text.contains(92) else { return Self.string(text) }
        var out: [UInt8] = []
        var position = text.startIndex
        while position < text.endIndex {
            let byte = text[position]
            position += 1
            guard byte == 92 else {
                out.append(byte)
                continue
            }
            guard position < text.endIndex else { return nil }
            switch (text[position], version) {
            case (UInt8(ascii: "n"), _): out.append(10)
            case (UInt8(ascii: "c"), _): out.append(58)
            case (UInt8(ascii: "\\"), _): out.append(92)
            case (UInt8(ascii: "r"), 12): out.append(13)
            default: return nil
            }
            position += 1
        }
        return Self.string(out[...])
    }

    private static func string(_ bytes: ArraySlice<UInt8>) -> String? {
        bytes.withUnsafeBufferPointer { bytes in
            // Nearly always; validation costs more than the rest of the decoder.
            let isASCII = bytes.allSatisfy { $0 < 0x80 }
            return isASCII ? String(decoding: bytes, as: UTF8.self) : String(validating: bytes, as: UTF8.self)
        }
    }
}
