internal import COctets

/// Whether octets are UTF-8.
enum TextCheck {
    /// Whether all of `octets` are whole characters.
    static func isText(_ octets: UnsafeRawBufferPointer) -> Bool {
        guard let base = octets.baseAddress, octets.count > 0 else { return true }
        var state: UInt16 = 0
        return octets_are_utf8(base, octets.count, &state) && state == 0
    }

    /// Checks a piece of a text. `state` is 0 before the first piece and between two characters. False: not UTF-8.
    @inline(__always)
    static func check(_ octets: UnsafeRawPointer, _ count: Int, _ state: inout UInt16) -> Bool {
        octets_are_utf8(octets, count, &state)
    }
}
