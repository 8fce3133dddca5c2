import CTestSupport
import Glibc

/// How a process ended.
public enum ExitStatus: Sendable, Equatable {
    case exited(Int32)
    case killed(signal: Int32)

    init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .exited((waitStatus >> 8) & 0xff) : .killed(signal: signal)
    }
}

/// A process that the tests started. Its output is read as it comes, so it never blocks on a full pipe; it is killed
/// with its owner and with the test process.
public final class ChildProcess: Sendable {
    /// What may be unlike the default when a process is started.
    public struct Options: Sendable {
        /// Variables added to those of the tests.
        public var environment: [String: String] = [:]
        /// The child's standard input, then its end. nil: `/dev/null`.
        public var standardInput: [UInt8]?
        /// The errno with which io_uring's system calls fail in the child. 0: they work.
        public var ioUringErrno: Int32 = 0
        /// RLIMIT_NOFILE of the child. 0: that of the tests.
        public var descriptorCountMax = 0
        /// RLIMIT_MEMLOCK of the child, whoever starts it. 0: that of the tests.
        public var lockedByteCountMax = 0

        public init() {}
    }

    /// Lines of one stream, and whether it ended.
    private struct Output: Sendable {
        var bytes: [UInt8] = []
        var lines: [String] = []
        var isAtEnd = false
    }

    private struct Life: Sendable {
        var status: ExitStatus?
        var isBeingAwaited = false
    }

    public let pid: Int32
    public let commandLine: String
    private let standardOutput: Monitor<Output>
    private let standardError: Monitor<Output>
    private let life = Monitor(Life())

    /// Starts `program`, which is searched in PATH where it holds no slash.
    public init(_ program: String, _ arguments: [String], _ options: Options = Options()) throws {
        commandLine = ([program] + arguments).joined(separator: " ")
        let output = try Self.pipe()
        let error = try Self.pipe()
        let input = try options.standardInput.map(Self.descriptor(holding:)) ?? open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer {
            close(output.write)
            close(error.write)
            close(input)
        }
        let argumentPointers = ([program] + arguments).map { strdup($0) } + [nil]
        let environmentPointers = Self.environment(adding: options.environment).map { strdup($0) } + [nil]
        defer { (argumentPointers + environmentPointers).forEach { free($0) } }
        pid = program.withCString { path in
            argumentPointers.withUnsafeBufferPointer { arguments in
                environmentPointers.withUnsafeBufferPointer { environment in
                    var request = child_request(
                        program: path, arguments: arguments.baseAddress, environment: environment.baseAddress,
                        standard_input: input, standard_output: output.write, standard_error: error.write,
                        io_uring_errno: options.ioUringErrno,
                        descriptor_count_max: UInt(options.descriptorCountMax),
                        locked_byte_count_max: UInt(options.lockedByteCountMax))
                    return child_start(&request)
                }
            }
        }
        standardOutput = Self.reader(of: output.read)
        standardError = Self.reader(of: error.read)
        if pid < 0 { throw Failure("fork: errno \(-pid)", at: Place(#fileID, #line)) }
    }

    deinit {
        guard life.withLock({ $0.status == nil }) else { return }
        Glibc.kill(pid, SIGKILL)
        var status: Int32 = 0
        _ = child_wait(pid, -1, &status)
    }

    /// What the process wrote so far, by lines.
    public var outputLines: [String] { standardOutput.withLock { $0.lines } }
    public var errorLines: [String] { standardError.withLock { $0.lines } }
    public var outputBytes: [UInt8] { standardOutput.withLock { $0.bytes } }

    /// The files and sockets that it has open.
    public var descriptorCount: Int {
        guard let directory = opendir("/proc/\(pid)/fd") else { return 0 }
        defer { closedir(directory) }
        var count = -2  // The entries "." and "..".
        while readdir(directory) != nil { count += 1 }
        return count
    }

    /// The lines of its output, when there are so many; fewer, if it ends or that takes too long.
    public func outputLines(atLeast count: Int, within seconds: Int = Deadline.defaultSeconds) -> [String] {
        _ = standardOutput.wait(until: Deadline(seconds: seconds)) { output in
            output.lines.count >= count || output.isAtEnd ? true : nil
        }
        return outputLines
    }

    /// Waits for a line of standard error that `isWanted`, and returns the first; nil at the end of the stream.
    public func errorLine(
        within seconds: Int = Deadline.defaultSeconds, where isWanted: (String) -> Bool
    ) throws -> String? {
        var seen = 0
        let found: String?? = standardError.wait(until: Deadline(seconds: seconds)) { output in
            while seen < output.lines.count {
                seen += 1
                if isWanted(output.lines[seen - 1]) { return .some(output.lines[seen - 1]) }
            }
            return output.isAtEnd ? .some(nil) : nil
        }
        guard let found else {
            throw Failure("no such line from \(commandLine): \(errorLines)", at: Place(#fileID, #line))
        }
        return found
    }

    public func signal(_ number: Int32) {
        // A reaped process's id may be another's already.
        if life.withLock({ $0.status == nil }) { Glibc.kill(pid, number) }
    }

    /// The status if the process has ended.
    public var status: ExitStatus? { try? waitForExit(within: 0) }

    /// Waits for the end of the process and of its output.
    @discardableResult
    public func waitForExit(
        within seconds: Int = Deadline.defaultSeconds, _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> ExitStatus {
        let deadline = Deadline(seconds: seconds)
        // One caller reaps; others wait for what it learns.
        let known = life.wait(until: deadline) { life -> ExitStatus?? in
            if let status = life.status { return .some(status) }
            if life.isBeingAwaited { return nil }
            life.isBeingAwaited = true
            return .some(nil)
        }
        if let known, let status = known { return status }
        if known == nil { throw Failure("still running: \(commandLine)", at: Place(fileID, line)) }
        var waitStatus: Int32 = 0
        let answer = child_wait(pid, deadline.millisecondsLeft, &waitStatus)
        let status = answer == 1 ? ExitStatus(waitStatus: waitStatus) : nil
        life.update {
            $0.status = status
            $0.isBeingAwaited = false
        }
        guard let status else { throw Failure("still running: \(commandLine)", at: Place(fileID, line)) }
        // A grandchild may hold the pipes open: then what came until the deadline counts.
        _ = standardOutput.wait(until: deadline) { $0.isAtEnd ? true : nil }
        _ = standardError.wait(until: deadline) { $0.isAtEnd ? true : nil }
        return status
    }

    private static func pipe() throws -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        let answer = child_pipe(&ends)
        guard answer == 0 else { throw Failure("pipe2: errno \(-answer)", at: Place(#fileID, #line)) }
        return (ends[0], ends[1])
    }

    /// A file without a name that holds `bytes`, at its beginning.
    private static func descriptor(holding bytes: [UInt8]) throws -> Int32 {
        let file = child_input(bytes, bytes.count)
        guard file >= 0 else { throw Failure("memfd_create: errno \(-file)", at: Place(#fileID, #line)) }
        return file
    }

    /// Brokers keep nothing on disk, unless their settings say so: many run at a time, and a store is one broker's.
    private static func environment(adding others: [String: String]) -> [String] {
        let variables = ["STAMPEDE_STORAGE_ENABLED": "false"].merging(others) { $1 }
        var result: [String] = []
        var next = environ
        while let variable = next.pointee {
            let text = String(cString: variable)
            if variables[String(text.prefix { $0 != "=" })] == nil { result.append(text) }
            next += 1
        }
        return result + variables.map { "\($0.key)=\($0.value)" }
    }

    /// A thread that reads `descriptor` to its end.
    private static func reader(of descriptor: Int32) -> Monitor<Output> {
        let output = Monitor(Output())
        startThread {
            var chunk = [UInt8](repeating: 0, count: 65536)
            var partialLine: [UInt8] = []
            while true {
                let count = read(descriptor, &chunk, chunk.count)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { break }
                let bytes = chunk[..<count]
                var lines: [String] = []
                var start = bytes.startIndex
                while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
                    lines.append(String(decoding: partialLine + bytes[start..<end], as: UTF8.self))
                    partialLine.removeAll()
                    start = end + 1
                }
                partialLine += bytes[start...]
                output.update {
                    $0.bytes += bytes
                    $0.lines += lines
                }
            }
            close(descriptor)
            output.update {
                if !partialLine.isEmpty { $0.lines.append(String(decoding: partialLine, as: UTF8.self)) }
                $0.isAtEnd = true
            }
        }
        return output
    }
}

/// Runs `body` on a thread of its own.
public func startThread(_ body: @escaping @Sendable () -> Void) {
    final class Work {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let work = Unmanaged.passRetained(Work(body))
    let failure = pthread_create(
        &thread, nil,
        { pointer in
            Unmanaged<Work>.fromOpaque(pointer!).takeRetainedValue().body()
            return nil
        }, work.toOpaque())
    precondition(failure == 0, "pthread_create: \(failure)")
    pthread_detach(thread)
}
