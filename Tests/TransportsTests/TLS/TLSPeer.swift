import CTLS
import Glibc
import Slabs
import TestSupport
import Testing

@testable import Transports

/// One end of a connection in memory: an engine, what it has decrypted, and the ciphertext that waits for the other end.
struct TLSPeer: ~Copyable {
    let wire: TLSWire
    var engine: TLSEngine
    var plaintext: [UInt8] = []
    var output: [UInt8] = []
    var outcome = TLSRead.Outcome.needsInput
    var failure = TLSFailure.none
    var stepCount = 0
    /// The sizes of the buffers of each call.
    var plaintextByteCountMax = 65_536
    var outputByteCountMax = 65_536

    init(server context: TLSContext) {
        wire = TLSWire()!
        engine = TLSEngine(accepting: context, wire: wire)!
    }

    init(client context: TLSContext, name: String = "localhost", isAddress: Bool = false) {
        wire = TLSWire()!
        engine = TLSEngine(connecting: context, serverName: name, isAddress: isAddress, wire: wire)!
    }

    deinit { engine.free(wire: wire) }

    /// Feeds ciphertext until the engine wants more, or nothing goes on.
    mutating func receive(_ bytes: [UInt8] = []) {
        bytes.withUnsafeBytes { bytes in
            var input = bytes
            var callCount = 0
            repeat {
                read(&input)
                callCount += 1
                precondition(callCount < 100_000, "the engine makes no progress")
            } while outcome == .plaintextFull || outcome == .outputFull
        }
        #expect(!tls_has_errors())
    }

    private mutating func read(_ input: inout UnsafeRawBufferPointer) {
        withUnsafeTemporaryAllocation(byteCount: plaintextByteCountMax, alignment: 16) { buffer in
            withUnsafeTemporaryAllocation(byteCount: outputByteCountMax, alignment: 16) { room in
                var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
                let result = engine.read(&input, into: buffer, output: &ciphertext, wire: wire)
                plaintext += buffer[..<result.plaintextByteCount]
                output += room[..<ciphertext.count]
                outcome = result.outcome
                failure = result.failure
                stepCount += result.handshakeStepCount
            }
        }
    }

    /// Encrypts all bytes. Returns false if the connection has failed.
    @discardableResult
    mutating func send(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let taken = write(UnsafeRawBufferPointer(rebasing: rest))
                if taken < 0 { return false }
                rest = rest.dropFirst(taken)
            }
            return true
        }
    }

    private mutating func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        withUnsafeTemporaryAllocation(byteCount: outputByteCountMax, alignment: 16) { room in
            var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
            let taken = engine.write(bytes, output: &ciphertext, wire: wire)
            output += room[..<ciphertext.count]
            return taken
        }
    }

    /// A server's ticket. Returns how often it had to be asked, for want of room.
    @discardableResult
    mutating func sendTicket() -> Int {
        var count = 0
        var outcome = TLSRead.Outcome.outputFull
        while outcome == .outputFull {
            outcome = withUnsafeTemporaryAllocation(byteCount: outputByteCountMax, alignment: 16) { room in
                var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
                let outcome = engine.writeTicket(isFirst: count == 0, output: &ciphertext, wire: wire)
                output += room[..<ciphertext.count]
                return outcome
            }
            count += 1
        }
        #expect(outcome == .needsInput)
        return count
    }

    mutating func close() {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 16) { room in
            var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
            engine.close(output: &ciphertext, wire: wire)
            output += room[..<ciphertext.count]
        }
    }

    mutating func takeOutput() -> [UInt8] {
        defer { output = [] }
        return output
    }
}

/// Carries ciphertext between two ends until neither has any.
///
/// - Parameter chunk: the bytes of a delivery at most.
func exchange(_ first: inout TLSPeer, _ second: inout TLSPeer, chunk: Int = .max) {
    while !first.output.isEmpty || !second.output.isEmpty {
        deliver(first.takeOutput(), to: &second, chunk: chunk)
        deliver(second.takeOutput(), to: &first, chunk: chunk)
    }
}

func deliver(_ bytes: [UInt8], to peer: inout TLSPeer, chunk: Int) {
    var rest = bytes[...]
    while !rest.isEmpty {
        peer.receive(Array(rest.prefix(chunk)))
        rest = rest.dropFirst(chunk)
    }
}

/// Starts the client and carries the handshake through as far as it goes.
func handshake(_ client: inout TLSPeer, _ server: inout TLSPeer, chunk: Int = .max) {
    client.receive()
    exchange(&client, &server, chunk: chunk)
}

/// Contexts over the certificates of the tests.
enum TestContexts {
    /// A time at which the certificates of the tests are valid.
    /// When the certificates are there, which are not valid before they were made.
    static let now: Int64 = {
        _ = TestCertificates.shared
        return Int64(time(nil)) + 1
    }()
    static let tickets = TLSTicketKeys(nowSeconds: now)!

    static func options(
        _ names: String..., clients: TLSOptions.ClientCertificates = .none, versionMin: TLSOptions.VersionMin = .tls12
    ) -> TLSOptions {
        var options = TLSOptions()
        options.certificates = names.map { TestCertificates.shared.pair($0) }
        options.clientCertificates = clients
        if clients != .none { options.clientAuthoritiesFile = TestCertificates.shared.file("ca.pem") }
        options.versionMin = versionMin
        return options
    }

    static func server(
        _ options: TLSOptions = options("server"), protocol name: TLSProtocol = .stomp, tickets: TLSTicketKeys = tickets
    ) throws(TLSProblem) -> TLSContext {
        try TLSContext(server: options, protocol: name, tickets: tickets, nowSeconds: now)
    }

    static func client(
        authority: String = "ca", certificate: String? = nil, protocol name: TLSProtocol = .stomp
    ) throws(TLSProblem) -> TLSContext {
        try TLSContext(
            client: name, authoritiesFile: TestCertificates.shared.file("\(authority).pem"),
            certificate: certificate.map { TestCertificates.shared.pair($0) }, nowSeconds: now)
    }
}
