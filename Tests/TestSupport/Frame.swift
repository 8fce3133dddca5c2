/// A frame as a client reads it.
public struct Frame: Sendable, CustomStringConvertible {
    public var command: String
    /// Decoded, in the order they came, repeated ones included.
    public var headers: [(name: String, value: String)]
    public var body: [UInt8]
    /// The header lines as they were on the wire, without their line ends.
    public var headerLines: [String]

    /// The value of the first header of that name: "only the first header entry SHOULD be used" (Repeated Header
    /// Entries).
    public subscript(name: String) -> String? {
        headers.first { $0.name == name }?.value
    }

    public func values(of name: String) -> [String] {
        headers.filter { $0.name == name }.map(\.value)
    }

    public var text: String { String(decoding: body, as: UTF8.self) }

    public var description: String {
        let shownBody = body.count > 200 ? "(\(body.count) bytes)" : text
        return ([command] + headerLines + ["", shownBody]).joined(separator: "\n")
    }
}

/// Reads frames from bytes. Written from the specification for clarity, and apart from the broker's own parser, so that
/// each checks the other.
enum FrameDecoder {
    struct Malformed: Error {
        var reason: String
    }

    /// The first frame in `bytes` and the index behind its NUL; nil when it is not complete yet. `bytes` begins with
    /// the frame's command: line ends between frames are the caller's.
    static func decode(_ bytes: ArraySlice<UInt8>, _ version: ProtocolVersion) throws(Malformed) -> (Frame, Int)? {
        guard let headersEnd = endOfHeaders(bytes, version) else { return nil }
        let lines = bytes[..<headersEnd].split(separator: lineFeed, omittingEmptySubsequences: false)
            .dropLast(2)  // Behind the last header's LF is the blank line, behind that nothing.
            // Only 1.2 has CR LF; before it, a CR at the end belongs to the value.
            .map { version == .v1_2 && $0.last == carriageReturn ? $0.dropLast() : $0 }
            .map { String(decoding: $0, as: UTF8.self) }
        var frame = Frame(command: lines[0], headers: [], body: [], headerLines: Array(lines.dropFirst()))
        for line in frame.headerLines {
            guard let colon = line.unicodeScalars.firstIndex(of: ":") else {
                throw Malformed(reason: "header without colon: \(line)")
            }
            // CONNECTED is never escaped.
            let encoding = frame.command == "CONNECTED" ? .v1_0 : version
            guard let name = encoding.unescaped(String(line.unicodeScalars[..<colon])),
                let value = encoding.unescaped(String(line.unicodeScalars[line.unicodeScalars.index(after: colon)...]))
            else { throw Malformed(reason: "undefined escape in \(version): \(line)") }
            frame.headers.append((name, value))
        }
        let bodyEnd: Int
        if let length = frame["content-length"] {
            guard let count = Int(length), count >= 0 else { throw Malformed(reason: "content-length: \(length)") }
            bodyEnd = headersEnd + count
            guard bodyEnd < bytes.endIndex else { return nil }
            guard bytes[bodyEnd] == 0 else { throw Malformed(reason: "no NUL behind \(count) octets of body") }
        } else {
            guard let end = bytes[headersEnd...].firstIndex(of: 0) else { return nil }
            bodyEnd = end
        }
        frame.body = Array(bytes[headersEnd..<bodyEnd])
        return (frame, bodyEnd + 1)
    }

    /// The index behind the blank line that ends the headers.
    private static func endOfHeaders(_ bytes: ArraySlice<UInt8>, _ version: ProtocolVersion) -> Int? {
        var lineStart = bytes.startIndex
        while let lineEnd = bytes[lineStart...].firstIndex(of: lineFeed) {
            let line = bytes[lineStart..<lineEnd]
            if line.isEmpty || (version == .v1_2 && line.elementsEqual([carriageReturn])) { return lineEnd + 1 }
            lineStart = lineEnd + 1
        }
        return nil
    }

    static let lineFeed = UInt8(ascii: "\n")
    static let carriageReturn = UInt8(ascii: "\r")
}
