import Glibc

/// A broker that counts its heap allocations: the library `AllocationCounter` is preloaded into it.
public final class CountedBroker {
    public let process: ChildProcess
    public let port: UInt16
    /// Begins with the count, in the machine's byte order.
    private let counter: TemporaryFile

    /// Starts the broker `program` and waits until it accepts connections.
    public init(_ program: String, _ settings: BrokerProcess.Settings) throws {
        precondition(settings.file.isEmpty, "its file would have to outlive the start")
        counter = try TemporaryFile(holding: "")
        var options = ChildProcess.Options()
        options.environment["LD_PRELOAD"] = BuildDirectory.path(of: "libAllocationCounter.so")
        options.environment["ALLOCATION_COUNTER_FILE"] = counter.path
        process = try ChildProcess(program, settings.arguments, options)
        let readyLine = try process.errorLine { $0.contains("ready") }
        guard let match = readyLine?.firstMatch(of: /127\.0\.0\.1:(\d+)/), let port = UInt16(match.1) else {
            throw Failure("no broker: \(process.errorLines)", at: Place(#fileID, #line))
        }
        self.port = port
    }

    /// Heap allocations of the broker so far.
    public func allocationCount() throws -> Int {
        let file = open(counter.path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Failure("\(counter.path): errno \(errno)", at: Place(#fileID, #line)) }
        defer { close(file) }
        var count = 0
        guard read(file, &count, MemoryLayout<Int>.size) == MemoryLayout<Int>.size else {
            throw Failure("nothing counts the broker's allocations", at: Place(#fileID, #line))
        }
        return count
    }
}
