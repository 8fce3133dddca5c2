/// A version of STOMP, as `accept-version` spells it.
public enum ProtocolVersion: String, CaseIterable, Sendable, Comparable, CustomStringConvertible {
    case v1_0 = "1.0"
    case v1_1 = "1.1"
    case v1_2 = "1.2"

    public var description: String { rawValue }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    public static let withEscapes: [ProtocolVersion] = [.v1_1, .v1_2]

    /// Value Encoding: how `text` is written in a header of this version.
    ///
    /// 1.0 has no escapes; 1.1 knows `\n`, `\c` and `\\`; 1.2 also `\r`.
    public func escaped(_ text: String) -> String {
        guard self != .v1_0 else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case ":": result += "\\c"
            case "\n": result += "\\n"
            case "\r" where self == .v1_2: result += "\\r"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// The reverse of `escaped`; nil where `text` holds an escape that this version does not define.
    public func unescaped(_ text: String) -> String? {
        guard self != .v1_0 else { return text }
        var result = String.UnicodeScalarView()
        var scalars = text.unicodeScalars.makeIterator()
        while let scalar = scalars.next() {
            guard scalar == "\\" else {
                result.append(scalar)
                continue
            }
            switch scalars.next() {
            case "\\": result.append("\\")
            case "c": result.append(":")
            case "n": result.append("\n")
            case "r" where self == .v1_2: result.append("\r")
            default: return nil
            }
        }
        return String(result)
    }
}
