/// How a version writes header lines.
@usableFromInline
struct HeaderRules: OptionSet, BitwiseCopyable, Sendable {
    @usableFromInline var rawValue: UInt8

    @usableFromInline @inline(__always)
    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Backslash begins an escape sequence.
    static var escapes: HeaderRules { HeaderRules(rawValue: 1) }
    /// `\r` is among them.
    static var escapesCarriageReturn: HeaderRules { HeaderRules(rawValue: 2) }
    /// Lines may end with CR LF.
    static var acceptsCarriageReturnLineFeed: HeaderRules { HeaderRules(rawValue: 4) }
    /// A carriage return elsewhere is an error; without this rule it is an octet like any other.
    static var refusesCarriageReturn: HeaderRules { HeaderRules(rawValue: 8) }
    /// Blanks around names and values are none of theirs.
    static var trims: HeaderRules { HeaderRules(rawValue: 16) }

    /// The rules of a frame. 1.0 has LF only, but trims, which makes CR LF harmless at the end of a header; so it is
    /// accepted at the end of the other lines too, where telnet sends it.
    @inline(__always)
    init(_ command: Command, _ version: Version) {
        if command.precedesVersion {
            self = .acceptsCarriageReturnLineFeed
            return
        }
        switch version {
        case .v1_0: self = .trims | .acceptsCarriageReturnLineFeed
        case .v1_1: self = .escapes
        case .v1_2: self = .escapes | .escapesCarriageReturn | .acceptsCarriageReturnLineFeed | .refusesCarriageReturn
        }
    }

    /// Both. An array literal would be a constant to the optimiser only: a debug build would allocate it for each frame,
    /// and allocations are counted there too.
    @inline(__always)
    static func | (first: HeaderRules, second: HeaderRules) -> HeaderRules {
        HeaderRules(rawValue: first.rawValue | second.rawValue)
    }
}
