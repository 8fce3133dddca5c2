package import CTLS
import Slabs

/// What the connections of one worker share: the buffers of the current call, and room to gather small pieces.
///
/// A worker has one. It must outlive its engines.
public struct TLSWire: ~Copyable {
    let pointer: UnsafeMutablePointer<tls_wire>
    /// Pieces of plaintext are gathered here, so that a record holds many of them.
    let gatherBase: UnsafeMutableRawPointer

    /// The most plaintext of a record (RFC 8446, section 5.1).
    public static let recordByteCountMax = 16_384
    /// The most bytes that a record adds to its plaintext, and an answer to the peer's KeyUpdate before it.
    public static var recordOverhead: Int { tls_record_overhead }

    /// nil: there is no memory.
    public init?() { self.init(library: tls_library_openssl()) }

    /// - Parameter library: what encrypts. It must outlive the wire.
    package init?(library: UnsafePointer<tls_library>) {
        guard let pointer = tls_wire_create(library) else { return nil }
        self.pointer = pointer
        gatherBase = .allocate(byteCount: Self.recordByteCountMax, alignment: 64)
    }

    deinit {
        tls_wire_destroy(pointer)
        gatherBase.deallocate()
    }

    /// Why the last call of an engine failed.
    var libraryFailure: TLSFailure {
        let wire = pointer.pointee
        if wire.refused_renegotiation { return TLSFailure(.renegotiation) }
        if wire.alert_received >= 0 { return TLSFailure(.alert, code: Int64(wire.alert_received)) }
        if wire.verification != 0 { return TLSFailure(.verification, code: wire.verification) }
        return TLSFailure(.library, code: Int64(bitPattern: wire.error))
    }
}

/// A buffer for ciphertext that goes to the peer. An engine appends to it.
public struct TLSOutput: BitwiseCopyable {
    public let base: UnsafeMutableRawPointer
    public let capacity: Int
    public internal(set) var count: Int

    /// - Parameter count: bytes that are there already.
    public init(base: UnsafeMutableRawPointer, capacity: Int, count: Int = 0) {
        self.base = base
        self.capacity = capacity
        self.count = count
    }

    public var room: Int { capacity - count }
}

/// What a call of `TLSEngine.read` did.
public struct TLSRead: BitwiseCopyable {
    public enum Outcome: UInt8, BitwiseCopyable, Sendable {
        /// All input was taken.
        case needsInput
        /// The buffer for plaintext is full. Call again, also if no input is left.
        case plaintextFull
        /// The buffer for ciphertext is full. Call again with room.
        case outputFull
        /// The peer has sent close_notify. Nothing more is received. Sending may go on.
        case ended
        /// The connection cannot be used any more. The output may hold an alert that says why; it should be sent.
        case failed
    }

    public var outcome: Outcome
    /// Also with `.ended` and `.failed` there may be plaintext that came before.
    public var plaintextByteCount: Int
    /// Steps of the handshake that take the processor long, 50 us to 1 ms each: hellos, key exchanges and proofs.
    public var handshakeStepCount: Int
    /// For `.failed`.
    public var failure: TLSFailure
}

/// Why a connection failed: a value that becomes text when it is logged.
public struct TLSFailure: BitwiseCopyable, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: UInt8, BitwiseCopyable, Sendable {
        case none
        /// The first byte of the peer is not TLS.
        case notTLS
        case helloTooLong
        /// The handshake waits for its turn, and there is no room for all that the peer sends meanwhile.
        case tooMuchAtOnce
        case renegotiation
        /// Too many key updates without any data between them.
        case keyUpdates
        /// The peer's alert, by its number.
        case alert
        /// The peer's certificate could not be verified, by X.509 error number.
        case verification
        /// OpenSSL's error.
        case library
        /// An engine was asked to write after a failure or before its handshake.
        case notOpen
        case noMemory
    }

    public let kind: Kind
    let code: Int64

    init(_ kind: Kind, code: Int64 = 0) {
        self.kind = kind
        self.code = code
    }

    public static let none = TLSFailure(.none)

    public var description: String {
        switch kind {
        case .none: "no failure"
        case .notTLS: "the client does not speak TLS; this listener expects it"
        case .helloTooLong: "the client's hello is longer than \(ClientHelloGuard.byteCountMax) bytes"
        case .tooMuchAtOnce:
            "the client sends more than \(TLSLayer.keptByteCountOfBegunMax) bytes before its handshake is done"
        case .renegotiation: "the client asked for a renegotiation, which is refused"
        case .keyUpdates: "the client changes keys over and over without sending anything"
        case .alert: "the peer ended TLS: \(String(cString: tls_alert_text(Int32(code)))) (alert \(code))"
        case .verification: "the peer's certificate is refused: \(String(cString: tls_verification_text(code)))"
        case .library where tls_error_is_plain_http(UInt64(bitPattern: code)):
            "an HTTP request without TLS came to a listener that expects TLS"
        case .library where tls_error_is_other_protocol(UInt64(bitPattern: code)):
            "the peer does not speak TLS, or only a version that is too old"
        case .library: "TLS failed: \(String(cString: tls_error_text(UInt64(bitPattern: code))))"
        case .notOpen: "the connection is not open"
        case .noMemory: "there is no memory for the handshake"
        }
    }
}
