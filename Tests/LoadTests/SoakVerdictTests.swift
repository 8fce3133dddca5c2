import Testing

@testable import stampede_bench

struct SoakVerdictTests {
    /// Samples 10 s apart.
    private func samples(_ residentMebibytes: [Int], blockBytes: [Int]? = nil) -> [SoakSample] {
        residentMebibytes.enumerated().map { position, size in
            var sample = SoakSample()
            sample.seconds = Double(position) * 10
            sample.residentBytes = size << 20
            sample.blockBytes = blockBytes?[position] ?? 0
            sample.descriptors = 10
            return sample
        }
    }

    private func isPassed(_ samples: [SoakSample], lost: Int = 0) -> Bool {
        SoakVerdict(samples, lost: lost, slopeMax: 512).isPassed
    }

    private let swinging = [10, 30, 60, 41, 70, 45, 66, 40, 52, 71, 42, 60]

    @Test func `memory that comes and goes passes`() { #expect(isPassed(samples(swinging))) }

    @Test func `memory that never comes back fails, however it swings`() {
        #expect(!isPassed(samples(swinging.enumerated().map { $1 + $0 * 2 })))
    }

    @Test func `blocks that are left fail, names that are forgotten later do not`() {
        let base = Array(repeating: 1000, count: 12)
        var named = base
        for position in [3, 6, 11] { named[position] += 832 }
        #expect(isPassed(samples(swinging, blockBytes: named)))
        let leaked = base.enumerated().map { $1 + $0 * 64 }
        #expect(!isPassed(samples(swinging, blockBytes: leaked)))
    }

    @Test func `a loss, a descriptor, a connection or too few samples fail`() {
        #expect(!isPassed(samples(swinging), lost: 1))
        var one = samples(swinging)
        one[11].descriptors += 1
        #expect(!isPassed(one))
        one = samples(swinging)
        one[9].connections = 1
        #expect(!isPassed(one))
        #expect(!isPassed(samples([10, 10, 10])))
    }
}
