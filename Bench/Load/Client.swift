/// One client: 40 bytes, so that a million clients fit into the memory of the same machine as the server.
struct Client: BitwiseCopyable {
    enum Phase: UInt8, BitwiseCopyable {
        /// No connection.
        case idle
        /// The connection is being opened.
        case connecting
        /// The handshake of TLS is not done.
        case securing
        /// The handshake of WebSocket is sent.
        case upgrading
        /// CONNECT is sent.
        case greeting
        /// SUBSCRIBE is sent.
        case subscribing
        case ready
        case closing
    }

    var generation: UInt32 = 0
    var phase = Phase.idle
    var isStalled = false
    /// The server or the network ended the connection unexpectedly.
    var hasEnded = false
    /// The destination that it subscribes to, plus 1. 0: none.
    var subscription: UInt32 = 0
    /// The index of its publisher, plus 1. 0: it is no publisher.
    var publisher: UInt32 = 0
    /// The index of its first expected sequence. There is one for each publisher of its destination.
    var expectations: UInt32 = 0
    /// The pool indices of its outbox, and of the block for an incomplete frame. 0: none.
    var outbox: UInt32 = 0
    var partial: UInt32 = 0
    var partialByteCount: UInt32 = 0
    /// With heart-beats: the time of the last receive, in milliseconds.
    var heardAt: UInt32 = 0
}

/// The window of a publisher.
struct Publisher: BitwiseCopyable {
    var client: UInt32 = 0
    var destination: UInt32 = 0
    /// The sequence of its next message, which is the number of messages sent.
    var next: UInt64 = 0
    /// The number of its messages that have arrived at all subscribers.
    var completed: UInt64 = 0
    /// For each segment under way: the number of subscribers that have received it.
    var segments: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    var isListed = false
    // Queues: conservation is checked at the end.
    var receivedCount: UInt64 = 0
    var receivedSum: UInt64 = 0

    mutating func countSegment(_ index: Int) -> UInt32 {
        withUnsafeMutableBytes(of: &segments) { bytes in
            let offset = (index & (segmentsPerWindow - 1)) * 4
            let count = bytes.load(fromByteOffset: offset, as: UInt32.self) + 1
            bytes.storeBytes(of: count, toByteOffset: offset, as: UInt32.self)
            return count
        }
    }

    mutating func clearSegment(_ index: Int) {
        withUnsafeMutableBytes(of: &segments) {
            $0.storeBytes(of: 0, toByteOffset: (index & (segmentsPerWindow - 1)) * 4, as: UInt32.self)
        }
    }
}
