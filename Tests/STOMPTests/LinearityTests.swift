import Testing

@testable import STOMP

@Suite struct LinearityTests {
    /// Feeds a frame octet by octet and returns, for each call that left it incomplete, how many octets the next call
    /// will look at again.
    private func rescans(_ text: String) -> [Int] {
        let bytes = Array(text.utf8)
        var frame = Frame(headerCountMax: 64)
        var state = ParserState()
        var error = FrameError()
        var rescans: [Int] = []
        bytes.withUnsafeBytes { buffer in
            for count in 1...bytes.count {
                let result = parseFrame(
                    buffer.baseAddress!, count, version: .v1_2, expectsConnect: false, limits: FrameLimits(),
                    state: &state, frame: &frame, error: &error)
                if result == .incomplete && state.phase != .countedBody {
                    rescans.append(count - Int(state.phase == .start ? state.frameOffset : state.scanOffset))
                }
            }
        }
        return rescans
    }

    @Test func aHeaderIsScannedFromWhereTheLastCallEnded() {
        let value = String(repeating: #"x\c"#, count: 1_000)
        // One octet: a backslash or a carriage return waits for the one behind it. Five: the command.
        #expect(rescans("SEND\na:\(value)\r\nb:\(value)\r\n\r\n").dropFirst(5).max() == 1)
    }

    @Test func aBodyIsSearchedFromWhereTheLastCallEnded() {
        #expect(rescans("SEND\n\n" + String(repeating: "x", count: 5_000)).dropFirst(5).max() == 0)
    }

    @Test func lineEndsBeforeACommandAreNotSkippedAgain() {
        #expect(rescans(String(repeating: "\n", count: 5_000) + "UNSUBSCRIBE").max() == 11)
    }
}
