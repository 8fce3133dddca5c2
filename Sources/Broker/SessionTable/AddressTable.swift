import Slabs

/// Connections by address, for the limits per address (off by default; a cold path, so a dictionary does). Those whose
/// address is not known, 0, are no one's, and not counted.
struct AddressTable {
    private var counts: [UInt64: Int] = [:]
    private var addresses: [Index<Session>: UInt64] = [:]

    func admits(_ address: UInt64, max: Int) -> Bool { counts[address, default: 0] < max }

    mutating func enter(_ session: Index<Session>, _ address: UInt64) {
        guard address != 0 else { return }
        counts[address, default: 0] += 1
        addresses[session] = address
    }

    /// 0: not known.
    func address(_ session: Index<Session>) -> UInt64 { addresses[session] ?? 0 }

    mutating func leave(_ session: Index<Session>) {
        guard let address = addresses.removeValue(forKey: session), let count = counts[address] else { return }
        counts[address] = count > 1 ? count - 1 : nil
    }
}
