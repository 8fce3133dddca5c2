import IO

extension Peer {
    private var isBehindProxy: Bool { transport?.listener.expectsProxyHeader == true }

    /// Where the kernel says that it came from.
    var origin: ConnectionOrigin {
        ConnectionOrigin(
            listener: ListenerID(rawValue: UInt8(listener)),
            address: isBehindProxy ? TransportScenario.proxyOrigin : address)
    }

    /// As the core knows it when it is accepted.
    var originForCore: ConnectionOrigin {
        isBehindProxy ? ConnectionOrigin(listener: origin.listener, address: 0) : origin
    }

    /// The core knows the address: that of the connection, or the one that its proxy has named.
    var hasKnownAddress: Bool { !isBehindProxy || transport!.isNamed }

    /// Octets that the client has to have read to know the frame that was decoded last.
    var decodedEnd: Int { transport == nil ? decoder.decodedByteCount : takenByteCount }
}
