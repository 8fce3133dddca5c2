/// Wildcards, once more and simply: by recursion over levels.
enum TopicName {
    static func matches(_ pattern: String, _ name: String) -> Bool {
        if pattern == name { return true }
        guard pattern.hasPrefix("/topic/"), name.hasPrefix("/topic/") else { return false }
        func levels(_ text: String) -> [Substring] {
            text.dropFirst(7).split(omittingEmptySubsequences: false) { $0 == "." || $0 == "/" }
        }
        return matches(levels(pattern)[...], levels(name)[...])
    }

    private static func matches(_ pattern: ArraySlice<Substring>, _ name: ArraySlice<Substring>) -> Bool {
        guard let first = pattern.first else { return name.isEmpty }
        if first == "#" || first == ">" || first == "**" {
            return matches(pattern.dropFirst(), name) || (!name.isEmpty && matches(pattern, name.dropFirst()))
        }
        guard let level = name.first, first == "*" || first == level else { return false }
        return matches(pattern.dropFirst(), name.dropFirst())
    }
}
