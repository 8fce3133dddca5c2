/// What a record takes of its segment, in 20 bits, so that the place and the size of a record fit into 8 bytes.
///
///     bit 19 clear:  bits 0...18 are units of 64 bytes
///     bit 19 set:    bits 0...18 are 64 units each; rounded up
///
/// 0 is no record's size.
public struct RecordSize: BitwiseCopyable, Hashable, Sendable {
    public var code: UInt32

    public static let bitCount = 20
    private static let isCoarse: UInt32 = 1 << 19
    private static let coarseUnitShift = 6

    @inlinable
    public init(code: UInt32) { self.code = code }

    public init(byteCount: Int) {
        let units = (byteCount + JournalFormat.unitByteCount - 1) >> JournalFormat.unitShift
        if units < Int(Self.isCoarse) {
            code = UInt32(units)
        } else {
            code = UInt32((units + 63) >> Self.coarseUnitShift) | Self.isCoarse
        }
    }

    /// By so much at most `byteCount` is more than what it was made of.
    public var excessMax: Int {
        code & Self.isCoarse == 0 ? 0 : (JournalFormat.unitByteCount << Self.coarseUnitShift) - 1
    }

    /// At least what it was made of, and exact below 32 MiB.
    public var byteCount: Int {
        let units = Int(code & (Self.isCoarse - 1))
        return (code & Self.isCoarse == 0 ? units : units << Self.coarseUnitShift) << JournalFormat.unitShift
    }
}
