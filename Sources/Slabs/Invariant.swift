/// Stops the process, in release builds too, when `condition` does not hold.
///
/// For errors of the programmer only. The passing path is one compare and one branch; `message` states the one fact
/// that was supposed to be true, in words that make sense in a crash report ("kernel sent more than was submitted").
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
