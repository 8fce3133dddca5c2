import Slabs
import Testing

@testable import Broker

/// The way between workers: what is written on one side is read on the other.
@Suite("Messages between workers")
struct PeerLinkTests {
    @Test("The fields of each kind fit, and lie where they are read from")
    func sizes() {
        func check<Fields: PeerMessage>(_ type: Fields.Type) -> PeerMessageKind {
            #expect(MemoryLayout<Fields>.size <= PeerMessageHead.fieldsByteCount, "\(type)")
            #expect(MemoryLayout<Fields>.alignment <= 8, "\(type)")
            return Fields.kind
        }
        let kinds = [
            check(InterestRequest.self), check(InterestAnswer.self), check(InterestWithdrawal.self),
            check(TopicPublication.self), check(QueuePublication.self), check(PublicationRefusal.self),
            check(QueueProperties.self), check(ConsumerRequest.self), check(ConsumerAnswer.self),
            check(ConsumerRemoval.self), check(ConsumerPause.self), check(DurableRequest.self),
            check(DurableRemoval.self), check(QueueDelivery.self),
            check(EntrySettlement.self), check(Barrier.self), check(BarrierAnswer.self), check(RoomRequest.self),
            check(RoomWait.self), check(RoomAnswer.self), check(RoomCancellation.self), check(RoomReturn.self),
            check(TransactionPart.self), check(TransactionStep.self), check(Sequencing.self),
            check(RetainedChange.self), check(ReaderRequest.self), check(ReaderAnswer.self),
            check(ReaderRemoval.self), check(ReaderCredit.self), check(LogDelivery.self),
            check(RelayBarrier.self), check(RelayAnswer.self), check(DeadLetterRequest.self),
            check(DeadLetterAnswer.self),
        ]
        // One type for each kind, and a kind for each type.
        #expect(kinds.map(\.rawValue) == Array(0..<35))
        #expect(PeerMessageKind(rawValue: 35) == nil)
        #expect(MemoryLayout<PeerMessageHead>.size <= PeerMessageHead.byteCount)
        #expect(PeerMessageHead.stride(0) == 40 && PeerMessageHead.stride(1) == 48 && PeerMessageHead.stride(8) == 48)
    }

    @Test("Messages arrive in order, with their fields and payloads, over any number of batches")
    func order() {
        withLinks { one, other in
            for number in 0..<2_000 as Range<UInt32> {
                let request = RoomRequest(
                    session: Handle(Slot(index: number, generation: 1)),
                    pending: Handle(Slot(index: 2, generation: number)),
                    byteCount: number, address: ~number, keptFrame: UInt64(number) << 33)
                with("/queue/\(number)") { one.write(request, to: 1, name: $0) }
                one.write(Barrier(pending: Handle(Slot(index: number, generation: 3))), to: 1)
            }
            var wakeCount = 0
            one.post { peer in
                #expect(peer == 1)
                wakeCount += 1
            }
            #expect(wakeCount <= 1)
            #expect(one.sentCount == 4_000)
            var number: UInt32 = 0
            var isBarrier = false
            let count = other.readAll { message, sender in
                #expect(sender == 0)
                if isBarrier {
                    #expect(message.fields(Barrier.self).pending.slot == Slot(index: number, generation: 3))
                    #expect(message.payload.isEmpty)
                    number += 1
                } else {
                    let request = message.fields(RoomRequest.self)
                    #expect(request.session.index.rawValue == number && request.pending.generation == number)
                    #expect(request.byteCount == number && request.address == ~number)
                    #expect(request.keptFrame == UInt64(number) << 33 && request.mayWait == (number == 0))
                    #expect(text(message.payload) == "/queue/\(number)")
                }
                isBarrier.toggle()
            }
            #expect(count == 4_000)
            #expect(other.receivedCount == 4_000)
        }
    }

    @Test("A message that is larger than a batch arrives whole", arguments: [0, 1, 16 * 1024, 300_000])
    func largeMessage(byteCount: Int) {
        withLinks { one, other in
            let body = [UInt8](repeating: 7, count: byteCount)
            for receipt in ["", "r-1"] {
                with("/queue/a") { name in
                    with("a:b\n") { headers in
                        with(receipt) { receipt in
                            body.withUnsafeBytes { bytes in
                                let message = Message(
                                    headers: headers.baseAddress!, headersByteCount: headers.count,
                                    body: bytes.baseAddress ?? headers.baseAddress!, bodyByteCount: bytes.count,
                                    isPlain: true, carriesDestination: true, identity: 5, expiresAt: 6)
                                let fields = QueuePublication(
                                    sender: QueueHolder(
                                        session: Handle(Slot(index: 9, generation: 8)), address: 6, shard: 5),
                                    byteCount: 7, room: Handle(Slot(index: 3, generation: 2)), isReserved: true,
                                    isDeadLetter: false)
                                one.write(fields, to: 1, MessagePayload(name: name, receipt: receipt, message))
                            }
                        }
                    }
                }
            }
            one.post { _ in }
            var receipts: [String] = []
            other.readAll { message, _ in
                let fields = message.fields(QueuePublication.self)
                #expect(fields.sender.session.slot == Slot(index: 9, generation: 8) && fields.isReserved)
                #expect(fields.room.slot == Slot(index: 3, generation: 2))
                #expect(fields.byteCount == 7 && fields.sender.address == 6 && fields.sender.shard == 5)
                let payload = MessagePayload(message.payload)
                #expect(text(payload.name) == "/queue/a")
                receipts.append(text(payload.receipt))
                let inner = payload.message
                #expect(inner.isPlain && inner.carriesDestination && inner.identity == 5 && inner.expiresAt == 6)
                #expect(inner.headersByteCount == 4 && inner.bodyByteCount == byteCount)
                let bytes = UnsafeRawBufferPointer(start: inner.body, count: inner.bodyByteCount)
                #expect(bytes.allSatisfy { $0 == 7 })
            }
            #expect(receipts == ["", "r-1"])
        }
    }

    @Test("What was written and not posted ends with the link")
    func unposted() {
        withLinks { one, other in
            one.write(Barrier(pending: .none), to: 1)
            #expect(other.readAll { _, _ in } == 0)
        }
    }

    // MARK: Two workers

    private func withLinks(_ body: (inout PeerLink, inout PeerLink) -> Void) {
        let fabric = Fabric(shardCount: 2, mailboxByteCountMax: 1 << 20)
        var one = PeerLink(index: 0, fabric: fabric)
        var other = PeerLink(index: 1, fabric: fabric)
        body(&one, &other)
    }

    private func with(_ text: String, _ body: (UnsafeRawBufferPointer) -> Void) {
        Array(text.utf8).withUnsafeBytes { body($0) }
    }

    private func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
}

extension PeerLink {
    /// Reads as a shard does; returns how many there were.
    @discardableResult
    fileprivate mutating func readAll(_ body: (ReceivedPeerMessage, Int) -> Void) -> Int {
        var count = 0
        var next = takeAll()
        while let batch = next {
            next = batch.pointee.next
            var offset = 0
            while offset < Int(batch.pointee.byteCount) {
                let message = ReceivedPeerMessage(UnsafeRawPointer(PeerBatches.bytes(of: batch)) + offset)
                countReceived()
                body(message, Int(batch.pointee.sender))
                offset += message.byteCount
                count += 1
            }
            PeerBatches.free(batch)
        }
        return count
    }
}
