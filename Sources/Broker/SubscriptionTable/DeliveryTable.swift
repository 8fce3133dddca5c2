import Glibc
import STOMP
import Slabs

/// Chains of the deliveries that wait for an ACK that names a message-id, by the hash of what such an ACK names: those of
/// STOMP 1.0 and 1.1, and of clients of 1.2 that do so.
///
/// The number of chains is fixed, so that no turn has to move all of a table that has grown. With a million deliveries a
/// chain has sixteen.
struct DeliveryTable: ~Copyable {
    private static var chainCount: Int { 1 << 16 }
    private let chains: UnsafeMutablePointer<DeliveryChain>
    private let hash: KeyedHash

    init(_ hash: KeyedHash) {
        // Memory that nobody has touched, so that it takes none where all clients speak 1.2.
        guard let zeros = calloc(Self.chainCount, MemoryLayout<DeliveryChain>.stride) else {
            fatalError("out of memory")
        }
        chains = zeros.bindMemory(to: DeliveryChain.self, capacity: Self.chainCount)
        self.hash = hash
    }

    deinit { free(chains) }

    /// Where the chain is kept. In 1.0 and 1.2 an ACK may leave out the subscription, so the
    /// chain is that of the session; in 1.1 it is that of the subscription, of which many may have the same message.
    func chain(_ identity: UInt64, session: Index<Session>, subscription: Index<Subscription>, _ version: Version)
        -> UnsafeMutablePointer<DeliveryChain>
    {
        let owner = version == .v1_1 ? subscription.rawValue : session.rawValue
        return chains + Int(truncatingIfNeeded: hash(identity, UInt64(owner))) & (Self.chainCount - 1)
    }
}
