import STOMP

extension MicroCase {
    static let encoding = [
        MicroCase(name: "encode-message", summary: "MESSAGE from a group's prefix, an identity, headers and 64 bytes") {
            Encoding(.message)
        },
        MicroCase(name: "encode-escaped-plain", summary: "a value of 20 bytes that needs no escape") {
            Encoding(.plainValue)
        },
        MicroCase(name: "encode-escaped", summary: "a value of 20 bytes with two escapes") { Encoding(.escapedValue) },
        MicroCase(name: "encode-decimal", summary: "numbers of 1 to 10 digits") { Encoding(.decimal) },
    ]
}

/// The writer. It always writes into the same buffer.
private final class Encoding: Workload {
    enum Kind { case message, plainValue, escapedValue, decimal }

    private let kind: Kind
    private let room = UnsafeMutableRawPointer.allocate(byteCount: 1024, alignment: 64)
    private let prefix = Array("MESSAGE\nsubscription:0\nmessage-id:".utf8)
    private let identity = Array("018bcfe568001234".utf8)
    private let headers = Array(
        "\ndestination:/topic/weather.rome\ncontent-type:text/plain\ncontent-length:64\n\n".utf8)
    private let body = [UInt8](repeating: 120, count: 64)
    private let plain = Array("an ordinary header v".utf8)
    private let escaped = Array("one:two\\three header".utf8)

    init(_ kind: Kind) { self.kind = kind }

    deinit { room.deallocate() }

    func run(_ count: Int) {
        var sum = 0
        switch kind {
        case .message:
            for _ in 0..<count {
                var writer = FrameWriter(at: room)
                prefix.withUnsafeBytes { writer.write($0) }
                identity.withUnsafeBytes { writer.write($0) }
                headers.withUnsafeBytes { writer.write($0) }
                body.withUnsafeBytes { writer.write($0) }
                writer.write(UInt8(0))
                writer.write(UInt8(10))
                sum &+= writer.cursor - room
            }
        case .plainValue: sum = writeEscaped(plain, count)
        case .escapedValue: sum = writeEscaped(escaped, count)
        case .decimal:
            var number: UInt64 = 7
            for _ in 0..<count {
                var writer = FrameWriter(at: room)
                writer.writeDecimal(number)
                number = number > 1_000_000_000 ? 7 : number &* 10
                sum &+= writer.cursor - room
            }
        }
        keep(sum)
    }

    private func writeEscaped(_ value: [UInt8], _ count: Int) -> Int {
        var sum = 0
        value.withUnsafeBytes { value in
            for _ in 0..<count {
                var writer = FrameWriter(at: room)
                writer.writeEscaped(value.baseAddress!, value.count, version: .v1_2)
                sum &+= writer.cursor - room
            }
        }
        return sum
    }
}
