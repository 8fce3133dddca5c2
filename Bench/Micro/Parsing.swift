import STOMP

extension MicroCase {
    private static let send = """
        destination:/topic/weather.rome
        content-type:text/plain
        content-length:64


        """
    private static let body = String(repeating: "x", count: 64)

    static let parsing = [
        parse("parse-send-1.0", "SEND, three headers, 64 bytes", .v1_0, "SEND\n\(send)\(body)\0\n"),
        parse("parse-send-1.1", "SEND, three headers, 64 bytes", .v1_1, "SEND\n\(send)\(body)\0\n"),
        parse("parse-send-1.2", "SEND, three headers, 64 bytes", .v1_2, "SEND\n\(send)\(body)\0\n"),
        parse(
            "parse-send-short", "SEND, destination alone, 64 bytes without a length", .v1_2,
            "SEND\ndestination:/topic/a\n\n\(body)\0"),
        parse(
            "parse-send-escaped", "SEND, two values with an escape", .v1_2,
            "SEND\ndestination:/topic/a\\cb\nnote:one\\ntwo\ncontent-length:64\n\n\(body)\0"),
        parse(
            "parse-send-30-headers", "SEND, 30 headers that are not known", .v1_2,
            "SEND\ndestination:/topic/a\n"
                + (1...29).map { "x-application-\($0):value of header \($0)\n" }.joined() + "\n\(body)\0"),
        parse(
            "parse-ack", "ACK, one header", .v1_2, "ACK\nid:000001234567890a\n\n\0\n"),
        parse(
            "parse-connect", "CONNECT, four headers", .v1_2, expectsConnect: true,
            "CONNECT\naccept-version:1.0,1.1,1.2\nhost:localhost\nlogin:guest\nheart-beat:10000,10000\n\n\0"),
    ]

    private static func parse(
        _ name: String, _ summary: String, _ version: Version, expectsConnect: Bool = false, _ text: String
    ) -> MicroCase {
        MicroCase(name: name, summary: summary) { Parsing(text, version, expectsConnect: expectsConnect) }
    }
}

/// The parser on one frame that is complete in its buffer.
private final class Parsing: Workload {
    private let bytes: [UInt8]
    private let version: Version
    private let expectsConnect: Bool
    private var frame: Frame

    init(_ text: String, _ version: Version, expectsConnect: Bool) {
        bytes = Array(text.utf8)
        self.version = version
        self.expectsConnect = expectsConnect
        frame = Frame(headerCountMax: FrameLimits().headerCountMax)
    }

    func run(_ count: Int) {
        Self.run(count, bytes, version, expectsConnect, &frame)
    }

    /// The frame is borrowed once, so that no check of exclusive access for each operation is measured.
    private static func run(
        _ count: Int, _ bytes: [UInt8], _ version: Version, _ expectsConnect: Bool, _ frame: inout Frame
    ) {
        let limits = FrameLimits()
        var state = ParserState()
        var error = FrameError(code: .unknownCommand, offset: 0)
        var sum = 0
        bytes.withUnsafeBytes { bytes in
            for _ in 0..<count {
                let result = parseFrame(
                    bytes.baseAddress!, bytes.count, version: version, expectsConnect: expectsConnect, limits: limits,
                    state: &state, frame: &frame, error: &error)
                precondition(result == .frame, "the frame of a benchmark is one")
                sum &+= frame.bodyByteCount
            }
        }
        keep(sum)
    }
}
