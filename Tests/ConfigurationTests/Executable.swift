import Foundation
import Glibc
import Testing

/// The built command, beside the test bundle in the build directory.
struct Executable {
    struct Outcome {
        /// The exit code, or 128 + the signal that ended the process.
        var exitCode: Int32
        var outputBytes: [UInt8]
        var error: String

        var output: String { String(decoding: outputBytes, as: UTF8.self) }

        /// The lines on standard error.
        var errorLines: [Substring] { error.split(separator: "\n") }
    }

    let path: String

    init() throws {
        let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let directories = [
            URL(filePath: bundle).deletingLastPathComponent(), Bundle.main.bundleURL,
            URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent(),
        ]
        let candidates = directories.map { $0.appending(path: "stampede").path }
        path = try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0) })
    }

    /// Runs the command to its end, which has to come within ten seconds. `onStart` is told the process's id.
    func run(
        _ arguments: [String], environment: [String: String] = [:], input: String = "",
        endsInput: Bool = true, onStart: (Int32) -> Void = { _ in }
    ) throws -> Outcome {
        let process = Process()
        let output = Pipe()
        let error = Pipe()
        let standardInput = Pipe()
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.environment = ["PATH": "/usr/bin:/bin"].merging(environment) { $1 }
        process.standardInput = standardInput
        process.standardOutput = output
        process.standardError = error
        try process.run()
        let id = process.processIdentifier
        let guardian = DispatchWorkItem { kill(id, SIGKILL) }
        DispatchQueue.global().asyncAfter(deadline: .now() + 10, execute: guardian)
        onStart(id)
        standardInput.fileHandleForWriting.write(Data(input.utf8))
        if endsInput { try standardInput.fileHandleForWriting.close() }
        // Nothing here prints more than a pipe holds before the other one is read.
        let outputBytes = Array(output.fileHandleForReading.readDataToEndOfFile())
        let errorText = String(decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guardian.cancel()
        let code = process.terminationStatus
        return Outcome(
            exitCode: process.terminationReason == .uncaughtSignal ? 128 + code : code, outputBytes: outputBytes,
            error: errorText)
    }
}
