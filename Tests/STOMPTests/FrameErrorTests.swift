import STOMP
import Testing

@Suite struct FrameErrorTests {
    @Test(arguments: FrameError.Code.allCases.filter { $0 != .none })
    func everyErrorHasAShortMessageAndAnExplanation(code: FrameError.Code) {
        let error = FrameError(code: code)
        #expect((1...40).contains(error.message.string.count))
        #expect(!error.message.string.contains { $0 == ":" || $0 == "\n" || $0 == "\\" }, "it is written unescaped")
        #expect(error.explanation.string.hasSuffix("."))
    }

    @Test func messagesThatClientsMatchOnAreWordedAsTheyExpect() {
        #expect(FrameError(code: .unknownCommand).message.string == "Bad command")
        #expect(FrameError(code: .commandBeforeConnect).message.string == "Illegal command")
        #expect(FrameError(code: .commandBeforeConnect).explanation.string == "You must log in using CONNECT first.")
    }
}
