import CLibFuzzer
public import FuzzFrames
import Glibc

/// Set once, before libFuzzer calls back on this one thread.
nonisolated(unsafe) private var check: FuzzTarget.Check = { _ in nil }

/// Fuzzes the target that the environment's FUZZ_TARGET names, with libFuzzer's options and corpus folders as arguments.
///
/// The environment, because libFuzzer starts itself again (to merge, to minimise, with jobs) with the arguments it knows.
public func fuzz(_ targets: [FuzzTarget]) -> Never {
    let name = getenv("FUZZ_TARGET").map { String(cString: $0) }
    guard let target = targets.first(where: { $0.name == name }) else {
        // `stderr` is a variable, which Swift 6 does not let any thread read.
        let usage = "FUZZ_TARGET is one of: \(targets.map(\.name).joined(separator: ", "))\n"
        _ = usage.withCString { write(2, $0, strlen($0)) }
        exit(2)
    }
    check = target.makeCheck()

    // Of an option that is given twice the last counts: the caller's.
    var arguments = [CommandLine.unsafeArgv[0], strdup("-max_len=\(target.byteCountMax)")]
    for index in 1..<max(Int(CommandLine.argc), 1) { arguments.append(CommandLine.unsafeArgv[index]) }
    arguments.append(nil)
    var count = Int32(arguments.count - 1)
    let status = arguments.withUnsafeMutableBufferPointer { arguments in
        var start = arguments.baseAddress
        return LLVMFuzzerRunDriver(&count, &start) { octets, count in
            if let fault = check(UnsafeRawBufferPointer(start: octets, count: count)) {
                fatalError("disagreement: \(fault)")
            }
            return 0
        }
    }
    exit(status)
}
