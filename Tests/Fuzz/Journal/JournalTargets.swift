public import FuzzFrames

extension FuzzTarget {
    /// What is on disk: fuzzed by a program of its own.
    public static let journal: [FuzzTarget] = [
        FuzzTarget(name: "journal", corpus: "journal", dictionary: "journal.dict", byteCountMax: 1024) {
            { JournalFuzzer.check($0) }
        },
        FuzzTarget(name: "segment", corpus: "segment", dictionary: "journal.dict", byteCountMax: 16384) {
            { SegmentFuzzer.check($0) }
        },
    ]
}
