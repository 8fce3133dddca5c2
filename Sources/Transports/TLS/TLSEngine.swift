import CTLS
import Slabs

/// One TLS connection as a machine over bytes: it makes no system call and reads no clock of its own.
///
///     ciphertext -> read  -> plaintext            (and handshake messages, alerts -> output)
///     plaintext  -> write -> output
///
/// It is a plain value, so that it can be a field of a slab's record. Whoever holds it calls `free` once. All calls of an
/// engine get the wire that it was made with.
///
/// Memory: OpenSSL holds its buffers only while there is something in them. `Architecture.md` has the figures of an
/// idle connection, and of one in its handshake.
public struct TLSEngine: BitwiseCopyable {
    private enum State: UInt8, BitwiseCopyable {
        case handshaking
        case open
        case failed
    }

    private var connection: OpaquePointer
    private var state = State.handshaking
    private let isServer: Bool
    private var isHelloInspected: Bool
    /// Key updates of the peer since its last byte of data.
    private var keyUpdateCount: UInt8 = 0
    /// The most plaintext of a record, in units of 256 bytes: less than a record can hold if the client has asked for it.
    private var recordLimit = UInt8(TLSWire.recordByteCountMax >> 8)
    /// Bytes of the input that were inspected and not taken. They come first in the next call.
    private var inspectedByteCount: UInt32 = 0
    private var hello = ClientHelloGuard()

    /// The most key updates of a peer in a row. Each takes the time of some hundred bytes of data (RFC 8446, section
    /// 4.6.3 allows any number).
    static let keyUpdateCountMax: UInt8 = 32

    /// The server's side of a new connection. nil: there is no memory.
    ///
    /// It takes some KiB. A connection that has sent nothing does not need one yet.
    public init?(accepting context: TLSContext, wire: borrowing TLSWire) {
        guard let connection = tls_library_accept(context.pointer, wire.pointer) else { return nil }
        self.connection = connection
        isServer = true
        isHelloInspected = false
    }

    /// The client's side. The first `read`, without input, writes the hello.
    ///
    /// - Parameters:
    ///   - serverName: the name or IP address that the server's certificate must have.
    public init?(connecting context: TLSContext, serverName: String, isAddress: Bool, wire: borrowing TLSWire) {
        let made = serverName.withCString { tls_connect(context.pointer, wire.pointer, $0, isAddress) }
        guard let made else { return nil }
        connection = made
        isServer = false
        isHelloInspected = true
    }

    /// Frees the connection without a word to the peer. Call it once, at the end.
    public func free(wire: borrowing TLSWire) { tls_library_free(connection, wire.pointer) }

    /// Whether the handshake is done and nothing has failed.
    public var isEstablished: Bool { state == .open }

    /// Whether the session of an earlier connection was resumed.
    public func isResumed(wire: borrowing TLSWire) -> Bool { tls_library_is_resumed(connection, wire.pointer) }

    // MARK: - Receiving

    /// Takes ciphertext and decrypts it, and carries on the handshake until it is done.
    ///
    /// - Parameters:
    ///   - input: the peer's bytes. What is taken is removed from its front. What an outcome leaves must come first in
    ///     the next call. A record that is not complete is taken and kept by OpenSSL.
    ///   - plaintext: at least 1 byte. With 16 KiB or more, each record fits whole.
    ///   - output: best with 4 KiB of room: a server answers a hello with its certificates.
    public mutating func read(
        _ input: inout UnsafeRawBufferPointer, into plaintext: UnsafeMutableRawBufferPointer, output: inout TLSOutput,
        wire: borrowing TLSWire
    ) -> TLSRead {
        var result = TLSRead(outcome: .failed, plaintextByteCount: 0, handshakeStepCount: 0, failure: .none)
        guard state != .failed else {
            result.failure = TLSFailure(.notOpen)
            return result
        }
        if !isHelloInspected {
            let verdict = hello.inspect(UnsafeRawBufferPointer(rebasing: input.dropFirst(Int(inspectedByteCount))))
            if verdict != .fine {
                state = .failed
                result.failure = TLSFailure(verdict == .notTLS ? .notTLS : .helloTooLong)
                return result
            }
        }
        begin(input, output, wire)
        var count = 0
        let outcome = tls_library_read(connection, wire.pointer, plaintext.baseAddress, plaintext.count, &count)
        let takenByteCount = input.count - wire.pointer.pointee.input_count
        if !isHelloInspected {
            isHelloInspected = wire.pointer.pointee.said_hello
            inspectedByteCount = UInt32(input.count - takenByteCount)
        }
        input = UnsafeRawBufferPointer(rebasing: input[takenByteCount...])
        output.count = wire.pointer.pointee.output_count
        result.plaintextByteCount = count
        result.handshakeStepCount = Int(wire.pointer.pointee.handshake_step_count)
        conclude(outcome, wire, &result)
        return result
    }

    private mutating func conclude(_ outcome: tls_outcome, _ wire: borrowing TLSWire, _ result: inout TLSRead) {
        switch outcome {
        case TLS_NEEDS_INPUT: result.outcome = .needsInput
        case TLS_PLAINTEXT_FULL: result.outcome = .plaintextFull
        case TLS_OUTPUT_FULL: result.outcome = .outputFull
        case TLS_ENDED: result.outcome = .ended
        default:
            state = .failed
            result.failure = wire.libraryFailure
            return
        }
        if state == .handshaking && tls_library_is_established(connection, wire.pointer) {
            state = .open
            recordLimit = UInt8(tls_library_record_limit(connection, wire.pointer) >> 8)
        }
        countKeyUpdates(Int(wire.pointer.pointee.key_update_count), &result)
    }

    private mutating func countKeyUpdates(_ count: Int, _ result: inout TLSRead) {
        if result.plaintextByteCount > 0 { keyUpdateCount = 0 }
        guard count > 0 else { return }
        keyUpdateCount = UInt8(min(Int(keyUpdateCount) + count, Int(UInt8.max)))
        guard keyUpdateCount > Self.keyUpdateCountMax else { return }
        state = .failed
        result.outcome = .failed
        result.failure = TLSFailure(.keyUpdates)
    }

    private func begin(_ input: UnsafeRawBufferPointer, _ output: TLSOutput, _ wire: borrowing TLSWire) {
        let pointer = wire.pointer
        pointer.pointee.input = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
        pointer.pointee.input_count = input.count
        pointer.pointee.output = output.base.assumingMemoryBound(to: UInt8.self)
        pointer.pointee.output_capacity = output.capacity
        pointer.pointee.output_count = output.count
        pointer.pointee.handshake_step_count = 0
        pointer.pointee.key_update_count = 0
        pointer.pointee.alert_sent = -1
        pointer.pointee.alert_received = -1
        pointer.pointee.said_hello = false
        pointer.pointee.refused_renegotiation = false
    }

    // MARK: - Sending

    /// Writes a ticket, with which the client of a server may resume its session. Call it once, before the first `write`:
    ///
    /// A ticket that comes right after the handshake meets the client's first bytes. Clients that read in one thread and
    /// write in another (all that use Python's ssl module in that way, stomp.py among them) then lose these bytes: while
    /// OpenSSL 3.0 takes in a ticket, it collects what is written and throws it away
    /// (https://github.com/openssl/openssl, `ssl_init_wbio_buffer` in ssl/statem/statem.c). A client that
    /// waits for the server's first bytes writes nothing meanwhile.
    ///
    /// - Parameter isFirst: false if the call before has returned `.outputFull`.
    /// - Returns: `.needsInput` if the ticket is written; `.outputFull`: call again with room; `.failed`.
    mutating func writeTicket(isFirst: Bool, output: inout TLSOutput, wire: borrowing TLSWire) -> TLSRead.Outcome {
        guard state == .open else { return .failed }
        begin(UnsafeRawBufferPointer(start: nil, count: 0), output, wire)
        let outcome = tls_library_write_ticket(connection, wire.pointer, isFirst)
        output.count = wire.pointer.pointee.output_count
        switch outcome {
        case TLS_NEEDS_INPUT: return .needsInput
        case TLS_OUTPUT_FULL: return .outputFull
        default:
            state = .failed
            return .failed
        }
    }

    /// Encrypts plaintext as records, as many as the output has room for. Returns the count of bytes that were taken;
    /// -1: the connection has failed. 0 if not even a short record has room.
    public mutating func write(
        _ plaintext: UnsafeRawBufferPointer, output: inout TLSOutput, wire: borrowing TLSWire
    ) -> Int {
        var taken = 0
        while taken < plaintext.count {
            let count = recordByteCount(plaintext.count - taken, room: output.room)
            if count == 0 { break }
            guard write(record: plaintext.baseAddress! + taken, count, &output, wire) else { return -1 }
            taken += count
        }
        return taken
    }

    /// The plaintext of the next record: all that is left, up to 16 KiB or what the client has asked for, or as much as
    /// fits. A record much shorter than what is left is not worth its 22 bytes and its tag; it waits for a new buffer.
    func recordByteCount(_ left: Int, room: Int) -> Int {
        Self.recordByteCount(left, room: room, limit: Int(recordLimit) << 8)
    }

    static func recordByteCount(_ left: Int, room: Int, limit: Int = TLSWire.recordByteCountMax) -> Int {
        let wanted = min(left, limit)
        let possible = min(wanted, room - TLSWire.recordOverhead)
        return possible >= wanted || possible >= 2048 ? possible : 0
    }

    mutating func write(
        record: UnsafeRawPointer, _ count: Int, _ output: inout TLSOutput, _ wire: borrowing TLSWire
    ) -> Bool {
        guard state == .open else { return false }
        begin(UnsafeRawBufferPointer(start: nil, count: 0), output, wire)
        guard tls_library_write(connection, wire.pointer, record, count) else {
            state = .failed
            return false
        }
        output.count = wire.pointer.pointee.output_count
        return true
    }

    /// Writes close_notify: the peer reads what was sent, then the end. Nothing can be written after it.
    ///
    /// - Parameter output: 64 bytes of room suffice.
    public mutating func close(output: inout TLSOutput, wire: borrowing TLSWire) {
        guard state == .open else { return }
        begin(UnsafeRawBufferPointer(start: nil, count: 0), output, wire)
        tls_library_close(connection, wire.pointer)
        output.count = wire.pointer.pointee.output_count
    }

    // MARK: - Facts

    /// What the handshake has found out. The strings are made now.
    public var identity: TLSIdentity { TLSIdentity(connection, isServer: isServer) }

    /// For clients: the session, to be resumed by `resume`. Empty: there is none yet. With TLS 1.3 it comes with the server's
    /// ticket, after the handshake.
    package func session() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 16_384) { buffer, count in
            count = tls_session_copy(connection, buffer.baseAddress, buffer.count)
        }
    }

    /// For clients: offers the session to the server. Before the first `read`.
    package func resume(_ session: [UInt8]) -> Bool { tls_session_use(connection, session, session.count) }

    /// For tests: the next write changes keys, and asks the peer to do so too.
    func requestKeyUpdate() -> Bool { tls_request_key_update(connection) }

    /// For tests: as `requestKeyUpdate`, without data.
    mutating func sendKeyUpdate(output: inout TLSOutput, wire: borrowing TLSWire) -> Bool {
        begin(UnsafeRawBufferPointer(start: nil, count: 0), output, wire)
        let isSent = tls_request_key_update(connection) && tls_flush_handshake(connection)
        output.count = wire.pointer.pointee.output_count
        return isSent
    }

    /// For tests: a client asks for records of at most 512 bytes.
    func requestShortRecords() -> Bool { tls_request_short_records(connection) }

    /// For tests: asks for a renegotiation (TLS 1.2), which a server of this kind refuses.
    mutating func requestRenegotiation(output: inout TLSOutput, wire: borrowing TLSWire) -> Bool {
        begin(UnsafeRawBufferPointer(start: nil, count: 0), output, wire)
        let isRequested = tls_request_renegotiation(connection)
        output.count = wire.pointer.pointee.output_count
        return isRequested
    }
}
