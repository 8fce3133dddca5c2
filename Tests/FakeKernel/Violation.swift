/// A submission that violates the rules of `Submission.Kind`.
public struct Violation: Error, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}
