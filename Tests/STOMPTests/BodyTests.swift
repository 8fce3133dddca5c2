import STOMP
import Testing

@Suite struct BodyTests {
    @Test(arguments: Version.allCases)
    func aBodyEndsAtTheFirstNul(version: Version) {
        let frame = read("SEND\n\nhello\n\r\n\\x:y\0", version).only
        #expect(frame?.text == "hello\n\r\n\\x:y")
        #expect(frame?.hasContentLength == false)
    }

    @Test(arguments: Version.allCases)
    func aBodyWithContentLengthMayHoldNul(version: Version) {
        let frame = read("SEND\ncontent-length:5\n\n\0a\0b\0\0", version).only
        #expect(frame?.body == [0, 0x61, 0, 0x62, 0])
        #expect(frame?.hasContentLength == true)
        #expect(read("SEND\ncontent-length:0\n\n\0", version).only?.body == [])
    }

    @Test func contentLengthCountsOctets() {
        #expect(read("SEND\ncontent-length:6\n\n€€\0").only?.text == "€€")
    }

    @Test(arguments: Version.allCases)
    func theOctetBehindACountedBodyMustBeNul(version: Version) {
        let outcome = read("SEND\nreceipt:r\ncontent-length:2\n\nabc\0", version)
        #expect(outcome.failure == .bodyNotTerminated)
        #expect(outcome.failureOffset == 35)
        #expect(outcome.receipt == "r")
        #expect(read("SEND\ncontent-length:2\n\na\0\n", version).failure == .bodyNotTerminated)
    }

    @Test(arguments: [
        "", "-1", "+1", "a", "1a", "0x1", "1.0", "1e1", "\u{661}", #"5\c"#, "99999999999999999999999",
        "18446744073709551616",
        "1,1",
    ])
    func aMalformedContentLengthFails(value: String) {
        let outcome = read("SEND\ncontent-length:\(value)\n\nx\0")
        #expect(outcome.failure == .contentLengthMalformed)
        #expect(outcome.failureOffset == 20)
        #expect(
            read("SEND\ncontent-length: 1\n\nx\0").failure == .contentLengthMalformed,
            "blanks are no digits from 1.1 on")
    }

    @Test func theFirstContentLengthCounts() {
        #expect(read("SEND\ncontent-length:3\ncontent-length:x\n\na\0b\0").only?.body.count == 3)
    }

    @Test(arguments: Command.allCases.filter { !$0.carriesBody }, Version.allCases)
    func contentLengthIsIgnoredWhereThereIsNoBody(command: Command, version: Version) {
        for value in ["5", "x", "99999999999"] {
            let outcome = read(
                "\(command.text)\nversion:1.2\naccept-version:1.2\ncontent-length:\(value)\n\n\0", version,
                acceptsServerFrames: true)
            #expect(outcome.only?.hasContentLength == false)
            #expect(outcome.only?.body == [])
        }
    }

    @Test(arguments: Command.allCases.filter { !$0.carriesBody && !$0.precedesVersion })
    func aBodyWhereNoneIsAllowedFails(command: Command) {
        for version in [Version.v1_1, .v1_2] {
            let outcome = read("\(command.text)\nreceipt:r\n\nx", version, acceptsServerFrames: true)
            #expect(outcome.failure == .bodyNotAllowed)
            #expect(outcome.receipt == "r")
        }
        let tolerated = read("\(command.text)\ncontent-length:1\n\nbody\0", .v1_0, acceptsServerFrames: true)
        #expect(tolerated.only?.body == [])
    }

    @Test func aBodyOnConnectIsToleratedOnlyIn1_0() {
        #expect(read("CONNECT\n\nx\0", expectsConnect: true).only?.body == [])
        #expect(read("CONNECT\naccept-version:1.0,1.2\n\nx\0", expectsConnect: true).failure == .bodyNotAllowed)
    }

    @Test(arguments: Version.allCases)
    func messageAndErrorCarryBodies(version: Version) {
        let outcome = read(
            "MESSAGE\ncontent-length:3\n\na\0b\0\nERROR\nmessage:m\n\nwhy\0\n", version, acceptsServerFrames: true)
        #expect(outcome.frames.map(\.text) == ["a\0b", "why"])
        #expect(outcome.end == .clean)
    }

    @Test func theStateTellsHowManyBytesAreNeeded() {
        var frame = Frame(headerCountMax: 64)
        var state = ParserState()
        var error = FrameError()
        #expect(state.isInHeaders)
        func feed(_ text: String) -> ParseResult {
            Array(text.utf8).withUnsafeBytes {
                parseFrame(
                    $0.baseAddress!, $0.count, version: .v1_2, expectsConnect: false, limits: FrameLimits(),
                    state: &state, frame: &frame, error: &error)
            }
        }
        #expect(feed("\nSEND\nconte") == .incomplete)
        #expect(state.isInHeaders && state.neededByteCount == 0)
        #expect(feed("\nSEND\ncontent-length:100\n\nabc") == .incomplete)
        #expect(!state.isInHeaders && state.neededByteCount == 26 + 1 + 100)
        state = ParserState()
        #expect(feed("SEND\n\nabc") == .incomplete)
        #expect(!state.isInHeaders && state.neededByteCount == 0)
        #expect(feed("SEND\n\nabc\0") == .frame)
        #expect(state.isInHeaders && state.neededByteCount == 0)
    }

    @Test func aStateOfZerosIsTheBeginning() {
        #expect(MemoryLayout<ParserState>.size <= 32)
        #expect(MemoryLayout<HeaderField>.stride == 16)
        var state = ParserState()
        withUnsafeBytes(of: &state) { #expect($0.allSatisfy { $0 == 0 }) }
    }
}
