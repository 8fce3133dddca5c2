/// The client's side of a connection, over arrays: for programs that talk to one broker. It never waits.
///
/// Bytes to be sent before the handshake is done are kept until it is.
public final class TLSClientStream {
    private let wire: TLSWire
    private var engine: TLSEngine
    private var early: [UInt8] = []
    /// Ciphertext for the socket. Whoever sends it empties it.
    public var output: [UInt8] = []
    /// The broker has sent close_notify: nothing more is received.
    public private(set) var isEnded = false
    /// Why the connection cannot be used any more. nil: it can.
    public private(set) var failure: TLSFailure?

    private static let chunkByteCount = 64 << 10

    /// - Parameters:
    ///   - serverName: the name that the server's certificate must have, or its address if `isAddress`.
    public init(_ context: TLSContext, serverName: String, isAddress: Bool) throws(TLSProblem) {
        let failure = TLSProblem(
            role: .library, file: "", text: "TLS cannot begin: there is no memory, or \(serverName) is no name")
        guard let wire = TLSWire() else { throw failure }
        guard
            let engine = TLSEngine(connecting: context, serverName: serverName, isAddress: isAddress, wire: wire)
        else { throw failure }
        self.wire = wire
        self.engine = engine
        _ = receive([])
    }

    deinit { engine.free(wire: wire) }

    /// The handshake is done.
    public var isOpen: Bool { engine.isEstablished }

    public var identity: TLSIdentity { engine.identity }

    /// Takes ciphertext and returns what it holds. An empty array: nothing yet, the end, or a failure.
    public func receive(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var plaintext: [UInt8] = []
        bytes.withUnsafeBytes { bytes in
            withUnsafeTemporaryAllocation(byteCount: 2 * Self.chunkByteCount, alignment: 16) { room in
                var input = bytes
                let (text, answer) = (room[..<Self.chunkByteCount], room[Self.chunkByteCount...])
                let chunk = UnsafeMutableRawBufferPointer(rebasing: text)
                var result: TLSRead
                repeat {
                    var ciphertext = TLSOutput(
                        base: UnsafeMutableRawBufferPointer(rebasing: answer).baseAddress!, capacity: answer.count)
                    result = engine.read(&input, into: chunk, output: &ciphertext, wire: wire)
                    plaintext += chunk[..<result.plaintextByteCount]
                    output += answer.prefix(ciphertext.count)
                } while result.outcome == .plaintextFull || result.outcome == .outputFull
                isEnded = result.outcome == .ended
                if result.outcome == .failed { failure = result.failure }
            }
        }
        if engine.isEstablished, !early.isEmpty {
            let bytes = early
            early = []
            send(bytes)
        }
        return plaintext
    }

    /// Encrypts bytes into `output`, or keeps them until the handshake is done. After a failure they are lost.
    public func send(_ bytes: [UInt8]) {
        guard engine.isEstablished else {
            if failure == nil { early += bytes }
            return
        }
        var offset = 0
        while offset < bytes.count {
            let taken = encrypt(bytes[offset...])
            guard taken > 0 else { return failure = failure ?? TLSFailure(.notOpen) }
            offset += taken
        }
    }

    private func encrypt(_ bytes: ArraySlice<UInt8>) -> Int {
        bytes.withUnsafeBytes { bytes in
            withUnsafeTemporaryAllocation(byteCount: Self.chunkByteCount, alignment: 16) { room in
                var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
                let taken = engine.write(bytes, output: &ciphertext, wire: wire)
                output += room[..<ciphertext.count]
                return taken
            }
        }
    }

    /// Says goodbye. Nothing can be sent any more.
    public func close() {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 16) { room in
            var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
            engine.close(output: &ciphertext, wire: wire)
            output += room[..<ciphertext.count]
        }
    }
}
