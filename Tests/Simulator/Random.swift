/// The one source of chance of a run: xoshiro256**, seeded by SplitMix64 as its authors advise.
///
/// Source: D. Blackman, S. Vigna, "Scrambled Linear Pseudorandom Number Generators" (2021).
public struct Random: Sendable {
    private var state: (UInt64, UInt64, UInt64, UInt64)
    private let steering: [UInt8]
    private var steeredCount = 0

    /// - Parameter steering: the upper octets of the first numbers, one for each: enough to decide whatever is decided
    ///   with them, so that a fuzzer can.
    public init(seed: UInt64, steering: [UInt8] = []) {
        self.steering = steering
        var mix = seed
        func split() -> UInt64 {
            mix &+= 0x9E37_79B9_7F4A_7C15
            var z = mix
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
        state = (split(), split(), split(), split())
    }

    mutating func next() -> UInt64 {
        func rotate(_ x: UInt64, _ k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }
        var result = rotate(state.1 &* 5, 7) &* 9
        if steeredCount < steering.count {
            result = result & (.max >> 8) | UInt64(steering[steeredCount]) << 56
            steeredCount += 1
        }
        let t = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= t
        state.3 = rotate(state.3, 45)
        return result
    }

    /// 0 ..< `n`. The bias of at most n / 2^64 does not matter here.
    mutating func below(_ n: Int) -> Int { Int(next().multipliedFullWidth(by: UInt64(n)).high) }

    mutating func range(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + below(range.upperBound - range.lowerBound + 1)
    }

    /// True in `perThousand` of 1,000 cases. Draws nothing for 0, so that a fault that is off leaves no trace.
    mutating func chance(_ perThousand: Int) -> Bool { perThousand > 0 && below(1000) < perThousand }

    mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
}

/// A hash over everything that happened between core and kernel: the same seed and commit give the same.
struct Trace {
    private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ value: UInt64) {
        hash = (hash ^ value) &* 0x9E37_79B9_7F4A_7C15
        hash ^= hash >> 29
    }

    mutating func add(_ value: Int) { add(UInt64(bitPattern: Int64(value))) }

    mutating func add(_ text: String) {
        var text = text
        text.withUTF8 { add(UnsafeRawBufferPointer($0)) }
    }

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var position = 0
        while position + 8 <= bytes.count {
            add(bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
            position += 8
        }
        var rest: UInt64 = UInt64(bytes.count)
        while position < bytes.count {
            rest = rest << 8 | UInt64(bytes[position])
            position += 1
        }
        add(rest)
    }
}
