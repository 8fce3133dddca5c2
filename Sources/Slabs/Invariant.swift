/// Stops the process if `condition` is false, also in release builds.
///
/// Only for programmer errors. If the condition holds, it costs one compare and one branch. `message` must make sense
/// in a crash report ("the kernel sent more than was submitted").
@inlinable @inline(__always)
public func invariant(
    _ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> StaticString,
    file: StaticString = #fileID, line: UInt = #line
) {
    if _slowPath(!condition()) { invariantFailed(message(), file: file, line: line) }
}

@inline(never) @usableFromInline
func invariantFailed(_ message: StaticString, file: StaticString, line: UInt) -> Never {
    fatalError("invariant violated: \(message)", file: file, line: line)
}
