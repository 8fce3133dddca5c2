import STOMP
import Testing

@Suite struct LimitTests {
    static let header = FrameLimits(headerByteCountMax: 10)
    static let headers = FrameLimits(headersByteCountMax: 12)

    @Test func theCommand() {
        let limits = FrameLimits(commandByteCountMax: 5)
        #expect(read("BEGIN\n\n\0", limits: limits).only != nil)
        #expect(read("COMMIT\n", limits: limits).failure == .commandTooLong)
    }

    @Test func theNumberOfHeaders() {
        let limits = FrameLimits(headerCountMax: 2)
        #expect(read("SEND\na:1\nb:2\n\n\0", limits: limits).only?.fields.count == 2)
        let outcome = read("SEND\na:1\nreceipt:r\nc:3\n", limits: limits)
        #expect(outcome.failure == .tooManyHeaders)
        #expect(outcome.receipt == "r")
        #expect(read("SEND\n\n\0", limits: FrameLimits(headerCountMax: 0)).only != nil)
        #expect(read("SEND\na:1\n", limits: FrameLimits(headerCountMax: 0)).failure == .tooManyHeaders)
    }

    @Test func oneHeader() {
        #expect(read("SEND\nabcd:56789\n\n\0", limits: Self.header).only != nil)
        #expect(read("SEND\nabcd:56789\r\n\n\0", limits: Self.header).only != nil)
        #expect(read("SEND\nabcd:567890\n\n\0", limits: Self.header).failure == .headerTooLong)
    }

    @Test func anEndlessHeaderFailsAtTheOctetTooMany() {
        #expect(read("SEND\nabcd:56789", limits: Self.header).isPartial)
        #expect(read("SEND\nabcd:567890", limits: Self.header).failure == .headerTooLong)
        #expect(read("SEND\nabcdefghij", limits: Self.header).isPartial)
        #expect(read("SEND\nabcdefghijk", limits: Self.header).failure == .headerTooLong)
        #expect(read("SEND\nabcd:56789\r", limits: Self.header).isPartial)
    }

    @Test func aFaultBeyondALimitIsTheLimits() {
        #expect(read("SEND\nabcd:56789\0", limits: Self.header).failure == .headerTooLong)
        #expect(read("SEND\nabcd:567\\x", limits: Self.header).failure == .undefinedEscape)
        #expect(read("SEND\nabcd:56789\\x", limits: Self.header).failure == .headerTooLong)
        #expect(read("SEND\nabcd:56789\rx", limits: Self.header).failure == .headerTooLong)
    }

    @Test func allHeaders() {
        #expect(read("SEND\na:345\nb:9ab\n\n\0", limits: Self.headers).only != nil)
        #expect(read("SEND\na:345\nb:9ab\n\r\n\0", limits: Self.headers).only != nil)
        #expect(read("SEND\na:345\nb:9abc\n\n\0", limits: Self.headers).failure == .headersTooLong)
        #expect(read("SEND\na:345\nb:9abc", limits: Self.headers).isPartial)
        #expect(read("SEND\na:345\nb:9abcd", limits: Self.headers).failure == .headersTooLong)
        #expect(read("SEND\na:345\nb:9ab\nc", limits: Self.headers).failure == .headersTooLong)
    }

    @Test func ofTwoLimitsTheFirstOneCrossedFails() {
        let limits = FrameLimits(headerByteCountMax: 10, headersByteCountMax: 14)
        #expect(read("SEND\na:3\nabcd:567890123\n", limits: limits).failure == .headersTooLong)
        #expect(read("SEND\nabcd:567890123\n", limits: limits).failure == .headerTooLong)
    }

    @Test func aBodyWithContentLengthFailsBeforeItArrives() {
        let limits = FrameLimits(bodyByteCountMax: 4)
        #expect(read("SEND\ncontent-length:4\n\nabcd\0", limits: limits).only?.text == "abcd")
        let outcome = read("SEND\nreceipt:r\ncontent-length:5\n\n", limits: limits)
        #expect(outcome.failure == .bodyTooLong)
        #expect(outcome.receipt == "r")
        #expect(read("SEND\ncontent-length:18446744073709551615\n\n", limits: limits).failure == .bodyTooLong)
    }

    @Test func anEndlessBodyFailsAtTheOctetTooMany() {
        let limits = FrameLimits(bodyByteCountMax: 4)
        #expect(read("SEND\n\nabcd\0", limits: limits).only?.text == "abcd")
        #expect(read("SEND\n\nabcd", limits: limits).isPartial)
        #expect(read("SEND\n\nabcde", limits: limits).failure == .bodyTooLong)
        #expect(read("ACK\n\nabcde", .v1_0, limits: limits).failure == .bodyTooLong)
    }

    @Test func lineEndsBeforeAFrameCountForNoLimit() {
        let text = String(repeating: "\n", count: 100) + "SEND\na:345\nb:9ab\n\nabcd\0"
        #expect(read(text, limits: FrameLimits(headersByteCountMax: 12, bodyByteCountMax: 4)).only?.text == "abcd")
    }
}
