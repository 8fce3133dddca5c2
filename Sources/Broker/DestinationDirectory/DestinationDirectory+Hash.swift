extension DestinationDirectory {
    /// Of a canonical name. The same in each worker and each life.
    @inline(__always)
    static func hash(of name: UnsafeRawBufferPointer) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return hash ^ hash >> 32
    }
}
