/// One operation of an internal part of the broker. It is repeated until it can be measured.
public protocol Workload: AnyObject {
    /// Runs the operation `count` times.
    func run(_ count: Int)
}

/// A workload and its name. Figures are compared by name, so the meaning of a name never changes.
public struct MicroCase: Sendable {
    public let name: String
    /// Describes one operation.
    public let summary: String
    public let make: @Sendable () -> any Workload

    public static let all: [MicroCase] = parsing + encoding + memory + shards + transports
}

/// Keeps a result alive, so that the compiler cannot remove the code that computes it.
@inline(never)
func keep(_ value: Int) { lastResult = value }

/// Public, so that the compiler must assume that it is read. Only one thread may use it.
nonisolated(unsafe) public internal(set) var lastResult = 0
