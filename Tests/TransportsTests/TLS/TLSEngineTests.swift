import Testing

@testable import Transports

@Suite("TLS: one connection")
struct TLSEngineTests {
    private static let request = Array("CONNECT\naccept-version:1.2\nhost:/\n\n\0".utf8)
    private static let answer = Array("CONNECTED\nversion:1.2\n\n\0".utf8)

    private static func clientContext(isVersion12: Bool) throws -> TLSContext {
        let context = try TestContexts.client()
        if isVersion12 { #expect(context.limitToVersion12()) }
        return context
    }

    @Test("Ciphertext in pieces of any size gives the same bytes", arguments: [false, true])
    func pieces(isVersion12: Bool) throws {
        let serverContext = try TestContexts.server()
        let clientContext = try Self.clientContext(isVersion12: isVersion12)
        for chunk in [1, 2, 3, 5, 7, 64, 1000, 16_384] {
            var client = TLSPeer(client: clientContext)
            var server = TLSPeer(server: serverContext)
            handshake(&client, &server, chunk: chunk)
            let isEstablished = client.engine.isEstablished && server.engine.isEstablished
            try #require(isEstablished, "chunk \(chunk): \(client.failure), \(server.failure)")
            client.send(Self.request)
            server.send(Self.answer)
            exchange(&client, &server, chunk: chunk)
            #expect(server.plaintext == Self.request)
            #expect(client.plaintext == Self.answer)
            #expect(client.engine.identity.version == (isVersion12 ? "TLSv1.2" : "TLSv1.3"))
        }
    }

    @Test("The client's bytes split in two at every position give the same bytes")
    func everySplit() throws {
        let serverContext = try TestContexts.server()
        let clientContext = try TestContexts.client()
        var position = 0
        var isDone = false
        while !isDone {
            var client = TLSPeer(client: clientContext)
            var server = TLSPeer(server: serverContext)
            var offset = 0
            client.receive()
            client.splitSend(to: &server, at: position, &offset)
            client.receive(server.takeOutput())
            client.send(Self.request)
            client.splitSend(to: &server, at: position, &offset)
            let plaintext = server.plaintext
            #expect(plaintext == Self.request, "split at \(position)")
            isDone = position > offset
            // The hello at every position, the rest at every third one.
            position += position < 64 ? 1 : 3
        }
    }

    @Test(
        "A client that offers one cipher suite gets that one",
        arguments: ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
    func suites(_ name: String) throws {
        let clientContext = try TestContexts.client()
        #expect(!clientContext.setSuites("TLS_NONE"))
        #expect(clientContext.setSuites(name))
        var client = TLSPeer(client: clientContext)
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        let ciphers = [client.engine.identity.cipher, server.engine.identity.cipher]
        #expect(ciphers == [name, name])
    }

    @Test("A handshake in records of one byte each is carried out")
    func recordsOfOneByte() throws {
        var client = TLSPeer(client: try TestContexts.client())
        var server = TLSPeer(server: try TestContexts.server())
        client.receive()
        let hello = client.takeOutput()
        for byte in hello.dropFirst(5) { server.receive([22, 3, 1, 0, 1, byte]) }
        exchange(&client, &server)
        let isEstablished = server.engine.isEstablished
        #expect(isEstablished, "\(server.failure)")
    }

    @Test("Small buffers for plaintext and ciphertext slow a connection down and break nothing")
    func smallBuffers() throws {
        var client = TLSPeer(client: try TestContexts.client())
        var server = TLSPeer(server: try TestContexts.server())
        server.outputByteCountMax = 300
        server.plaintextByteCountMax = 7
        handshake(&client, &server)
        let bytes = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        client.send(bytes)
        exchange(&client, &server)
        expectEqual(server.plaintext, bytes)
        server.outputByteCountMax = 3000
        server.send(bytes)
        exchange(&client, &server)
        expectEqual(client.plaintext, bytes)
    }

    @Test(
        "A ticket is written before the first data, also into small buffers, and not with TLS 1.2",
        arguments: [false, true])
    func ticket(isVersion12: Bool) throws {
        var client = TLSPeer(client: try Self.clientContext(isVersion12: isVersion12))
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        let before = client.engine.session()
        #expect(before.isEmpty == !isVersion12)
        server.outputByteCountMax = 100
        let callCount = server.sendTicket()
        #expect(callCount == 1 || !isVersion12)
        #expect(server.output.isEmpty == isVersion12)
        #expect(callCount > 1 || isVersion12)
        server.outputByteCountMax = 65_536
        server.send([1, 2, 3])
        exchange(&client, &server)
        #expect(client.plaintext == [1, 2, 3])
        let session = client.engine.session()
        #expect(!session.isEmpty)
        client.send([4])
        exchange(&client, &server)
        #expect(server.plaintext == [4])
    }

    @Test("A write fills records of 16 KiB, and takes no more than there is room for")
    func records() throws {
        var client = TLSPeer(client: try TestContexts.client())
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        let bytes = [UInt8](repeating: 42, count: 40_000)
        server.send(bytes)
        var sizes: [Int] = []
        var rest = server.output[...]
        while rest.count >= 5 {
            let at = rest.startIndex
            let size = Int(rest[at + 3]) << 8 | Int(rest[at + 4])
            sizes.append(size)
            rest = rest.dropFirst(5 + size)
        }
        #expect(sizes == [16_384 + 17, 16_384 + 17, 40_000 - 2 * 16_384 + 17])
        exchange(&client, &server)
        expectEqual(client.plaintext, bytes)

        #expect(TLSEngine.recordByteCount(100, room: TLSWire.recordOverhead + 100) == 100)
        #expect(TLSEngine.recordByteCount(100, room: TLSWire.recordOverhead + 99) == 0)
        #expect(TLSEngine.recordByteCount(50_000, room: TLSWire.recordOverhead + 2047) == 0)
        #expect(TLSEngine.recordByteCount(50_000, room: TLSWire.recordOverhead + 4096) == 4096)
        #expect(TLSEngine.recordByteCount(50_000, room: 1 << 20) == 16_384)
        #expect(TLSEngine.recordByteCount(50_000, room: 0) == 0)
    }

    @Test("A client that can take short records alone gets no longer ones", arguments: [false, true])
    func shortRecords(isVersion12: Bool) throws {
        var client = TLSPeer(client: try Self.clientContext(isVersion12: isVersion12))
        let isRequested = client.engine.requestShortRecords()
        #expect(isRequested)
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        server.sendTicket()
        let bytes = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let isSent = server.send(bytes)
        #expect(isSent)
        exchange(&client, &server)
        expectEqual(client.plaintext, bytes)
        client.send(bytes)
        exchange(&client, &server)
        expectEqual(server.plaintext, bytes)
    }

    @Test("close_notify ends one direction, after the bytes before it", arguments: [false, true])
    func closing(isVersion12: Bool) throws {
        var client = TLSPeer(client: try Self.clientContext(isVersion12: isVersion12))
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        client.send(Self.request)
        client.close()
        let bytes = client.takeOutput()
        // The last bytes and close_notify come in one delivery.
        server.receive(bytes)
        #expect(server.plaintext == Self.request)
        #expect(server.outcome == .ended)
        let isSent = server.send(Self.answer)
        #expect(isSent)
        server.close()
        exchange(&client, &server)
        #expect(client.plaintext == Self.answer)
        #expect(client.outcome == .ended)
        // Nothing may follow close_notify.
        let isSentAfterwards = server.send([1])
        #expect(!isSentAfterwards)
    }

    @Test("Nothing can be written before the handshake is done, and close says nothing")
    func early() throws {
        var server = TLSPeer(server: try TestContexts.server())
        let isSent = server.send([1])
        #expect(!isSent)
        server.close()
        #expect(server.output.isEmpty)
    }

    @Test("A handshake that stops half way takes no more steps than it did")
    func halfHandshake() throws {
        var client = TLSPeer(client: try TestContexts.client())
        var server = TLSPeer(server: try TestContexts.server())
        client.receive()
        let hello = client.takeOutput()
        server.receive(Array(hello.dropLast(1)))
        #expect(server.stepCount == 0)
        #expect(server.output.isEmpty)
        server.receive([hello.last!])
        #expect(server.stepCount == 1)
        #expect(!server.output.isEmpty)
        let isEstablished = server.engine.isEstablished
        #expect(!isEstablished)
    }

    @Test("A renegotiation is refused, and ends the connection")
    func renegotiation() throws {
        var client = TLSPeer(client: try Self.clientContext(isVersion12: true))
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        let isRequested = client.requestRenegotiation()
        #expect(isRequested)
        server.receive(client.takeOutput())
        #expect(server.outcome == .failed)
        #expect(server.failure.kind == .renegotiation)
        // The client is told: a warning with description no_renegotiation.
        #expect(!server.output.isEmpty)
    }

    @Test("Key updates are answered; a flood of them ends the connection")
    func keyUpdates() throws {
        var client = TLSPeer(client: try TestContexts.client())
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        for round in 0..<100 {
            let isRequested = client.engine.requestKeyUpdate()
            #expect(isRequested)
            client.send([UInt8(round)])
            server.receive(client.takeOutput())
            server.send([UInt8(round)])
            client.receive(server.takeOutput())
        }
        #expect(server.plaintext == (0..<100).map { UInt8($0) })
        #expect(client.plaintext == server.plaintext)

        let bytes = client.keyUpdateFlood(count: 40)
        for update in bytes where server.outcome != .failed { server.receive(update) }
        #expect(server.failure.kind == .keyUpdates)
    }

    @Test("What is not TLS is refused at its first byte")
    func notTLS() throws {
        for text in ["CONNECT\n\n\0", "GET / HTTP/1.1\r\n\r\n", "\n"] {
            var server = TLSPeer(server: try TestContexts.server())
            server.receive(Array(text.utf8))
            #expect(server.outcome == .failed)
            #expect(server.failure.kind == .notTLS)
            #expect(server.failure.description.contains("does not speak TLS"))
        }
    }

    @Test("Damaged bytes end the connection with an alert and say why")
    func damage() throws {
        var client = TLSPeer(client: try TestContexts.client())
        var server = TLSPeer(server: try TestContexts.server())
        handshake(&client, &server)
        client.send(Self.request)
        var bytes = client.takeOutput()
        bytes[bytes.count - 1] ^= 1
        server.receive(bytes)
        #expect(server.outcome == .failed)
        #expect(server.failure.kind == .library)
        #expect(server.plaintext.isEmpty)
        client.receive(server.takeOutput())
        // bad_record_mac: RFC 8446, section 6.2.
        #expect(client.failure.description.contains("alert 20"))
        // Later calls are refused too.
        server.receive([23, 3, 3])
        #expect(server.failure.kind == .notOpen)
    }
}

extension TLSPeer {
    /// Delivers what waits to the server, in two deliveries if the position in the whole stream lies in it.
    mutating func splitSend(to server: inout TLSPeer, at position: Int, _ offset: inout Int) {
        let bytes = takeOutput()
        let split = min(max(position - offset, 0), bytes.count)
        server.receive(Array(bytes[..<split]))
        server.receive(Array(bytes[split...]))
        offset += bytes.count
    }

    mutating func requestRenegotiation() -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 16) { room in
            var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
            let isRequested = engine.requestRenegotiation(output: &ciphertext, wire: wire)
            output += room[..<ciphertext.count]
            return isRequested
        }
    }

    /// Key updates without data.
    mutating func keyUpdateFlood(count: Int) -> [[UInt8]] {
        (0..<count).map { _ in
            withUnsafeTemporaryAllocation(byteCount: 256, alignment: 16) { room in
                var ciphertext = TLSOutput(base: room.baseAddress!, capacity: room.count)
                let isSent = engine.sendKeyUpdate(output: &ciphertext, wire: wire)
                #expect(isSent)
                return Array(room[..<ciphertext.count])
            }
        }
    }
}
