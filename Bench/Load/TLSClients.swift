import Drivers
import Glibc
import IO
import Slabs
import Transports

/// TLS of a thread's clients: an engine for each, and what they share.
///
/// A client is named by its place, from 1. Its engine lives from `begin` to `end`.
final class TLSClients {
    private let context: TLSContext
    private let wire: TLSWire
    private let engines: UnsafeMutablePointer<TLSEngine?>
    private let records: UnsafeMutablePointer<RecordCounter>
    private let count: Int
    /// What the last `read` has decrypted.
    let plaintext = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)
    /// What the last `read` or `encrypt` has made for the server.
    private(set) var output: TLSOutput

    private static let outputByteCountMin = 64 << 10
    private static let serverName = "localhost"

    init(_ context: TLSContext, count: Int) {
        guard let wire = TLSWire() else { preconditionFailure("no memory for the first connection of TLS") }
        self.context = context
        self.wire = wire
        self.count = count
        engines = .allocate(capacity: count + 1)
        engines.initialize(repeating: nil, count: count + 1)
        records = .allocate(capacity: count + 1)
        records.initialize(repeating: RecordCounter(), count: count + 1)
        output = TLSOutput(base: malloc(Self.outputByteCountMin)!, capacity: Self.outputByteCountMin)
    }

    deinit {
        for place in 0...count { engines[place]?.free(wire: wire) }
        engines.deallocate()
        records.deallocate()
        plaintext.deallocate()
        free(output.base)
    }

    /// A context for all threads of a load.
    static func context(_ tls: Load.TLS, usesWebSocket: Bool) throws(DriverError) -> TLSContext {
        let context: TLSContext
        do throws(TLSProblem) {
            context = try TLSContext(
                client: usesWebSocket ? .http : .stomp, authoritiesFile: nil, trustsAnyone: true, nowSeconds: 0)
        } catch {
            throw DriverError(.other, error.description)
        }
        guard context.setSuites(tls.suites) else {
            throw DriverError(.notSupported, "this OpenSSL has no cipher suite of TLS 1.3 named \(tls.suites)")
        }
        return context
    }

    /// Makes the engine of a new connection. False: there is no memory.
    func begin(_ place: Int) -> Bool {
        end(place)
        records[place] = RecordCounter()
        engines[place] = TLSEngine(connecting: context, serverName: Self.serverName, isAddress: false, wire: wire)
        return engines[place] != nil
    }

    func end(_ place: Int) {
        engines[place]?.free(wire: wire)
        engines[place] = nil
    }

    func isEstablished(_ place: Int) -> Bool { engines[place]?.isEstablished ?? false }

    /// The version and the cipher of an established connection.
    func cipher(_ place: Int) -> String? {
        guard let identity = engines[place]?.identity else { return nil }
        return "\(identity.version) \(identity.cipher)"
    }

    /// Decrypts into `plaintext`, and answers into `output`. To be repeated as `TLSEngine.read` says.
    func read(_ place: Int, _ input: inout UnsafeRawBufferPointer) -> TLSRead {
        output = TLSOutput(base: output.base, capacity: output.capacity)
        return engines[place]!.read(&input, into: plaintext, output: &output, wire: wire)
    }

    /// Encrypts into `output`. False: the connection has failed.
    func encrypt(_ place: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let recordCount = bytes.count / TLSWire.recordByteCountMax + 1
        let needed = bytes.count + recordCount * TLSWire.recordOverhead
        let capacity = max(output.capacity, needed)
        let base = capacity > output.capacity ? realloc(output.base, capacity)! : output.base
        output = TLSOutput(base: base, capacity: capacity)
        return engines[place]!.write(bytes, output: &output, wire: wire) == bytes.count
    }

    /// Counts the records in ciphertext of the server.
    func count(_ place: Int, _ bytes: UnsafeRawBufferPointer, _ counts: inout EncryptedCounts) {
        records[place].count(bytes, &counts)
    }
}

/// Counts records in a stream of ciphertext that comes in pieces:
///
///     | type 1 B | version 2 B | length 2 B | length bytes |
///
/// Those with data have the type 23. With TLS 1.3 messages of handshakes and alerts have it too; they are few.
struct RecordCounter: BitwiseCopyable {
    private static let headerByteCount = 5
    private static let dataType: UInt8 = 23
    /// A full record of TLS 1.3: its data, their type, and a tag.
    private static let fullByteCount = 16_384 + 1 + 16

    /// Bytes of the current header that are known.
    private var headerCount: UInt8 = 0
    private var isData = false
    /// The length of the current record.
    private var length: UInt16 = 0
    /// Bytes of the current record that are to come.
    private var rest: UInt16 = 0

    mutating func count(_ bytes: UnsafeRawBufferPointer, _ counts: inout EncryptedCounts) {
        var index = 0
        while index < bytes.count {
            if rest > 0 {
                let skipped = min(Int(rest), bytes.count - index)
                rest -= UInt16(skipped)
                index += skipped
                continue
            }
            add(bytes[index])
            index += 1
            guard headerCount == Self.headerByteCount else { continue }
            headerCount = 0
            rest = length
            guard isData else { continue }
            counts.records += 1
            if Int(length) < Self.fullByteCount { counts.sends += 1 }
        }
    }

    private mutating func add(_ byte: UInt8) {
        switch headerCount {
        case 0: isData = byte == Self.dataType
        case 3: length = UInt16(byte) << 8
        case 4: length |= UInt16(byte)
        default: break
        }
        headerCount += 1
    }
}
