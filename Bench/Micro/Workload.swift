/// One operation of the broker's inner parts, to be repeated until it can be measured.
public protocol Workload: AnyObject {
    /// Carries the operation out `count` times.
    func run(_ count: Int)
}

/// A workload by its name. The name is what figures are compared by: it never changes its meaning.
public struct MicroCase: Sendable {
    public let name: String
    /// What one operation is.
    public let summary: String
    public let make: @Sendable () -> any Workload

    public static let all: [MicroCase] = parsing + encoding + memory + shards
}

/// Keeps a result alive, so that nothing that leads to it can be left out.
@inline(never)
func keep(_ value: Int) { lastResult = value }

/// Public, so that the compiler has to believe in a reader. By one thread only.
nonisolated(unsafe) public internal(set) var lastResult = 0
