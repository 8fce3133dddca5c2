internal import IO
internal import Slabs

/// Where a connection of a listener with TLS stands.
enum TLSStage: UInt8, BitwiseCopyable {
    /// The header of a proxy is due, which comes before TLS.
    case proxy
    /// Nothing of TLS has come yet, and there is no engine.
    case waiting
    case handshake
    case open
    /// TLS has failed. What still arrives is thrown away, and nothing can be sent but the alert that waits.
    case failed
}

struct TLSFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt16
    /// In the list of those for which the next `lower` has something to do.
    static let isListed = TLSFlags(rawValue: 1 << 0)
    /// In the queue of handshakes that wait for their turn.
    static let isQueued = TLSFlags(rawValue: 1 << 1)
    /// The core was told that the input has ended or failed.
    static let inputEnded = TLSFlags(rawValue: 1 << 2)
    /// The peer has ended while its handshake waits for its turn. The core is told when that is over.
    static let endIsDue = TLSFlags(rawValue: 1 << 3)
    /// The socket's sending side is to be shut down when all ciphertext is with the kernel.
    static let shutdownIsDue = TLSFlags(rawValue: 1 << 4)
    /// `.close` is with the driver.
    static let isClosing = TLSFlags(rawValue: 1 << 5)
    /// The core waits for `.writable`.
    static let coreAwaitsWritable = TLSFlags(rawValue: 1 << 6)
    /// The driver was asked for `.writable`.
    static let isWritableAsked = TLSFlags(rawValue: 1 << 7)
    /// It has a send in this poll.
    static let isSending = TLSFlags(rawValue: 1 << 8)
    /// The driver took only a part of it.
    static let sendFellShort = TLSFlags(rawValue: 1 << 9)
    /// The socket is full: nothing is sent until `.writable`.
    static let isFull = TLSFlags(rawValue: 1 << 10)
    /// There was no block for its ciphertext. It is in the list of those that wait for memory.
    static let isStarved = TLSFlags(rawValue: 1 << 11)
    /// The client gets its ticket before the core's first bytes.
    static let ticketIsDue = TLSFlags(rawValue: 1 << 12)
    /// close_notify is among the ciphertext, or the handshake was given up: nothing may follow.
    static let hasSaidAll = TLSFlags(rawValue: 1 << 13)
    /// The core has submitted `.close`, which waits until the ciphertext is with the kernel.
    static let closeIsDue = TLSFlags(rawValue: 1 << 14)
}

/// A connection with TLS: what the layer keeps, 80 bytes, besides what OpenSSL keeps.
///
/// Ciphertext that the kernel has not taken yet waits in blocks, in the order in which it leaves:
///
///     first block -> ... -> last block       each | next 4 B | end 4 B | start 4 B | plaintext 4 B | ciphertext ... |
///
/// `plaintext` is the count of the core's bytes that the block holds encrypted. They count as sent when the whole block
/// is with the kernel.
struct TLSRecord: SlabRecord {
    var generation: UInt32
    /// What the core calls the connection: the index, and the generation in the upper 24 bits, with the listener below.
    var connectionIndex: UInt32
    var connectionGeneration: UInt32
    var flags: TLSFlags
    var stage: TLSStage
    var spare: UInt8
    var engine: TLSEngine?
    /// Bytes of the core that are encrypted, and of which it has not been told that they are taken. It will submit them
    /// again, first of all, and they are skipped.
    var aheadByteCount: UInt32
    /// So many of them are with the kernel.
    var sentByteCount: UInt32
    var firstBlock: BlockIndex
    var lastBlock: BlockIndex
    /// Ciphertext in the blocks.
    var pendingByteCount: UInt32
    /// For `sendFellShort`: bytes that the driver took, or -errno.
    var sendResult: Int32
    /// Input that waits: for the rest of a proxy's header, or for the turn of the handshake. 0: none.
    var kept: BlockIndex
    var spare2: UInt32

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

/// The first bytes of a block of ciphertext.
struct CiphertextHeader: BitwiseCopyable {
    var next: BlockIndex
    /// Offsets in the block, from its first byte.
    var end: UInt32
    var start: UInt32
    var plaintextByteCount: UInt32

    static var byteCount: Int { 16 }
}

/// A connection that the core has closed, and whose ciphertext waits for the kernel.
struct ClosingTLS: BitwiseCopyable {
    var record: Handle<TLSRecord>
    var deadline: UInt64
    /// Its ciphertext when the deadline was set.
    var pendingByteCount: UInt32
}

/// A send of one connection in one poll.
struct LoweredTLSSend: BitwiseCopyable {
    var record: Handle<TLSRecord>
    var ciphertextByteCount: UInt32
    /// Bytes that the core submitted. 0: the layer sends for itself.
    var coreByteCount: UInt32
    /// The core expects `.sendReleased`.
    var isZeroCopy: Bool
}
