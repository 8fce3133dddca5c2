/// SipHash-2-4 of two words. Without the key, nobody can tell the result from a random number, even after seeing many
/// results. It makes identifiers that must not be guessed.
///
/// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; the message is `first` and `second` as 16
/// little-endian bytes.
public struct KeyedHash: Sendable, Equatable {
    private let low: UInt64
    private let high: UInt64

    /// - Parameters: the two halves of the key, random numbers of the system.
    public init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    public func callAsFunction(_ first: UInt64, _ second: UInt64) -> UInt64 {
        var state = State(
            v0: low ^ 0x736F_6D65_7073_6575, v1: high ^ 0x646F_7261_6E64_6F6D, v2: low ^ 0x6C79_6765_6E65_7261,
            v3: high ^ 0x7465_6462_7974_6573)
        state.absorb(first)
        state.absorb(second)
        // The last word holds the number of bytes modulo 256 in its top byte. No bytes of the message are left over.
        state.absorb(16 << 56)
        state.v2 ^= 0xFF
        for _ in 0..<4 { state.round() }
        return state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }

    private struct State {
        var v0: UInt64
        var v1: UInt64
        var v2: UInt64
        var v3: UInt64

        mutating func absorb(_ word: UInt64) {
            v3 ^= word
            round()
            round()
            v0 ^= word
        }

        mutating func round() {
            v0 &+= v1
            v2 &+= v3
            v1 = v0 ^ (v1 << 13 | v1 >> 51)
            v3 = v2 ^ (v3 << 16 | v3 >> 48)
            v0 = v0 << 32 | v0 >> 32
            v2 &+= v1
            v0 &+= v3
            v1 = v2 ^ (v1 << 17 | v1 >> 47)
            v3 = v0 ^ (v3 << 21 | v3 >> 43)
            v2 = v2 << 32 | v2 >> 32
        }
    }
}
