import Glibc

/// What a `destination` header names.
///
/// | as written | canonical | kind |
/// |---|---|---|
/// | `/topic/NAME`, `/exchange/amq.topic/NAME` | `/topic/NAME` | topic, or pattern with wildcards |
/// | `/queue/NAME`, `/amq/queue/NAME` | `/queue/NAME` | queue; with wildcards none that anybody may use |
/// | `/temp-queue/NAME` | `/reply-queue/OWNER-NAME` | temporary queue of the connection |
/// | `/temp-topic/NAME` | `/reply-topic/OWNER-NAME` | temporary topic of the connection |
/// | `/reply-queue/…`, `/reply-topic/…` | itself | a temporary destination as others address it |
/// | `NAME` | the configured prefix, then NAME | as that says |
///
/// OWNER is `SHARD-SLOT-GENERATION-KEYED`: the connection, and 64 bits that only the broker can compute. A slash in the
/// NAME of a temporary destination becomes `%2F`, and `%` becomes `%25`: some clients split an address into `/TYPE/NAME`.
enum DestinationClass: UInt8 {
    case topic, pattern, queue, queuePattern, temporaryQueue, temporaryTopic, replyQueue, replyTopic
}

enum DestinationNameError: Error {
    /// Empty, too long, control bytes, not UTF-8, no name behind the prefix.
    case invalid
    /// More levels than `Limits.destinationLevelCountMax`.
    case tooManyLevels
    /// Begins with a slash and no known prefix.
    case unknown
    /// `/dsub/NAME`, a durable subscription.
    case durableSubscription
}

struct DestinationName {
    var kind: DestinationClass
    /// Bytes of the canonical name, in the buffer that was given.
    var byteCount: Int

    private static let aliases: [(from: StaticString, to: StaticString)] = [
        ("/topic/", "/topic/"), ("/queue/", "/queue/"), ("/amq/queue/", "/queue/"),
        ("/exchange/amq.topic/", "/topic/"), ("/temp-queue/", "/temp-queue/"), ("/temp-topic/", "/temp-topic/"),
        ("/reply-queue/", "/reply-queue/"), ("/reply-topic/", "/reply-topic/"),
    ]

    /// Reads the canonical form of `raw` (unescaped) into `name`, which has room for three times `raw`, the prefix, 64 bytes
    /// and `host`.
    ///
    /// - Parameters:
    ///   - owner: the text that makes a temporary name unique among all connections.
    ///   - host: what the names of the client's host begin with (`HostName`).
    @inline(__always)
    static func parse(
        _ raw: UnsafeRawBufferPointer, bareNamePrefix: String, byteCountMax: Int, levelCountMax: Int,
        owner: () -> String, host: UnsafeRawBufferPointer, into name: UnsafeMutableRawPointer
    ) throws(DestinationNameError) -> DestinationName {
        var parsed = try parse(
            raw, bareNamePrefix: bareNamePrefix, byteCountMax: byteCountMax, levelCountMax: levelCountMax, owner: owner,
            into: name + host.count)
        if host.count > 0 {
            memcpy(name, host.baseAddress!, host.count)
            parsed.byteCount += host.count
        }
        return parsed
    }

    /// The same for the standard host.
    static func parse(
        _ raw: UnsafeRawBufferPointer, bareNamePrefix: String, byteCountMax: Int, levelCountMax: Int,
        owner: () -> String, into name: UnsafeMutableRawPointer
    ) throws(DestinationNameError) -> DestinationName {
        let isReply = raw.count > 7 && memcmp(raw.baseAddress!, "/reply-", 7) == 0
        // A reply name is longer than the temporary name that it was made of: by its owner, and by slashes.
        let replyByteCountMax = byteCountMax * 3 + 64
        guard raw.count > 0, raw.count <= (isReply ? replyByteCountMax : byteCountMax), isText(raw) else {
            throw .invalid
        }
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
                            levelCountMax: levelCountMax, owner: owner, into: name))
                } catch { result = .failure(error) }
            }
            return try result.get()
        }
        for alias in aliases where raw.count >= alias.from.utf8CodeUnitCount {
            let prefixByteCount = alias.from.utf8CodeUnitCount
            guard memcmp(raw.baseAddress!, alias.from.utf8Start, prefixByteCount) == 0 else { continue }
            let rest = UnsafeRawBufferPointer(rebasing: raw[prefixByteCount...])
            guard rest.count > 0 else { throw .invalid }
            guard Wildcard.levelCount(rest) <= levelCountMax else { throw .tooManyLevels }
            return fill(name, prefix: alias.to, rest, owner: owner)
        }
        if raw.count >= 6, memcmp(raw.baseAddress!, "/dsub/", 6) == 0 { throw .durableSubscription }
        throw isKindAlone(raw) ? .invalid : .unknown
    }

    /// `/queue` and the like, or the slash alone: there is no name at all.
    private static func isKindAlone(_ raw: UnsafeRawBufferPointer) -> Bool {
        raw.count == 1
            || aliases.contains {
                $0.from.utf8CodeUnitCount == raw.count + 1
                    && memcmp(raw.baseAddress!, $0.from.utf8Start, raw.count) == 0
            }
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
        func putOwned() {
            var text = owner() + "-"
            text.withUTF8 { put(UnsafeRawBufferPointer($0)) }
            for byte in rest {
                switch byte {
                case UInt8(ascii: "/"): put("%2F")
                case UInt8(ascii: "%"): put("%25")
                default:
                    name.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
                    count += 1
                }
            }
        }
        let kind: DestinationClass
        // The second letter of a prefix with its length tells the prefixes apart.
        switch (prefix.utf8Start[1], prefix.utf8CodeUnitCount, prefix.utf8Start[6]) {
        case (UInt8(ascii: "q"), _, _):
            kind = Wildcard.isPattern(rest) ? .queuePattern : .queue
            put(prefix)
        case (UInt8(ascii: "t"), 7, _):
            kind = Wildcard.isPattern(rest) ? .pattern : .topic
            put(prefix)
        case (UInt8(ascii: "t"), _, UInt8(ascii: "q")):
            kind = .temporaryQueue
            put("/reply-queue/")
            putOwned()
            return DestinationName(kind: kind, byteCount: count)
        case (UInt8(ascii: "t"), _, _):
            kind = .temporaryTopic
            put("/reply-topic/")
            putOwned()
            return DestinationName(kind: kind, byteCount: count)
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

    /// The worker named by a `/reply-queue/OWNER-NAME`, or nil where the name is not of that form.
    static func replyShard(_ canonical: UnsafeRawBufferPointer) -> Int? {
        let name = visible(canonical)
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
