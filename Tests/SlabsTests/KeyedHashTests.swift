import Slabs
import Testing

@Suite struct KeyedHashTests {
    @Test func `the hash is that of the reference implementation`() {
        // vectors.h of the reference implementation: key 00 ... 0f, message 00 ... 0f.
        let hash = KeyedHash(low: 0x0706_0504_0302_0100, high: 0x0F0E_0D0C_0B0A_0908)
        #expect(hash(0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908) == 0x3F2A_CC7F_57C2_9BDB)
    }

    @Test func `another key gives other numbers`() {
        #expect(KeyedHash(low: 1, high: 2)(3, 4) != KeyedHash(low: 1, high: 3)(3, 4))
        #expect(KeyedHash(low: 1, high: 2)(3, 4) != KeyedHash(low: 2, high: 2)(3, 4))
    }
}
