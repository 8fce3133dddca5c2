public import Slabs

/// The bounds of one frame. At each, parsing fails as soon as the octet that exceeds it has arrived.
@frozen
public struct FrameLimits: BitwiseCopyable, Sendable {
    /// Octets of the command, without its line end.
    public let commandByteCountMax: Int
    /// Header lines.
    public let headerCountMax: Int
    /// Octets of one header line, without its line end. At most 65,535, since fields hold 16-bit counts.
    public let headerByteCountMax: Int
    /// Octets of all header lines with their line ends, without the empty line behind them.
    public let headersByteCountMax: Int
    /// Octets of the body.
    public let bodyByteCountMax: Int

    @inlinable
    public init(
        commandByteCountMax: Int = 64, headerCountMax: Int = 64, headerByteCountMax: Int = 8 * 1024,
        headersByteCountMax: Int = 32 * 1024, bodyByteCountMax: Int = 1024 * 1024
    ) {
        invariant(headerCountMax >= 0 && headerCountMax <= 0xFFFF, "a frame counts its headers in 16 bits")
        invariant(headerByteCountMax >= 0 && headerByteCountMax <= 0xFFFF, "a field counts its octets in 16 bits")
        invariant(headersByteCountMax >= 0 && headersByteCountMax <= 1 << 30, "headers beyond 1 GiB")
        invariant(bodyByteCountMax >= 0 && bodyByteCountMax <= 1 << 30, "a body beyond 1 GiB")
        self.commandByteCountMax = commandByteCountMax
        self.headerCountMax = headerCountMax
        self.headerByteCountMax = headerByteCountMax
        self.headersByteCountMax = headersByteCountMax
        self.bodyByteCountMax = bodyByteCountMax
    }
}
