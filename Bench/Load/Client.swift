/// One client: 40 bytes, so that a million fit beside the server.
struct Client: BitwiseCopyable {
    enum Phase: UInt8, BitwiseCopyable {
        /// No connection.
        case idle
        /// The kernel connects.
        case connecting
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
    /// The server, or the network, ended it against our will.
    var hasEnded = false
    /// Destination it subscribes to, plus 1. 0: none.
    var subscription: UInt32 = 0
    /// Publisher it plays, plus 1. 0: none.
    var publisher: UInt32 = 0
    /// First of its expected sequences: one for each publisher of its destination.
    var expectations: UInt32 = 0
    /// Pool places of the bytes that wait to be sent, and of a frame that has come in part. 0: none.
    var outbox: UInt32 = 0
    var partial: UInt32 = 0
    var partialByteCount: UInt32 = 0
    /// With heart-beats: when something came last, in milliseconds.
    var heardAt: UInt32 = 0
}

/// One publisher's window.
struct Publisher: BitwiseCopyable {
    var client: UInt32 = 0
    var destination: UInt32 = 0
    /// The sequence of its next message; how many it has sent.
    var next: UInt64 = 0
    /// So many of its messages have arrived everywhere.
    var completed: UInt64 = 0
    /// How many subscribers have each of the segments under way.
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
