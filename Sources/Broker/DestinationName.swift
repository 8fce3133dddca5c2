import Glibc
import Slabs

/// What a `destination` header names.
///
/// | as written | canonical | kind |
/// |---|---|---|
/// | `/topic/NAME`, `/exchange/amq.topic/NAME`, `/dsub/NAME` | `/topic/NAME` | topic, or pattern with wildcards |
/// | `/queue/NAME`, `/amq/queue/NAME` | `/queue/NAME` | queue |
/// | `/temp-queue/NAME` | `/reply-queue/OWNER/NAME` | temporary queue of the connection |
/// | `/temp-topic/NAME` | `/reply-topic/OWNER/NAME` | temporary topic of the connection |
/// | `/reply-queue/…`, `/reply-topic/…` | itself | a temporary destination as others address it |
/// | `NAME` | the configured prefix, then NAME | as that says |
///
/// OWNER is `SHARD-SLOT-GENERATION-KEYED`: the connection, and 64 bits that only the broker can compute.
enum DestinationClass: UInt8 {
    case topic, pattern, queue, temporaryQueue, temporaryTopic, replyQueue, replyTopic
}

enum DestinationNameError: Error {
    /// Empty, too long, control bytes, not UTF-8, no name behind the prefix.
    case invalid
    /// Begins with a slash and no known prefix.
    case unknown
}

struct DestinationName {
    var kind: DestinationClass
    /// Bytes of the canonical name, in the buffer that was given.
    var byteCount: Int

    private static let aliases: [(from: StaticString, to: StaticString)] = [
        ("/topic/", "/topic/"), ("/queue/", "/queue/"), ("/amq/queue/", "/queue/"),
        ("/exchange/amq.topic/", "/topic/"), ("/dsub/", "/topic/"), ("/temp-queue/", "/temp-queue/"),
        ("/temp-topic/", "/temp-topic/"), ("/reply-queue/", "/reply-queue/"), ("/reply-topic/", "/reply-topic/"),
    ]

    /// Reads the canonical form of `raw` (unescaped) into `name`, which has room for `raw`, the prefix and 64 bytes.
    ///
    /// `owner` is the text that makes a temporary name unique among all connections.
    static func parse(
        _ raw: UnsafeRawBufferPointer, bareNamePrefix: String, byteCountMax: Int, owner: () -> String,
        into name: UnsafeMutableRawPointer
    ) throws(DestinationNameError) -> DestinationName {
        guard raw.count > 0, raw.count <= byteCountMax + replyByteCountMax(raw), isText(raw) else { throw .invalid }
        if raw[0] != UInt8(ascii: "/") {
            if bareNamePrefix.isEmpty { throw .invalid }
            var prefixed = Array(bareNamePrefix.utf8)
            guard prefixed.first == UInt8(ascii: "/") else { throw .unknown }
            prefixed.append(contentsOf: raw)
            var result: Result<DestinationName, DestinationNameError> = .failure(.invalid)
            prefixed.withUnsafeBytes { bytes in
                do throws(DestinationNameError) {
                    result = .success(
                        try parse(
                            bytes, bareNamePrefix: "", byteCountMax: byteCountMax + bareNamePrefix.utf8.count,
                            owner: owner, into: name))
                } catch { result = .failure(error) }
            }
            return try result.get()
        }
        for alias in aliases where raw.count >= alias.from.utf8CodeUnitCount {
            let prefixByteCount = alias.from.utf8CodeUnitCount
            guard memcmp(raw.baseAddress!, alias.from.utf8Start, prefixByteCount) == 0 else { continue }
            let rest = UnsafeRawBufferPointer(rebasing: raw[prefixByteCount...])
            guard rest.count > 0 else { throw .invalid }
            return fill(name, prefix: alias.to, rest, owner: owner)
        }
        throw .unknown
    }

    /// What a reply name may be longer than the temporary name that it was made of.
    private static func replyByteCountMax(_ raw: UnsafeRawBufferPointer) -> Int {
        raw.count > 7 && memcmp(raw.baseAddress!, "/reply-", 7) == 0 ? 64 : 0
    }

    private static func fill(
        _ name: UnsafeMutableRawPointer, prefix: StaticString, _ rest: UnsafeRawBufferPointer, owner: () -> String
    ) -> DestinationName {
        var count = 0
        func put(_ bytes: UnsafeRawBufferPointer) {
            memcpy(name + count, bytes.baseAddress!, bytes.count)
            count += bytes.count
        }
        func put(_ text: StaticString) {
            put(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }
        func putOwner() {
            var text = owner() + "/"
            text.withUTF8 { put(UnsafeRawBufferPointer($0)) }
        }
        let kind: DestinationClass
        // The second letter of a prefix with its length tells the prefixes apart.
        switch (prefix.utf8Start[1], prefix.utf8CodeUnitCount, prefix.utf8Start[6]) {
        case (UInt8(ascii: "q"), _, _):
            kind = .queue
            put(prefix)
        case (UInt8(ascii: "t"), 7, _):
            kind = Wildcard.isPattern(rest) ? .pattern : .topic
            put(prefix)
        case (UInt8(ascii: "t"), _, UInt8(ascii: "q")):
            kind = .temporaryQueue
            put("/reply-queue/")
            putOwner()
        case (UInt8(ascii: "t"), _, _):
            kind = .temporaryTopic
            put("/reply-topic/")
            putOwner()
        case (_, _, _):
            kind = prefix.utf8Start[7] == UInt8(ascii: "q") ? .replyQueue : .replyTopic
            put(prefix)
        }
        put(rest)
        return DestinationName(kind: kind, byteCount: count)
    }

    /// UTF-8 without control bytes.
    private static func isText(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var union: UInt8 = 0
        for byte in bytes {
            if byte < 0x20 || byte == 0x7F { return false }
            union |= byte
        }
        return union < 0x80 || String(validating: bytes, as: UTF8.self) != nil
    }

    /// The worker named by a `/reply-queue/OWNER/NAME`, or nil where the name is not of that form.
    static func replyShard(_ name: UnsafeRawBufferPointer) -> Int? {
        var shard = 0
        var position = 13
        guard name.count > position else { return nil }
        while position < name.count, name[position] >= 0x30, name[position] <= 0x39 {
            shard = shard * 10 + Int(name[position] - 0x30)
            if shard > 1000 { return nil }
            position += 1
        }
        guard position > 13, position < name.count, name[position] == UInt8(ascii: "-") else { return nil }
        return shard
    }
}

/// Topic patterns: levels are separated by `.` or `/`; `*` stands for one level, `#`, `>` and `**` for any number of
/// levels, none included. Other uses of these characters are ordinary.
enum Wildcard {
    private static func isSeparator(_ byte: UInt8) -> Bool { byte == UInt8(ascii: ".") || byte == UInt8(ascii: "/") }

    private static func levelEnd(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        var end = start
        while end < bytes.count, !isSeparator(bytes[end]) { end += 1 }
        return end
    }

    private static func isSingle(_ b: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Bool {
        end - start == 1 && b[start] == UInt8(ascii: "*")
    }

    private static func isMany(_ b: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Bool {
        if end - start == 1 { return b[start] == UInt8(ascii: "#") || b[start] == UInt8(ascii: ">") }
        return end - start == 2 && b[start] == UInt8(ascii: "*") && b[start + 1] == UInt8(ascii: "*")
    }

    static func isPattern(_ name: UnsafeRawBufferPointer) -> Bool {
        var start = 0
        while start <= name.count {
            let end = levelEnd(name, start)
            if isSingle(name, start, end) || isMany(name, start, end) { return true }
            start = end + 1
        }
        return false
    }

    /// Whether `pattern` matches `name`; both are canonical, prefix included. Work is at most the product of their
    /// levels: a "many" level only ever falls back to the last one seen, as in file name globs.
    static func matches(_ pattern: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer) -> Bool {
        var p = 0
        var n = 0
        var retryPattern = -1
        var retryName = 0
        while n <= name.count {
            if p <= pattern.count {
                let patternEnd = levelEnd(pattern, p)
                if isMany(pattern, p, patternEnd) {
                    retryPattern = patternEnd + 1
                    retryName = n
                    p = patternEnd + 1
                    continue
                }
                let nameEnd = levelEnd(name, n)
                if isSingle(pattern, p, patternEnd)
                    || (patternEnd - p == nameEnd - n
                        && memcmp(pattern.baseAddress! + p, name.baseAddress! + n, nameEnd - n) == 0)
                {
                    p = patternEnd + 1
                    n = nameEnd + 1
                    continue
                }
            }
            guard retryPattern >= 0 else { return false }
            retryName = levelEnd(name, retryName) + 1
            n = retryName
            p = retryPattern
            if retryName > name.count { break }
        }
        // The name is used up: what is left of the pattern may only be "many" levels.
        while p <= pattern.count {
            let end = levelEnd(pattern, p)
            guard isMany(pattern, p, end) else { return false }
            p = end + 1
        }
        return true
    }
}

/// The destination policies of the configuration, looked up once per destination, when it is created.
struct PolicyTable: Sendable {
    private let policies: [DestinationPolicy]
    private let fallback = DestinationPolicy(pattern: "")

    init(_ policies: [DestinationPolicy]) { self.policies = policies }

    /// The first policy whose pattern matches `name`, counted from 1. 0: none does, the defaults apply.
    func index(of name: UnsafeRawBufferPointer) -> Int {
        for (index, policy) in policies.enumerated() {
            var pattern = policy.pattern
            if pattern.withUTF8({ Wildcard.matches(UnsafeRawBufferPointer($0), name) }) { return index + 1 }
        }
        return 0
    }

    subscript(index: UInt32) -> DestinationPolicy { index == 0 ? fallback : policies[Int(index) - 1] }
}
