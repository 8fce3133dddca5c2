/// The octets that mean something in a frame.
enum Byte {
    static var nul: UInt8 { 0x00 }
    static var tab: UInt8 { 0x09 }
    static var lineFeed: UInt8 { 0x0A }
    static var carriageReturn: UInt8 { 0x0D }
    static var space: UInt8 { 0x20 }
    static var comma: UInt8 { 0x2C }
    static var dot: UInt8 { 0x2E }
    static var zero: UInt8 { 0x30 }
    static var one: UInt8 { 0x31 }
    static var nine: UInt8 { 0x39 }
    static var colon: UInt8 { 0x3A }
    static var backslash: UInt8 { 0x5C }
    static var c: UInt8 { 0x63 }
    static var n: UInt8 { 0x6E }
    static var r: UInt8 { 0x72 }
}

/// What STOMP 1.0 trims from both ends of a header's name and value.
@inline(__always)
func isBlank(_ byte: UInt8) -> Bool {
    byte == Byte.space || byte == Byte.tab || byte == Byte.carriageReturn
}

extension UnsafeRawPointer {
    @inline(__always)
    func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }

    @inline(__always)
    func word(_ offset: Int) -> UInt64 { UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }
}

/// Reads a number of digits alone: "0", "007", "65536". Nil for anything else, the empty text and what exceeds UInt64.
@inline(__always)
func decimal(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64? {
    // 19 digits cannot overflow, and so need no check per digit.
    if byteCount == 0 { return nil }
    var number: UInt64 = 0
    for index in 0..<byteCount {
        let digit = UInt64(bytes.byte(index)) &- UInt64(Byte.zero)
        if digit > 9 { return nil }
        if _slowPath(index >= 19) {
            let (product, overflowed) = number.multipliedReportingOverflow(by: 10)
            let (sum, carried) = product.addingReportingOverflow(digit)
            if overflowed || carried { return nil }
            number = sum
        } else {
            number = number &* 10 &+ digit
        }
    }
    return number
}
