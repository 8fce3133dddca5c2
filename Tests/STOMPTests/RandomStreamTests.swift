import STOMP
import Testing

@Suite struct RandomStreamTests {
    /// Eight seeds of thousands of streams each: whole, in random pieces, and some octet by octet.
    @Test(arguments: 1...8)
    func randomStreamsAreReadAsTheReferenceReadsThem(seed: Int) {
        var generator = StreamGenerator(random: SeededGenerator(seed: UInt64(seed)))
        var frameCount = 0
        var failures: Set<UInt8> = []
        for round in 0..<3_000 {
            let reading = generator.reading()
            let bytes = generator.stream(reading)
            let expected = ReferenceParser.transcript(bytes, reading)
            let text = String(decoding: bytes, as: UTF8.self).debugDescription
            let whole = transcript(bytes, reading)
            #expect(whole == expected, "seed \(seed), round \(round), version \(reading.version): \(text)")
            let cuts = round % 8 == 0 ? Array(1..<max(bytes.count, 2)) : generator.cuts(bytes.count)
            let pieces = transcript(bytes, reading, cuts: cuts)
            #expect(
                pieces == expected, "seed \(seed), round \(round), cuts \(cuts), version \(reading.version): \(text)")
            if whole != expected || pieces != expected { return }
            frameCount += expected.frames.count
            if case .failed(let code, _, _) = expected.end { failures.insert(code.rawValue) }
        }
        // The streams are worth something only if they reach every outcome.
        #expect(frameCount > 1_500)
        #expect(failures.count >= FrameError.Code.allCases.count - 2, "\(failures.sorted())")
    }
}
