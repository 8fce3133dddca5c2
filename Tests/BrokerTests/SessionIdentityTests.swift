import Slabs
import Testing

@testable import Broker

@Suite("Session identities")
struct SessionIdentityTests {
    private static func handle(_ index: UInt32, _ generation: UInt32) -> Handle<Session> {
        Handle(Slot(index: index, generation: generation))
    }

    @Test("A session's texts name it, and end in 16 digits that depend on all of it, the purpose and the key")
    func texts() {
        let identity = SessionIdentity(key: KeyedHash(low: 1, high: 2), worker: 3)
        var texts: Set<String> = []
        var hasZero = false
        for index in 1...100 as ClosedRange<UInt32> {
            for purpose in [SessionIdentity.Purpose.temporaryNames, .sessionHeader] {
                let text = identity.text(of: Self.handle(index, 7), for: purpose)
                let parts = text.split(separator: "-")
                #expect(parts.count == 4 && parts[0] == "3" && parts[1] == "\(index)" && parts[2] == "7")
                #expect(parts[3].count == 16 && parts[3].allSatisfy { $0.isHexDigit && !$0.isUppercase })
                if parts[3].hasPrefix("0") { hasZero = true }
                #expect(texts.insert(String(parts[3])).inserted)
            }
        }
        #expect(hasZero)
        let keyed = SessionIdentity(key: KeyedHash(low: 1, high: 3), worker: 3)
        let other = SessionIdentity(key: KeyedHash(low: 1, high: 2), worker: 4)
        for text in [
            keyed.text(of: Self.handle(1, 7), for: .temporaryNames),
            other.text(of: Self.handle(1, 7), for: .temporaryNames),
            identity.text(of: Self.handle(1, 8), for: .temporaryNames),
        ] {
            #expect(texts.insert(String(text.suffix(16))).inserted)
        }
    }
}
