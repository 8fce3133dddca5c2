/// The `heart-beat` header: "x,y", in milliseconds.
///
/// Source: STOMP 1.1 and 1.2, section Heart-beating.
public enum HeartBeat {
    /// What the sender can do (x) and wants (y); nil if malformed: not two numbers of digits, or one beyond 32 bits.
    /// Blanks around the numbers are tolerated.
    public static func parse(_ value: UnsafeRawBufferPointer) -> (UInt32, UInt32)? {
        guard let comma = value.firstIndex(of: Byte.comma),
            let first = number(value, 0, comma),
            let second = number(value, comma + 1, value.count)
        else { return nil }
        return (first, second)
    }

    private static func number(_ value: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> UInt32? {
        var start = start
        var end = end
        while start < end && isBlank(value[start]) { start += 1 }
        while start < end && isBlank(value[end - 1]) { end -= 1 }
        guard start < end, let number = decimal(value.baseAddress.unsafelyUnwrapped + start, end - start) else {
            return nil
        }
        return UInt32(exactly: number)
    }
}
