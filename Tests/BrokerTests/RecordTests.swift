import Testing

@testable import Broker

@Suite("Records")
struct RecordTests {
    @Test("Records have the size that memory is planned with")
    func recordSizes() {
        #expect(MemoryLayout<Session>.stride == 144)
        #expect(MemoryLayout<Segment>.stride == 24)
        #expect(MemoryLayout<Subscription>.stride == 60)
        #expect(MemoryLayout<SharedEncoding>.stride == 64)
        #expect(MemoryLayout<Destination>.stride == 128)
        #expect(MemoryLayout<Queue>.stride == 152)
        #expect(MemoryLayout<Entry>.stride == 64)
        #expect(MemoryLayout<Consumer>.stride == 56)
        #expect(MemoryLayout<Delivery>.stride == 56)
        #expect(MemoryLayout<Transaction>.stride == 44)
        #expect(MemoryLayout<PendingOperation>.stride == 60)
        #expect(MemoryLayout<RemoteSet>.stride == 40)
        #expect(MemoryLayout<StoredMessage>.size <= StoredMessage.byteCount)
        #expect(MemoryLayout<KeptFrame>.size <= KeptFrame.headByteCount)
    }
}
