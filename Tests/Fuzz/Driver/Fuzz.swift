import CLibFuzzer
public import FuzzFrames
import Glibc

/// Set once, before libFuzzer calls back on this one thread.
nonisolated(unsafe) private var check: FuzzTarget.Check = { _ in nil }

/// Fuzzes the target that the command line names: `TARGET [libFuzzer's options] [corpus folders]`.
public func fuzz(_ targets: [FuzzTarget]) -> Never {
    guard CommandLine.argc >= 2, let target = targets.first(where: { $0.name == CommandLine.arguments[1] }) else {
        // `stderr` is a variable, which Swift 6 does not let any thread read.
        let usage = "targets: \(targets.map(\.name).joined(separator: ", "))\n"
        _ = usage.withCString { write(2, $0, strlen($0)) }
        exit(2)
    }
    check = target.makeCheck()

    // libFuzzer sees its own options behind the program's name.
    var arguments = [CommandLine.unsafeArgv[0], strdup("-max_len=\(target.byteCountMax)")]
    for index in 2..<max(Int(CommandLine.argc), 2) { arguments.append(CommandLine.unsafeArgv[index]) }
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
