/// One of the broker's listeners: its index in the list of the configuration, from 0.
///
/// A connection keeps the ID of the listener that accepted it, also when another worker takes the connection over. The
/// listener decides what the connection may do and how its bytes are framed.
@frozen
public struct ListenerID: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
    public var rawValue: UInt8

    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Listeners in a configuration: indices 0 to 255.
    public static var countMax: Int { 256 }
}

/// Where a connection came from, packed into 56 bits to be passed from worker to worker:
///
///     bit  0   address   48 bits: the peer's IPv4 address, or a hash of its IPv6 address; 0: not known
///     bit 48   listener   8 bits
@frozen
public struct ConnectionOrigin: Equatable, BitwiseCopyable, Sendable {
    public var packed: UInt64

    @inlinable public init(packed: UInt64) { self.packed = packed & (1 << 56 - 1) }

    /// - Parameter address: the lower 48 bits count.
    @inlinable
    public init(listener: ListenerID, address: UInt64) {
        packed = UInt64(listener.rawValue) << 48 | address & (1 << 48 - 1)
    }

    @inlinable public var listener: ListenerID { ListenerID(rawValue: UInt8(packed >> 48)) }
    @inlinable public var address: UInt64 { packed & (1 << 48 - 1) }
}
