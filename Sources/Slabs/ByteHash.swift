/// A seeded hash of short byte strings. Each 64 x 64 -> 128 bit multiplication takes 16 bytes; the two halves of the
/// product are combined by exclusive or.
///
/// The secrets come from the seed, so an attacker who does not know the seed cannot choose strings that collide. It is
/// not a cryptographic hash: hash values must not be disclosed to clients.
@frozen @usableFromInline
struct ByteHash: Sendable {
    @usableFromInline let start: UInt64
    @usableFromInline let first: UInt64
    @usableFromInline let second: UInt64
    @usableFromInline let end: UInt64

    @usableFromInline
    init(seed: UInt64) {
        // Every seed, also 0, must give secrets with many bits set. They are odd, because a product with an even number
        // loses bits.
        var state = seed
        func nextSecret() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            let mixed = Self.fold(state ^ 0xD6E8_FEB8_6659_FD93, state.byteSwapped ^ 0xA076_1D64_78BD_642F)
            return (mixed ^ mixed >> 29) | 1
        }
        start = nextSecret()
        first = nextSecret()
        second = nextSecret()
        end = nextSecret()
    }

    @inlinable @inline(__always)
    static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }

    @inlinable @inline(__always)
    static func word(_ bytes: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    @inlinable @inline(__always)
    static func halfWord(_ bytes: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inlinable @inline(__always)
    func callAsFunction(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
        var state = start
        let low: UInt64
        let high: UInt64
        if byteCount >= 8 {
            var offset = 0
            while byteCount &- offset > 16 {
                state = Self.fold(
                    Self.word(bytes, offset) ^ first, Self.word(bytes, offset &+ 8) ^ second ^ state)
                offset &+= 16
            }
            // The last 16 bytes, which may overlap the bytes before. For a shorter string: two words of 8 bytes that
            // overlap.
            low = Self.word(bytes, max(0, byteCount &- 16))
            high = Self.word(bytes, byteCount &- 8)
        } else if byteCount >= 4 {
            low = Self.halfWord(bytes, 0)
            high = Self.halfWord(bytes, byteCount &- 4)
        } else if byteCount > 0 {
            // The first, middle and last byte. They cover strings of one, two and three bytes.
            low =
                UInt64(bytes.load(as: UInt8.self)) << 16
                | UInt64(bytes.load(fromByteOffset: byteCount &>> 1, as: UInt8.self)) << 8
            high = UInt64(bytes.load(fromByteOffset: byteCount &- 1, as: UInt8.self))
        } else {
            low = 0
            high = 0
        }
        state = Self.fold(low ^ first, high ^ second ^ state)
        return Self.fold(state ^ end, UInt64(truncatingIfNeeded: byteCount) ^ second)
    }
}
