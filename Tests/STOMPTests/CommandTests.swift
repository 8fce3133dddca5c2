import STOMP
import Testing

@Suite struct CommandTests {
    @Test(arguments: Command.allCases, Version.allCases)
    func everyCommandIsReadInEveryVersion(command: Command, version: Version) {
        let frame = read("\(command.text)\nversion:\(version.text)\n\n\0", version, acceptsServerFrames: true).only
        #expect(frame?.command == command)
        #expect(frame?.headers == ["version=\(version.text)"])
    }

    @Test(arguments: Command.allCases)
    func aServerTakesNoCommandOfServers(command: Command) {
        let outcome = read("\(command.text)\naccept-version:1.2\n\n\0")
        #expect((outcome.failure == .unknownCommand) == command.isFromServer)
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "POST /queue HTTP/1.1\r\n", "HEAD / HTTP/1.0\r\n", "PUT /",
        "OPTIONS *",
        "DELETE /", "CONNECT broker:61613 HTTP/1.1\r\n", "\u{16}\u{3}\u{1}", "EHLO", "SSH-2.0", "AMQP\0\0\u{9}\u{1}",
        "send\n", "Send\n", "SENDX\n", "SEND \n", " SEND\n", "SUBSCRIBER\n", "CONNECTED\n", "ACKN", "NACKS", "\t",
        "\rX",
    ])
    func whatIsNoCommandFailsAtOnce(text: String) {
        let outcome = read(text, expectsConnect: true)
        #expect(outcome.failure == .unknownCommand)
        #expect(outcome.failureOffset == 0)
    }

    @Test func anotherProtocolFailsAtTheFirstOctetThatNoCommandHas() {
        #expect(read("G").failure == .unknownCommand)
        #expect(read("SE").isPartial)
        #expect(read("SEC").failure == .unknownCommand)
        #expect(read("CON").isPartial)
        #expect(read("CONNECT").isPartial)
        #expect(read("CONNECT ").failure == .unknownCommand)
        #expect(read("CONNECTE").failure == .unknownCommand)
        #expect(read("CONNECTE", acceptsServerFrames: true).isPartial)
        #expect(read("M").failure == .unknownCommand)
        #expect(read("M", acceptsServerFrames: true).isPartial)
    }

    @Test(arguments: Command.allCases.filter { !$0.isFromServer })
    func onlyConnectAndStompOpenAConversation(command: Command) {
        let outcome = read("\(command.text)\n\n\0", expectsConnect: true)
        if command == .connect || command == .stomp {
            #expect(outcome.only?.command == command)
        } else {
            #expect(outcome.failure == .commandBeforeConnect)
        }
    }

    @Test func framesRightBehindConnectAreRead() {
        let outcome = read(
            "CONNECT\naccept-version:1.2\nhost:a\n\n\0SEND\ndestination:/queue/a\n\nx\0\nDISCONNECT\n\n\0",
            expectsConnect: true)
        #expect(outcome.frames.map(\.command) == [.connect, .send, .disconnect])
        #expect(outcome.end == .clean)
    }

    @Test(arguments: Version.allCases)
    func lineEndsAndStrayNulsBetweenFramesAreHeartBeats(version: Version) {
        #expect(read("\n\n\n", version) == Transcript())
        #expect(read("\r\n\n\r\n", version) == Transcript())
        #expect(read("\0\n\0", version) == Transcript())
        let outcome = read("\n\r\n\0BEGIN\ntransaction:t\n\n\0\n\n\r\n\0\nCOMMIT\ntransaction:t\n\n\0\r\n", version)
        #expect(outcome.frames.map(\.command) == [.begin, .commit])
        #expect(outcome.end == .clean)
        #expect(read("\n\r", version).isPartial)
    }

    @Test func theBytesConsumedIncludeWhatStandsBeforeTheFrame() {
        #expect(read("\n\r\n\0SEND\n\n\0").only?.endOffset == 11)
    }
}

@Suite struct LineEndTests {
    static let frame = "SEND\r\ndestination:/queue/a\r\nx:y\r\n\r\nbody\r\n\0"

    @Test func version1_2EndsLinesWithLineFeedOrBoth() {
        let frame = read(Self.frame).only
        #expect(frame?.headers == ["destination=/queue/a", "x=y"])
        #expect(frame?.text == "body\r\n")
        #expect(read("SEND\na:b\r\nc:d\n\r\nbody\0").only?.headers == ["a=b", "c=d"])
    }

    @Test func version1_2RefusesACarriageReturnElsewhere() {
        #expect(read("SEND\na:b\rc\n\n\0").failure == .carriageReturnInHeader)
        #expect(read("SEND\na\rb:c\n\n\0").failure == .carriageReturnInHeader)
        #expect(read("SEND\na:b\r\r\n\n\0").failure == .carriageReturnInHeader)
        #expect(read("SEND\r\r\n\n\0").failure == .unknownCommand)
        #expect(read("SEND\na:b\n\rX").failure == .carriageReturnInHeader)
    }

    @Test func version1_1EndsLinesWithLineFeedAlone() {
        #expect(read(Self.frame, .v1_1).failure == .lineEndNotInVersion)
        #expect(read("SEND\r", .v1_1).failure == .lineEndNotInVersion)
        #expect(read("SEND\na:b\n\r\n\0", .v1_1).failure == .lineEndNotInVersion)
        #expect(read("SEND\na:b\r\nc:d\re\n\n\0", .v1_1).only?.headers == ["a=b\r", "c=d\re"])
    }

    @Test func version1_0TakesBothBecauseItTrims() {
        let frame = read(Self.frame, .v1_0).only
        #expect(frame?.headers == ["destination=/queue/a", "x=y"])
        #expect(read("SEND\na:b\rc\r\r\n\n\0", .v1_0).only?.headers == ["a=b\rc"])
    }

    @Test(arguments: Version.allCases)
    func connectTakesBothWhateverTheVersion(version: Version) {
        let outcome = read("CONNECT\r\naccept-version:1.1\r\nhost:a\r\n\r\n\0", version, expectsConnect: true)
        #expect(outcome.only?.headers == ["accept-version=1.1", "host=a"])
    }
}
