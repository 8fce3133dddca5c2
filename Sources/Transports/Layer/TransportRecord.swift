import IO
import Slabs

/// Where a connection's input stands. The output is framed when the flag `isOpen` is set.
enum InputStage: UInt8, BitwiseCopyable {
    /// A PROXY header is due.
    case proxy
    /// The request that opens the WebSocket is due.
    case request
    /// Frames of WebSocket.
    case frames
    /// STOMP as it is, behind a PROXY header.
    case plain
    /// The input has ended for the core: what still arrives is thrown away.
    case ended
    /// The connection has failed: nothing can be sent either.
    case failed
}

struct TransportFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt16
    /// The handshake is over, and what the core sends is put into frames.
    static let isOpen = TransportFlags(rawValue: 1 << 0)
    /// The core was told that the input has ended.
    static let endIsReported = TransportFlags(rawValue: 1 << 1)
    /// The peer has ended its sending side, or the connection has failed.
    static let peerEnded = TransportFlags(rawValue: 1 << 2)
    /// The last frame of a message has not been sent.
    static let isInMessage = TransportFlags(rawValue: 1 << 3)
    /// A close frame was put into `pending`.
    static let closeIsQueued = TransportFlags(rawValue: 1 << 4)
    /// Our sending side is to be shut down when `pending` is with the kernel.
    static let shutdownIsDue = TransportFlags(rawValue: 1 << 5)
    /// It was.
    static let isShutDown = TransportFlags(rawValue: 1 << 6)
    /// The core has submitted `.close`; the peer has some time to read what was sent and to end.
    static let lingers = TransportFlags(rawValue: 1 << 7)
    /// `.close` is with the driver.
    static let isClosing = TransportFlags(rawValue: 1 << 8)
    /// The core waits for `.writable`.
    static let coreAwaitsWritable = TransportFlags(rawValue: 1 << 9)
    /// The layer does.
    static let awaitsWritable = TransportFlags(rawValue: 1 << 10)
    /// The driver was asked for `.writable`.
    static let isWritableAsked = TransportFlags(rawValue: 1 << 11)
    static let receiveIsPaused = TransportFlags(rawValue: 1 << 12)
    /// In the list of those for which the layer has something to do.
    static let isListed = TransportFlags(rawValue: 1 << 13)
    /// A PROXY header has named the client: `identity` begins with a `ClientAddress` and outlives the handshake.
    static let hasAddress = TransportFlags(rawValue: 1 << 14)
    /// The core has sent something: CONNECTED or ERROR.
    static let coreHasSent = TransportFlags(rawValue: 1 << 15)
}

/// For connections whose messages may be compressed: four bits, see `TransportRecord.compressionFlags`.
struct CompressionFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// The last byte that `owed` counts is the last of the message under way.
    static let endsAtOwed = CompressionFlags(rawValue: 1 << 0)
    /// Bytes that were received wait to be inflated (`CompressionState.backlog`).
    static let hasBacklog = CompressionFlags(rawValue: 1 << 1)
    /// The driver was asked by the layer to receive nothing, because of the backlog.
    static let pausesReceive = CompressionFlags(rawValue: 1 << 2)
    /// The peer has ended. The core is told when the backlog is done.
    static let endIsDue = CompressionFlags(rawValue: 1 << 3)
}

/// A connection that is not plain: what remains of it while it idles, 56 bytes.
///
/// The bytes that leave are, in this order:
///
///     | pending, up to `pendingBefore` | `owed` bytes of the core | the rest of pending | frames, each a header and bytes of the core |
///
/// `pending` before `owed` is the rest of something that was sent in part, or the answer to the request. What is behind
/// `owed` are whole control frames of which nothing was sent; a frame may not be interrupted, so they wait until the core
/// has sent the rest of the frame under way.
struct TransportRecord: SlabRecord {
    var generation: UInt32
    /// What the core calls the connection: the index, and the generation in the upper 24 bits, with the listener below.
    var connectionIndex: UInt32
    var connectionGeneration: UInt32
    /// 17 bytes. What follows fills up its last word.
    var decoder: WebSocketDecoder
    /// `stage` in the lower half, `compressionFlags` in the upper.
    private var stageAndCompression: UInt8
    var flags: TransportFlags
    /// Of the close frame that is to be sent.
    var closeAnswer: CloseAnswer
    /// Whether messages may be compressed.
    var compression: CompressionAgreement
    /// Bytes of the core that the frame under way still lacks. Where messages may be compressed: that the message does,
    /// of which nothing is framed in part.
    var owed: UInt32
    /// Bytes of the layer's own that are to be sent. 0: none.
    var pending: BlockIndex
    /// So many of them are with the kernel.
    var pendingOffset: UInt16
    var pendingBefore: UInt16
    /// The beginning of a header or request, or of a control frame's payload. 0: none.
    var kept: BlockIndex
    /// What was found out about the client (`TransportLayer.identity`). 0: nothing.
    var identity: BlockIndex

    var stage: InputStage {
        @inline(__always) get { unsafeBitCast(stageAndCompression & 0x0F, to: InputStage.self) }
        @inline(__always) set { stageAndCompression = stageAndCompression & 0xF0 | newValue.rawValue }
    }

    var compressionFlags: CompressionFlags {
        @inline(__always) get { CompressionFlags(rawValue: stageAndCompression >> 4) }
        @inline(__always) set { stageAndCompression = stageAndCompression & 0x0F | newValue.rawValue << 4 }
    }

    var connection: Slot {
        @inline(__always) get { Slot(index: connectionIndex, generation: connectionGeneration >> 8) }
    }

    var listener: Int {
        @inline(__always) get { Int(connectionGeneration & 0xFF) }
    }

    mutating func name(_ connection: Slot, _ listener: UInt8) {
        connectionIndex = connection.index
        connectionGeneration = connection.generation << 8 | UInt32(listener)
    }
}

/// The send of one connection in one poll, as far as it is needed to tell what became of it.
struct LoweredSend: BitwiseCopyable {
    var record: Handle<TransportRecord>
    /// The first of its vectors.
    var vectors: Int
    var vectorCount: UInt32
    /// Bytes of the core, which is told how many were taken. 0: the layer sends for itself.
    var coreByteCount: UInt32
    /// Before the send.
    var owed: UInt32
    var pending: BlockIndex
    var pendingOffset: UInt16
    var pendingBefore: UInt16
    var wasInMessage: Bool
    /// The core expects `.sendReleased`.
    var isZeroCopy: Bool
    var compression: CompressedSend = []
}

/// Of a send on a connection whose messages may be compressed.
struct CompressedSend: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// Its frames were made by `lowerCompressed`.
    static let isCompressed = CompressedSend(rawValue: 1 << 0)
    /// The flag `CompressionFlags.endsAtOwed`, before the send.
    static let endedAtOwed = CompressedSend(rawValue: 1 << 1)
    /// There is an entry in `CompressionStates.cappedSends`.
    static let isCapped = CompressedSend(rawValue: 1 << 2)
}
