/// Something that is fuzzed: arbitrary octets in, a disagreement out.
///
/// The same functions are called by the fuzzer (`Tests/Fuzz/Driver`, many million times) and by `swift test`, which gives
/// them the octets of `Tests/Fuzz/corpus`.
public struct FuzzTarget: Sendable {
    /// Says what is wrong with what the octets led to, or nil. A fault may also stop the process.
    public typealias Check = (_ octets: UnsafeRawBufferPointer) -> String?

    /// "frame-1.2", as the command line of the fuzzer names it.
    public let name: String
    /// The folder in `Tests/Fuzz/corpus`. The versions of the protocol share theirs.
    public let corpus: String
    /// The file in `Tests/Fuzz` that tells the fuzzer the words of the language.
    public let dictionary: String
    /// Inputs beyond it are of no use: they only make the fuzzer slow.
    public let byteCountMax: Int
    /// Allocates what the checks use again and again.
    public let makeCheck: @Sendable () -> Check

    public init(
        name: String, corpus: String, dictionary: String, byteCountMax: Int, makeCheck: @escaping @Sendable () -> Check
    ) {
        self.name = name
        self.corpus = corpus
        self.dictionary = dictionary
        self.byteCountMax = byteCountMax
        self.makeCheck = makeCheck
    }

    /// Those of the STOMP module. They are fuzzed by a program of their own, which holds nothing else: the fuzzer looks at
    /// the counters of all code after each input.
    public static let frames: [FuzzTarget] = [
        frame("frame-1.0", .v1_0), frame("frame-1.1", .v1_1), frame("frame-1.2", .v1_2),
        FuzzTarget(name: "header", corpus: "header", dictionary: "stomp.dict", byteCountMax: 128) {
            let fuzzer = HeaderFuzzer()
            return { fuzzer.check($0) }
        },
    ]
}
