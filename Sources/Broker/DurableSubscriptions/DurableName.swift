import STOMP

/// The name of the queue of a durable subscription. No client can write it as a destination.
///
/// | dialect | name |
/// |---|---|
/// | shared | `/dsub/id/ID/topic/NAME` |
/// | single | `/dsub/client/CLIENT-ID/SUBSCRIPTION-NAME` |
///
/// Before it is what the names of its host begin with (`HostName`).
///
/// In ID, CLIENT-ID and SUBSCRIPTION-NAME, slashes, percent signs and control bytes are written `%2F`, so that no two of
/// them make the same name.
enum DurableName {
    static var prefix: StaticString { "/dsub/" }

    /// - Parameter topic: the canonical name; the subscription is of the same host.
    static func shared(id: UnsafeRawBufferPointer, topic: [UInt8]) -> [UInt8] {
        let hostByteCount = topic.withUnsafeBytes { HostName.prefixByteCount($0) }
        var name = topic[..<hostByteCount] + Array("/dsub/id/".utf8)
        append(id, to: &name)
        return Array(name + topic[hostByteCount...])
    }

    /// - Parameter host: what the names of the client's host begin with.
    static func single(
        clientID: [UInt8], name subscriptionName: UnsafeRawBufferPointer,
        host: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) -> [UInt8] {
        var name = Array(host) + Array("/dsub/client/".utf8)
        clientID.withUnsafeBytes { append($0, to: &name) }
        name.append(UInt8(ascii: "/"))
        append(subscriptionName, to: &name)
        return name
    }

    /// The most that one takes.
    static func byteCountMax(_ limits: Limits) -> Int {
        16 + HostName.prefixByteCountMax + limits.destinationNameByteCountMax + 6 * limits.subscriptionIdByteCountMax
    }

    private static func append(
        _ bytes: UnsafeRawBufferPointer, to name: inout some RangeReplaceableCollection<UInt8>
    ) {
        for byte in bytes {
            switch byte {
            case 0..<0x20, 0x7F, UInt8(ascii: "/"), UInt8(ascii: "%"):
                let digits = Array("0123456789ABCDEF".utf8)
                name.append(contentsOf: [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]])
            default: name.append(byte)
            }
        }
    }
}
