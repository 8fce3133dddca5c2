import Testing

@testable import Load

struct FrameScannerTests {
    private static let bodyByteCount = 32

    /// The bytes of a body, as text would not hold them.
    private static func body(_ sequence: UInt64) -> [UInt8] {
        let body = Body(byteCount: bodyByteCount)
        return [UInt8](unsafeUninitializedCapacity: bodyByteCount) { buffer, count in
            body.write(to: buffer.baseAddress!, publisher: 3, sequence: sequence, stamp: 9)
            count = bodyByteCount
        }
    }

    private static func message(_ head: String, _ sequence: UInt64) -> [UInt8] {
        Array("MESSAGE\n\(head)\n\n".utf8) + body(sequence) + [0]
    }

    /// Kinds and bodies of all frames of a stream that is handed over in two parts.
    private func scan(_ stream: [UInt8], cutAt cut: Int, _ dialect: Plan.Dialect = .stomp) -> [(
        FrameScanner.Kind, [UInt8]
    )] {
        var scanner = FrameScanner(dialect: dialect, bodyByteCount: Self.bodyByteCount)
        var frames: [(FrameScanner.Kind, [UInt8])] = []
        var offset = 0
        for end in [cut, stream.count] {
            // A buffer of its own: nothing behind the part may be looked at.
            let part = Array(stream[offset..<end])
            part.withUnsafeBytes { part in
                guard let base = part.baseAddress else { return }
                var next = base
                while next < base + part.count {
                    if next.load(as: UInt8.self) == 10 {
                        next += 1
                        continue
                    }
                    guard let frame = scanner.scan(next, base + part.count) else { break }
                    frames.append(
                        (frame.kind, Array(UnsafeRawBufferPointer(start: frame.body, count: frame.bodyByteCount))))
                    next = frame.next
                }
                offset += next - base
            }
        }
        return frames
    }

    @Test func `a stream that is cut at any byte has the same frames`() {
        var stream = Array("CONNECTED\nversion:1.2\n\n\0\nRECEIPT\nreceipt-id:s\n\n\0".utf8)
        stream += Self.message("subscription:1\nmessage-id:9\ndestination:/topic/a\ncontent-length:32", 1)
        stream += Self.message("subscription:1\nmessage-id:9\ndestination:/topic/a\ncontent-length:32", 2)
        // A longer head, as when the message-id gains a digit; a line end behind the frame.
        stream += Self.message("subscription:1\nmessage-id:10\ndestination:/topic/a\ncontent-length:32", 3) + [10]
        stream += Self.message("subscription:1\nmessage-id:11\ndestination:/topic/a", 4)
        stream += Array("ERROR\nmessage:no\n\nbecause\0".utf8)
        for cut in 0...stream.count {
            let frames = scan(stream, cutAt: cut)
            #expect(
                frames.map(\.0) == [.connected, .receipt, .message, .message, .message, .message, .error],
                "cut at \(cut)")
            #expect(frames.filter { $0.0 == .message }.map(\.1) == (1...4).map { Self.body($0) }, "cut at \(cut)")
        }
    }

    @Test func `a header's value is found`() {
        let bytes = Self.message("subscription:1\nack:77-5\nmessage-id:9", 1)
        bytes.withUnsafeBytes { bytes in
            var scanner = FrameScanner(dialect: .stomp, bodyByteCount: Self.bodyByteCount)
            let frame = scanner.scan(bytes.baseAddress!, bytes.baseAddress! + bytes.count)
            let value = frame.flatMap { FrameScanner.value(of: "ack", in: $0) }
            #expect(value.map(Array.init) == Array("77-5".utf8))
            #expect(frame.flatMap { FrameScanner.value(of: "none", in: $0) } == nil)
        }
    }

    @Test func `NATS messages are found by their byte count`() {
        var stream = Array("INFO {}\r\nPONG\r\n".utf8)
        for sequence in 1...3 as ClosedRange<UInt64> {
            stream += Array("MSG bench.0 1 \(Self.bodyByteCount)\r\n".utf8) + Self.body(sequence) + [13, 10]
        }
        stream += Array("PING\r\n".utf8)
        for cut in 0...stream.count {
            let frames = scan(stream, cutAt: cut, .nats)
            #expect(frames.map(\.0) == [.connected, .receipt, .message, .message, .message, .ping], "cut at \(cut)")
            #expect(frames.filter { $0.0 == .message }.map(\.1) == (1...3).map { Self.body($0) })
        }
    }

    @Test func `MQTT packets are found by their lengths, also those of more than one byte`() {
        // CONNACK, SUBACK, PINGRESP.
        let answers: [UInt8] = [0x20, 2, 0, 0] + [0x90, 3, 0, 1, 0] + [0xD0, 0]
        // With this topic the rest of a PUBLISH is longer than the 127 bytes that one byte can tell.
        let topic = String(repeating: "t", count: 120)
        var stream = answers
        for sequence in 1...3 as ClosedRange<UInt64> {
            stream += MQTTPacket.publishHead(to: topic, bodyByteCount: Self.bodyByteCount) + Self.body(sequence)
        }
        for cut in 0...stream.count {
            let frames = scan(stream, cutAt: cut, .mqtt)
            #expect(
                frames.map(\.0) == [.connected, .receipt, .receipt, .message, .message, .message], "cut at \(cut)")
            #expect(frames.filter { $0.0 == .message }.map(\.1) == (1...3).map { Self.body($0) })
        }
    }

    @Test func `beanstalkd's jobs are found by their byte count, and what delete names`() {
        var stream = Array("USING bench.0\r\nWATCHING 2\r\nWATCHING 1\r\nINSERTED 7\r\n".utf8)
        for sequence in 1...3 as ClosedRange<UInt64> {
            stream += Array("RESERVED \(sequence) \(Self.bodyByteCount)\r\n".utf8) + Self.body(sequence) + [13, 10]
            stream += Array("DELETED\r\n".utf8)
        }
        stream += Array("NOT_FOUND\r\n".utf8)
        for cut in 0...stream.count {
            let frames = scan(stream, cutAt: cut, .beanstalk)
            #expect(
                frames.map(\.0) == [
                    .connected, .other, .receipt, .receipt, .message, .other, .message, .other, .message, .other,
                    .error,
                ], "cut at \(cut)")
            #expect(frames.filter { $0.0 == .message }.map(\.1) == (1...3).map { Self.body($0) }, "cut at \(cut)")
        }
        Array("RESERVED 4711 0\r\n\r\n".utf8).withUnsafeBytes { bytes in
            let frame = BeanstalkLine.scan(bytes.baseAddress!, bytes.baseAddress! + bytes.count)
            let identifier = frame.flatMap(BeanstalkLine.identifier)
            #expect(identifier.map(Array.init) == Array("4711".utf8))
        }
    }

    @Test func `RESP messages are found by the byte counts of their parts`() {
        var stream = Array("+OK\r\n*3\r\n$9\r\nsubscribe\r\n$7\r\nbench.0\r\n:1\r\n:1000\r\n".utf8)
        for sequence in 1...3 as ClosedRange<UInt64> {
            stream += Array("*3\r\n$7\r\nmessage\r\n$7\r\nbench.0\r\n$\(Self.bodyByteCount)\r\n".utf8)
            stream += Self.body(sequence) + [13, 10]
        }
        stream += Array("+PONG\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n-ERR no\r\n".utf8)
        for cut in 0...stream.count {
            let frames = scan(stream, cutAt: cut, .resp)
            #expect(
                frames.map(\.0) == [
                    .connected, .receipt, .other, .message, .message, .message, .receipt, .receipt, .error,
                ], "cut at \(cut)")
            #expect(frames.filter { $0.0 == .message }.map(\.1) == (1...3).map { Self.body($0) }, "cut at \(cut)")
        }
    }

    @Test(arguments: ["*4\r\n", "*x\r\n", "*1\r\n+OK\r\n", "$3\r\nabc\r\n", "-ERR unknown command\r\n"])
    func `what RESP has and nobody asked for is an error`(_ value: String) {
        #expect(scan(Array(value.utf8), cutAt: value.utf8.count, .resp).first?.0 == .error)
    }

    @Test func `what beanstalkd and Valkey are sent is as their protocols have it`() {
        #expect(BeanstalkLine.putHead(bodyByteCount: 64) == "put 0 0 3600 64\r\n")
        #expect(BeanstalkLine.watch("t").hasPrefix("watch t\r\nignore default\r\nreserve\r\n"))
        #expect(RESPValue.subscribe(to: "bench.0") == "*2\r\n$9\r\nSUBSCRIBE\r\n$7\r\nbench.0\r\n")
        #expect(RESPValue.publishHead(to: "b", bodyByteCount: 64) == "*3\r\n$7\r\nPUBLISH\r\n$1\r\nb\r\n$64\r\n")
        // Counted in bytes.
        #expect(RESPValue.subscribe(to: "é").hasSuffix("$2\r\né\r\n"))
    }

    @Test(arguments: [[0x20, 2, 0, 5], [0x90, 3, 0, 1, 0x80], [0x30, 2, 0, 9]] as [[UInt8]])
    func `what an MQTT server refuses or garbles is an error`(_ packet: [UInt8]) {
        #expect(scan(packet, cutAt: packet.count, .mqtt).map(\.0) == [.error])
    }
}
