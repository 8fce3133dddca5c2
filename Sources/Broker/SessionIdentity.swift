import Slabs

/// What a session is called where it must not be guessed: `SHARD-SLOT-GENERATION-KEYED`, the last part 16 hexadecimal
/// digits that only the broker can compute, and that differ from one purpose to another.
struct SessionIdentity: Sendable {
    enum Purpose: UInt64 {
        /// Makes the session's temporary names unique: whoever knows the name of a destination may send to it.
        case temporaryNames
        /// CONNECTED's `session`.
        case sessionHeader
    }

    let key: KeyedHash
    let worker: Int

    func text(of session: Handle<Session>, for purpose: Purpose) -> String {
        let slot = UInt64(session.generation) << 32 | UInt64(session.index.rawValue)
        let digits = String(key(slot, purpose.rawValue << 32 | UInt64(worker)), radix: 16)
        let zeros = String(repeating: "0", count: 16 - digits.utf8.count)
        return "\(worker)-\(session.index.rawValue)-\(session.generation)-\(zeros)\(digits)"
    }
}
