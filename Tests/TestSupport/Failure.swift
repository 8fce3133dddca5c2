/// A test's expectation that did not hold, with the place of the expectation.
///
/// Thrown rather than recorded, so that this module needs no testing library and a test ends at its first surprise.
public struct Failure: Error, CustomStringConvertible, Sendable {
    public var description: String

    public init(_ message: String, at place: Place) {
        description = "\(place): \(message)"
    }
}

/// The line of a test that expects something.
public struct Place: Sendable, CustomStringConvertible {
    public var fileID: String
    public var line: Int

    public init(_ fileID: String, _ line: Int) {
        self.fileID = fileID
        self.line = line
    }

    public var description: String { "\(fileID):\(line)" }
}
