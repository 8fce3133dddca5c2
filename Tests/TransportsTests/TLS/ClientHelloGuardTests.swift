import Testing

@testable import Transports

@Suite("TLS: the guard before OpenSSL")
struct ClientHelloGuardTests {
    private static func hello(byteCount: Int, recordByteCount: Int) -> [UInt8] {
        let length = [UInt8(byteCount >> 16), UInt8(byteCount >> 8 & 255), UInt8(byteCount & 255)]
        var message = [1] + length + [UInt8](repeating: 7, count: min(byteCount, 40_000))
        var bytes: [UInt8] = []
        while !message.isEmpty {
            let part = message.prefix(recordByteCount)
            bytes += [22, 3, 1, UInt8(part.count >> 8), UInt8(part.count & 255)] + part
            message.removeFirst(part.count)
        }
        return bytes
    }

    private static func verdict(_ bytes: [UInt8], chunk: Int) -> ClientHelloGuard.Verdict {
        var hello = ClientHelloGuard()
        var rest = bytes[...]
        while !rest.isEmpty {
            let verdict = Array(rest.prefix(chunk)).withUnsafeBytes { hello.inspect($0) }
            if verdict != .fine { return verdict }
            rest = rest.dropFirst(chunk)
        }
        return .fine
    }

    @Test("A hello of the greatest length passes, one byte more does not, however both are cut")
    func lengths() {
        let byteCountMax = ClientHelloGuard.byteCountMax
        for recordByteCount in [1, 2, 3, 5, 100, 16_384] {
            for chunk in [1, 4, 1000, .max] {
                let fine = Self.hello(byteCount: byteCountMax, recordByteCount: recordByteCount)
                #expect(Self.verdict(fine, chunk: chunk) == .fine)
                let long = Self.hello(byteCount: byteCountMax + 1, recordByteCount: recordByteCount)
                #expect(Self.verdict(long, chunk: chunk) == .tooLong)
            }
        }
    }

    @Test("A second hello is judged too, also after other records and messages")
    func second() {
        let first = Self.hello(byteCount: 300, recordByteCount: 150)
        // ChangeCipherSpec, application data (early data), an empty record, and an empty message.
        let between: [UInt8] = [20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 2, 9, 9, 22, 3, 3, 0, 0, 22, 3, 3, 0, 4, 0, 0, 0, 0]
        for chunk in 1...40 {
            #expect(Self.verdict(first + between + first, chunk: chunk) == .fine)
            let long = Self.hello(byteCount: 100_000, recordByteCount: 100)
            #expect(Self.verdict(first + between + long, chunk: chunk) == .tooLong)
        }
    }

    @Test("A lie about the length is found before the bytes are there")
    func lie() {
        let bytes: [UInt8] = [22, 3, 1, 0, 200, 1, 1, 0xFF, 0xFF]
        #expect(Self.verdict(bytes, chunk: .max) == .tooLong)
        #expect(Self.verdict(Array(bytes.dropLast()), chunk: .max) == .fine)
    }

    @Test("Any first byte but that of a handshake is not TLS")
    func firstByte() {
        for byte in UInt8.min...UInt8.max where byte != 22 { #expect(Self.verdict([byte], chunk: 1) == .notTLS) }
        #expect(Self.verdict([], chunk: 1) == .fine)
    }
}
