/// The answer of an HTTP server (RFC 9112), as far as somebody needs it who has asked one question.
package struct HTTPResponse: Sendable, Equatable {
    package var status: Int
    package var body: [UInt8]
    /// The next question may go through the same connection.
    package var keepsConnection: Bool

    /// Why bytes are no answer that can be used.
    package struct Failure: Error, Equatable, Sendable {
        package let reason: String
    }

    package static var headByteCountMax: Int { 16 << 10 }
    package static var bodyByteCountMax: Int { 64 << 10 }
    /// Of all that is read for one answer: heads that only announce one, and lengths of chunks, too.
    private static var byteCountMax: Int { 256 << 10 }

    /// Reads an answer from the first byte that came. nil: more has to come.
    ///
    /// It reads from the beginning each time: answers are short, and so is this.
    ///
    /// - Parameter isEnd: the server has ended the connection.
    package static func parse(_ bytes: [UInt8], isEnd: Bool) throws(Failure) -> HTTPResponse? {
        guard bytes.count <= byteCountMax else { throw tooLong }
        var place = 0
        while true {
            guard let head = try Head(bytes, &place) else {
                if isEnd { throw Failure(reason: "the connection ended within the answer") }
                return nil
            }
            // 100 Continue and its like go before the answer (RFC 9110, section 15.2). Nothing was asked to be upgraded.
            if head.status == 101 { throw Failure(reason: "the server changes the protocol (101)") }
            if head.status < 200 { continue }
            return try body(bytes, place, head, isEnd: isEnd)
        }
    }

    /// RFC 9112, section 6.3: how long the body is.
    private static func body(
        _ bytes: [UInt8], _ start: Int, _ head: Head, isEnd: Bool
    ) throws(Failure) -> HTTPResponse? {
        var place = start
        var body: [UInt8]? = []
        var keepsConnection = head.keepsConnection
        if head.status == 204 || head.status == 304 {
            // They have none, whatever their headers say.
        } else if head.isChunked {
            body = try chunks(bytes, &place)
        } else if let count = head.contentLength {
            guard count <= bodyByteCountMax else { throw tooLong }
            body = bytes.count - place >= count ? Array(bytes[place..<(place + count)]) : nil
            place += count
        } else {
            guard bytes.count - place <= bodyByteCountMax else { throw tooLong }
            keepsConnection = false
            body = isEnd ? Array(bytes[place...]) : nil
            place = bytes.count
        }
        guard let body else {
            if isEnd { throw Failure(reason: "the connection ended within the answer") }
            return nil
        }
        return HTTPResponse(
            status: head.status, body: body, keepsConnection: keepsConnection && place == bytes.count && !isEnd)
    }

    private static var tooLong: Failure { Failure(reason: "the answer has more than \(bodyByteCountMax >> 10) KiB") }

    /// RFC 9112, section 7.1. nil: more has to come.
    private static func chunks(_ bytes: [UInt8], _ place: inout Int) throws(Failure) -> [UInt8]? {
        var body: [UInt8] = []
        while let line = try line(bytes, &place) {
            // Behind a semicolon are extensions, which nobody has to know.
            let digits = line.prefix { $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") }
            guard (1...8).contains(digits.count), let count = Int(String(decoding: digits, as: UTF8.self), radix: 16),
                digits.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") })
            else { throw Failure(reason: "a chunk of the answer has no length") }
            guard body.count + count <= bodyByteCountMax else { throw tooLong }
            if count == 0 {
                // Trailers, and an empty line.
                while let trailer = try Self.line(bytes, &place) { if trailer.isEmpty { return body } }
                return nil
            }
            guard bytes.count - place >= count else { return nil }
            body += bytes[place..<(place + count)]
            place += count
            guard let end = try Self.line(bytes, &place) else { return nil }
            guard end.isEmpty else { throw Failure(reason: "a chunk of the answer is longer than it says") }
        }
        return nil
    }

    /// A line, without its end: a line feed, or both (RFC 9112, section 2.2). nil: more has to come.
    fileprivate static func line(_ bytes: [UInt8], _ place: inout Int) throws(Failure) -> ArraySlice<UInt8>? {
        let end = bytes[place...].firstIndex(of: UInt8(ascii: "\n"))
        guard (end ?? bytes.count) - place <= headByteCountMax else {
            throw Failure(reason: "a line of the answer has no end")
        }
        guard let end else { return nil }
        let line = bytes[place..<end]
        place = end + 1
        return line.last == UInt8(ascii: "\r") ? line.dropLast() : line
    }
}

/// What is before the body.
private struct Head {
    var status = 0
    var contentLength: Int?
    var isChunked = false
    var keepsConnection: Bool

    /// nil: more has to come. `place` is behind it then.
    init?(_ bytes: [UInt8], _ start: inout Int) throws(HTTPResponse.Failure) {
        var place = start
        guard let first = try HTTPResponse.line(bytes, &place) else { return nil }
        let line = String(decoding: first, as: UTF8.self)
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[0].hasPrefix("HTTP/1."), parts[0].utf8.count == 8, parts[1].utf8.count == 3,
            let status = Int(parts[1]), (100...599).contains(status)
        else { throw HTTPResponse.Failure(reason: "the answer is not HTTP/1.1: it begins with \(quoted(line))") }
        self.status = status
        keepsConnection = parts[0] != "HTTP/1.0"
        while true {
            guard place - start <= HTTPResponse.headByteCountMax else {
                throw HTTPResponse.Failure(reason: "the head of the answer is too long")
            }
            guard let line = try HTTPResponse.line(bytes, &place) else { return nil }
            if line.isEmpty { break }
            try read(line)
        }
        start = place
    }

    private mutating func read(_ line: ArraySlice<UInt8>) throws(HTTPResponse.Failure) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
            !line[..<colon].contains(where: { $0 <= 0x20 })
        else { throw HTTPResponse.Failure(reason: "a line in the head of the answer is no header") }
        let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
        let value = String(decoding: line[(colon + 1)...], as: UTF8.self).lowercased()
        let items = value.split(separator: ",").map { $0.filter { $0 != " " && $0 != "\t" } }
        switch name {
        case "content-length":
            for item in items {
                guard (1...9).contains(item.utf8.count), item.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                    let count = Int(item), contentLength == nil || contentLength == count
                else { throw HTTPResponse.Failure(reason: "content-length of the answer is no number, or several") }
                contentLength = count
            }
        case "transfer-encoding":
            guard items == ["chunked"], !isChunked else {
                throw HTTPResponse.Failure(reason: "the answer is encoded as \(quoted(value)), which nobody asked for")
            }
            isChunked = true
        case "connection": if items.contains("close") { keepsConnection = false }
        default: break
        }
    }
}
