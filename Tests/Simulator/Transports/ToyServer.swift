import CTLS
import Slabs

/// What the servers' ends of all connections of a run share: the table of functions that the layer of TLS calls in the
/// place of OpenSSL's, and what is drawn.
final class ToyLibrary {
    /// The table first: the functions find the rest behind it.
    private struct Table {
        var functions: tls_library
        var owner: Unmanaged<ToyLibrary>
    }

    private let table: UnsafeMutablePointer<Table>
    var random: Random
    let canary: Canary?
    /// Handshakes fail now and then though the client is right, in thousandths.
    var failureChance: Int
    /// Clients whose handshakes have failed so.
    private(set) var failed: Set<Int> = []
    private(set) var retryCount = 0
    var liveCount = 0

    /// nil: the run has no transports.
    init?(_ scenario: Scenario, _ canary: Canary?) {
        guard let transports = scenario.transports else { return nil }
        random = Random(seed: scenario.options.seed ^ 0x544F_5943_4950)
        failureChance = transports.failureChance
        self.canary = canary
        table = .allocate(capacity: 1)
        table.initialize(
            to: Table(functions: Self.functions, owner: Unmanaged.passUnretained(self)))
    }

    deinit { table.deallocate() }

    var pointer: UnsafePointer<tls_library> {
        UnsafeRawPointer(table).assumingMemoryBound(to: tls_library.self)
    }

    private static func of(_ wire: UnsafeMutablePointer<tls_wire>?) -> ToyLibrary {
        UnsafeRawPointer(wire!.pointee.library!).assumingMemoryBound(to: Table.self).pointee.owner
            .takeUnretainedValue()
    }

    func fails(_ client: Int) -> Bool {
        guard random.chance(failureChance) else { return false }
        failed.insert(client)
        return true
    }

    func asksAgain() -> Bool {
        guard random.chance(300) else { return false }
        retryCount += 1
        return true
    }

    private static var functions: tls_library {
        tls_library(
            accept: { _, wire in
                OpaquePointer(Unmanaged.passRetained(ToyServer(ToyLibrary.of(wire))).toOpaque())
            },
            free: { Unmanaged<ToyServer>.fromOpaque(UnsafeRawPointer($0!)).release() },
            read: { connection, wire, bytes, capacity, count in
                let plaintext = UnsafeMutableRawBufferPointer(start: bytes, count: capacity)
                let (outcome, byteCount) = ToyServer.of(connection).read(wire!, plaintext)
                count!.pointee = byteCount
                return outcome
            },
            write: { connection, wire, bytes, count in
                ToyServer.of(connection).write(wire!, UnsafeRawBufferPointer(start: bytes, count: count))
            },
            write_ticket: { connection, wire, isFirst in ToyServer.of(connection).writeTicket(wire!, isFirst) },
            close: { connection, wire in ToyServer.of(connection).close(wire!) },
            is_established: { ToyServer.of($0).isEstablished },
            is_resumed: { _ in false }, record_limit: { _ in tls_record_byte_count_max })
    }
}

/// A server's end of a connection with the cipher of the simulator. It buffers as OpenSSL does: of a record that is not
/// whole it keeps what has come, and what it has to say waits for room.
///
///     client                    server
///     hello: number, id  ->
///                        <-     retry, now and then
///     hello: number, id  ->
///                        <-     hello: number, and a certificate's worth of octets
///     finished: proof    ->
///                        <-     finished: proof
final class ToyServer {
    private enum Stage { case hello, secondHello, finished, open, ended, failed }

    private unowned let library: ToyLibrary
    private var stage = Stage.hello
    private var input: [UInt8] = []
    private var inputRead = 0
    /// Messages of a handshake may lie across records.
    private var messages: [UInt8] = []
    /// What has found no room in the output.
    private var output: [UInt8] = []
    /// Decrypted, and not taken.
    private var plaintext: [UInt8] = []
    private var plaintextRead = 0
    private var number: UInt64 = 0
    private var reading: ToyKey?
    private var writing: ToyKey?
    private var hasClosed = false

    init(_ library: ToyLibrary) {
        self.library = library
        library.liveCount += 1
    }

    deinit { library.liveCount -= 1 }

    static func of(_ connection: OpaquePointer?) -> ToyServer {
        Unmanaged<ToyServer>.fromOpaque(UnsafeRawPointer(connection!)).takeUnretainedValue()
    }

    var isEstablished: Bool { stage == .open || stage == .ended }

    // MARK: Reading

    func read(
        _ wire: UnsafeMutablePointer<tls_wire>, _ room: UnsafeMutableRawBufferPointer
    ) -> (tls_outcome, Int) {
        input.append(contentsOf: UnsafeBufferPointer(start: wire.pointee.input, count: wire.pointee.input_count))
        wire.pointee.input = wire.pointee.input.map { $0 + wire.pointee.input_count }
        wire.pointee.input_count = 0
        var count = 0
        while true {
            guard flush(wire) else { return (TLS_OUTPUT_FULL, count) }
            if stage == .failed { return (TLS_FAILED, count) }
            count += takePlaintext(room, from: count)
            if plaintextRead < plaintext.count {
                // A planted bug: what is decrypted waits until the next octets arrive.
                if library.canary == .forgetDecrypted { return (TLS_NEEDS_INPUT, count) }
                return (TLS_PLAINTEXT_FULL, count)
            }
            if stage == .ended { return (TLS_ENDED, count) }
            guard let record = ToyRecord.next(input, at: inputRead) else { break }
            let payload = input[record.payload]
            inputRead = record.payload.upperBound
            take(record.kind, payload, wire)
        }
        if inputRead > 0 {
            input.removeFirst(inputRead)
            inputRead = 0
        }
        return (TLS_NEEDS_INPUT, count)
    }

    /// As a buffer that is too small for all would: a part of what is there, now and then.
    private func takePlaintext(_ room: UnsafeMutableRawBufferPointer, from start: Int) -> Int {
        var byteCount = min(plaintext.count - plaintextRead, room.count - start)
        guard byteCount > 0 else { return 0 }
        if byteCount > 1, library.random.chance(100) { byteCount = 1 + library.random.below(byteCount) }
        plaintext.withUnsafeBytes {
            (room.baseAddress! + start).copyMemory(from: $0.baseAddress! + plaintextRead, byteCount: byteCount)
        }
        plaintextRead += byteCount
        if plaintextRead == plaintext.count {
            plaintext.removeAll(keepingCapacity: true)
            plaintextRead = 0
        }
        return byteCount
    }

    private func take(_ kind: UInt8, _ payload: ArraySlice<UInt8>, _ wire: UnsafeMutablePointer<tls_wire>) {
        guard stage == .open else {
            guard kind == ToyRecord.Kind.handshake else { return fail() }
            messages += payload
            return takeMessages(wire)
        }
        guard let clear = reading!.open(kind, payload) else { return fail() }
        switch kind {
        case ToyRecord.Kind.data: plaintext += clear
        case ToyRecord.Kind.alert where clear == ToyRecord.closeNotify: stage = .ended
        case ToyRecord.Kind.handshake: wire.pointee.key_update_count += 1
        default: fail()
        }
    }

    private func fail() {
        if stage == .failed { return }
        if writing != nil {
            output += writing!.seal(ToyRecord.Kind.alert, ToyRecord.handshakeFailure)
        } else {
            output += ToyRecord.plain(ToyRecord.Kind.alert, ToyRecord.handshakeFailure)
        }
        stage = .failed
    }

    // MARK: The handshake

    private func takeMessages(_ wire: UnsafeMutablePointer<tls_wire>) {
        while messages.count >= 4, stage != .failed, stage != .open {
            let end = 4 + (Int(messages[1]) << 16 | Int(messages[2]) << 8 | Int(messages[3]))
            guard messages.count >= end else { return }
            let (kind, body) = (messages[0], Array(messages[4..<end]))
            messages.removeFirst(end)
            wire.pointee.handshake_step_count += 1
            switch (stage, kind) {
            case (.hello, ToyRecord.Message.clientHello), (.secondHello, ToyRecord.Message.clientHello):
                takeHello(body, wire)
            case (.finished, ToyRecord.Message.finished) where body == reading!.proof:
                say(ToyRecord.Message.finished, writing!.proof)
                stage = .open
            default: fail()
            }
        }
        // Nothing may come behind the last message in its record.
        if stage == .open, !messages.isEmpty { fail() }
    }

    private func takeHello(_ body: [UInt8], _ wire: UnsafeMutablePointer<tls_wire>) {
        guard body.count >= 16 else { return fail() }
        if stage == .hello, library.asksAgain() {
            stage = .secondHello
            return say(ToyRecord.Message.retry, [])
        }
        if library.fails(Int(truncatingIfNeeded: ToyRecord.number(body[8..<16]))) { return fail() }
        number = library.random.next()
        let client = ToyRecord.number(body[..<8])
        let certificate = [UInt8](repeating: 0x43, count: library.random.pick([0, 800, 5000, 20_000]))
        say(ToyRecord.Message.serverHello, ToyRecord.octets(number) + certificate)
        reading = ToyKey(client, number, isOfServer: false)
        writing = ToyKey(client, number, isOfServer: true)
        wire.pointee.said_hello = true
        stage = .finished
    }

    private func say(_ kind: UInt8, _ body: [UInt8]) {
        let message = ToyRecord.message(kind, body)
        for start in stride(from: 0, to: message.count, by: 4096) {
            output += ToyRecord.plain(ToyRecord.Kind.handshake, message[start..<min(start + 4096, message.count)])
        }
    }

    // MARK: Writing

    /// Writes what has found no room. False: there is still none for all of it.
    private func flush(_ wire: UnsafeMutablePointer<tls_wire>) -> Bool {
        guard !output.isEmpty else { return true }
        let count = min(output.count, wire.pointee.output_capacity - wire.pointee.output_count)
        output.withUnsafeBytes {
            UnsafeMutableRawPointer(wire.pointee.output! + wire.pointee.output_count)
                .copyMemory(from: $0.baseAddress!, byteCount: count)
        }
        wire.pointee.output_count += count
        output.removeFirst(count)
        return output.isEmpty
    }

    func write(_ wire: UnsafeMutablePointer<tls_wire>, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard isEstablished, !hasClosed else { return false }
        if library.canary == .sendClearText, library.random.chance(20) {
            output += ToyRecord.plain(ToyRecord.Kind.data, bytes)
        } else {
            output += writing!.seal(ToyRecord.Kind.data, bytes)
        }
        return flush(wire)
    }

    func writeTicket(_ wire: UnsafeMutablePointer<tls_wire>, _ isFirst: Bool) -> tls_outcome {
        guard isFirst else { return flush(wire) ? TLS_NEEDS_INPUT : TLS_OUTPUT_FULL }
        output += writing!.seal(
            ToyRecord.Kind.handshake,
            ToyRecord.message(ToyRecord.Message.ticket, [UInt8](repeating: 0x54, count: 200)))
        // The second half comes with the second call, now and then.
        return library.random.chance(300) ? TLS_OUTPUT_FULL : flush(wire) ? TLS_NEEDS_INPUT : TLS_OUTPUT_FULL
    }

    func close(_ wire: UnsafeMutablePointer<tls_wire>) {
        guard isEstablished, !hasClosed else { return }
        hasClosed = true
        output += writing!.seal(ToyRecord.Kind.alert, ToyRecord.closeNotify)
        _ = flush(wire)
    }
}
