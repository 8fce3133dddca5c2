/// A pattern as it is written in the users file: `/queue/{user}.#`.
///
/// `{user}` and `{client-id}` become what the client is called. What they become is literal, whatever characters it has: a
/// user called `#` gets no wildcard. A name with separators takes several levels.
public struct PatternTemplate: Sendable, Equatable {
    /// As it was written.
    public let text: String
    /// It names `{user}`.
    public let usesUser: Bool
    /// It names `{client-id}`.
    public let usesClientID: Bool
    private let levels: [[Piece]]

    private enum Piece: Sendable, Equatable {
        case text([UInt8])
        case user
        case clientID
        case single
        case many
    }

    /// Why a text is no pattern.
    public struct Failure: Error, Equatable, Sendable {
        /// What was wrong, and what would be right: "found a* ...; allowed: ...".
        public let reason: String
    }

    /// What a pattern may begin with. Temporary destinations are only ever created: whoever made one may use it.
    public enum Kind: Sendable {
        case destination
        case creation

        var prefixes: [String] {
            switch self {
            case .destination: ["/queue/", "/topic/"]
            case .creation: ["/queue/", "/topic/", "/temp-queue/", "/temp-topic/"]
            }
        }
    }

    /// - Parameters:
    ///   - nameByteCountMax: a destination that is longer cannot be named.
    ///   - levelCountMax: nor can one of more levels behind its prefix.
    public init(_ text: String, _ kind: Kind, nameByteCountMax: Int, levelCountMax: Int) throws(Failure) {
        self.text = text
        let name = try Self.name(of: text, kind)
        var levels: [[Piece]] = []
        for level in Self.split(Array(text.utf8)) {
            if !level.isEmpty || text == "#" { levels.append(try Self.pieces(of: level)) } else { levels.append([]) }
        }
        usesUser = levels.contains { $0.contains(.user) }
        usesClientID = levels.contains { $0.contains(.clientID) }
        self.levels = levels
        // A "many" may stand for no level, and a placeholder for at least one byte.
        let literal = levels.flatMap(\.self).reduce(levels.count - 1) { count, piece in
            switch piece {
            case .text(let bytes): count + bytes.count
            case .user, .clientID, .single: count + 1
            case .many: count - 1
            }
        }
        guard literal <= nameByteCountMax else {
            throw Failure(
                reason: "cannot match: a destination has at most \(nameByteCountMax) bytes "
                    + "(limits.destination-name-bytes)")
        }
        let nameLevels = Self.split(Array(name.utf8))
        let least = nameLevels.count { !Self.isMany($0) }
        guard least <= levelCountMax, levels.count <= AccessPattern.levelCountMax else {
            throw Failure(
                reason: "cannot match: a destination has at most \(levelCountMax) levels behind its prefix "
                    + "(limits.destination-levels-max)")
        }
    }

    /// What is behind the prefix.
    private static func name(of text: String, _ kind: Kind) throws(Failure) -> Substring {
        if text == "#" { return text[...] }
        guard let prefix = kind.prefixes.first(where: text.hasPrefix) else {
            let isTemporary = ["/temp-queue/", "/temp-topic/", "/reply-queue/", "/reply-topic/"]
                .contains(where: text.hasPrefix)
            let note =
                isTemporary
                ? "; whoever creates a temporary destination may use it, and others need its unguessable name" : ""
            throw Failure(
                reason: "cannot match: allowed is what begins with \(kind.prefixes.joined(separator: " or ")), or # "
                    + "alone for everything\(note)")
        }
        let name = text.dropFirst(prefix.count)
        guard !name.isEmpty else {
            throw Failure(reason: "cannot match: a name is missing behind \(prefix); # stands for all names")
        }
        guard !name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw Failure(reason: "cannot match: destinations have no control characters")
        }
        return name
    }

    /// Levels, where separators inside braces do not count.
    private static func split(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        bytes.split(omittingEmptySubsequences: false, whereSeparator: Levels.isSeparator)
    }

    private static func isMany(_ level: ArraySlice<UInt8>) -> Bool {
        level.withUnsafeBytes { Levels.wildcard($0) == .many }
    }

    private static func pieces(of level: ArraySlice<UInt8>) throws(Failure) -> [Piece] {
        switch level.withUnsafeBytes({ Levels.wildcard($0) }) {
        case .single: return [.single]
        case .many: return [.many]
        case .literal: break
        }
        let written = String(decoding: level, as: UTF8.self)
        if written.contains(where: { "*#>".contains($0) }) {
            throw Failure(
                reason:
                    "cannot match: a wildcard (* # > **) stands for whole levels, and '\(written)' is only part of one")
        }
        var pieces: [Piece] = []
        var rest = Substring(written)
        while let open = rest.firstIndex(where: { $0 == "{" || $0 == "}" }) {
            if open > rest.startIndex { pieces.append(.text(Array(rest[..<open].utf8))) }
            if rest[open...].hasPrefix("{user}") {
                pieces.append(.user)
                rest = rest[open...].dropFirst(6)
            } else if rest[open...].hasPrefix("{client-id}") {
                pieces.append(.clientID)
                rest = rest[open...].dropFirst(11)
            } else {
                throw Failure(
                    reason: "'\(written)' has a brace that is no placeholder; allowed: {user} and {client-id}")
            }
        }
        if !rest.isEmpty { pieces.append(.text(Array(rest.utf8))) }
        return pieces
    }

    /// The pattern for one client. nil: it matches nothing, for it names a client-id and the client has none.
    ///
    /// - Parameter isDeny: where the client has no client-id, every one is denied.
    public func pattern(user: [UInt8], clientID: [UInt8]?, isDeny: Bool) -> AccessPattern? {
        var result: [AccessPattern.Level] = []
        for level in levels {
            if level == [.single] {
                result.append(.single)
            } else if level == [.many] {
                result.append(.many)
            } else {
                var bytes: [UInt8] = []
                var isUnknown = false
                for piece in level {
                    switch piece {
                    case .text(let text): bytes += text
                    case .user: bytes += user
                    case .clientID: if let clientID { bytes += clientID } else { isUnknown = true }
                    case .single, .many: break
                    }
                }
                if isUnknown {
                    if !isDeny { return nil }
                    result.append(.single)
                } else {
                    result += Self.split(bytes).map { .literal(Array($0)) }
                }
            }
        }
        return AccessPattern(result)
    }

    /// Whether all that this pattern matches is matched by another one too, for every client.
    public func isWithin(_ other: PatternTemplate) -> Bool {
        // Any name will do that is in no pattern: both get the same.
        let unknown = Array("\u{1}u".utf8)
        guard let wider = other.pattern(user: unknown, clientID: unknown, isDeny: true) else { return false }
        let written = levels.map { level in
            level.flatMap { piece -> [UInt8] in
                switch piece {
                case .text(let bytes): bytes
                case .user, .clientID: unknown
                case .single: [UInt8(ascii: "*")]
                case .many: [UInt8(ascii: "#")]
                }
            }
        }
        return written.joined(separator: [UInt8(ascii: "/")]).withContiguousBytes { wider.contains(pattern: $0) }
    }
}

extension Sequence<UInt8> {
    fileprivate func withContiguousBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        Array(self).withUnsafeBytes(body)
    }
}
