import Glibc
import Synchronization
import Testing

@testable import Slabs

/// The wake-up of the owner of a mailbox, in place of the eventfd of a driver.
private final class WakeUp: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(semaphore, 0, 0) }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func signal() { sem_post(semaphore) }

    /// Returns false if no wake-up came for 30 seconds: it is lost.
    func wait() -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += 30
        while sem_timedwait(semaphore, &deadline) != 0 {
            if errno != EINTR { return false }
        }
        return true
    }
}

/// The state that producers and owner share in the test with threads.
private final class Producers: Sendable {
    let mailbox = Mailbox(byteCountMax: 1 << 20)
    let wakeUp = WakeUp()
    let wakeUpCount = Atomic<Int>(0)
    let nextSender = Atomic<UInt32>(0)
    let batchesPerSender: UInt64

    init(batchesPerSender: UInt64) { self.batchesPerSender = batchesPerSender }

    func produce() {
        let sender = nextSender.add(1, ordering: .relaxed).oldValue
        for number in 0..<batchesPerSender {
            let batch = PeerBatches.allocate(capacity: 8)
            batch.pointee.sender = sender
            batch.pointee.byteCount = 8
            PeerBatches.bytes(of: batch).storeBytes(of: number, as: UInt64.self)
            if mailbox.post(batch) {
                wakeUpCount.add(1, ordering: .relaxed)
                wakeUp.signal()
            }
            // Gives the owner opportunities to sleep, so that the handshake is tested.
            if number % 16 == 0 { sched_yield() }
        }
    }
}

@Suite struct MailboxTests {
    @Test func `batches come in the order they were posted`() {
        let mailbox = Mailbox(byteCountMax: 1000)
        for number in 0..<5 {
            let batch = PeerBatches.allocate(capacity: 100)
            #expect(UInt(bitPattern: PeerBatches.bytes(of: batch)) % 16 == 0)
            batch.pointee.byteCount = UInt32(number)
            let mustWake = mailbox.post(batch)
            #expect(!mustWake, "an owner that never slept needs no wake-up")
        }
        #expect(mailbox.pendingByteCount == 5 * PeerBatches.headerByteCount + 10)
        var order: [UInt32] = []
        var rest = mailbox.takeAll()
        while let batch = rest {
            order.append(batch.pointee.byteCount)
            rest = batch.pointee.next
            PeerBatches.free(batch)
        }
        #expect(order == [0, 1, 2, 3, 4])
        #expect(mailbox.pendingByteCount == 0)
        #expect(mailbox.takeAll() == nil)
    }

    @Test func `one post of each sleep is told to wake the owner`() {
        let mailbox = Mailbox(byteCountMax: 1000)
        #expect(mailbox.prepareToSleep())
        #expect(mailbox.post(PeerBatches.allocate(capacity: 0)))
        #expect(!mailbox.post(PeerBatches.allocate(capacity: 0)))
        mailbox.didWake()
        #expect(!mailbox.prepareToSleep(), "a batch waits")
        #expect(!mailbox.post(PeerBatches.allocate(capacity: 0)), "the owner did not sleep")
        // The mailbox frees batches that nobody took.
    }

    @Test func `an owner that woke by itself is not woken`() {
        let mailbox = Mailbox(byteCountMax: 1000)
        #expect(mailbox.prepareToSleep())
        mailbox.didWake()
        #expect(!mailbox.post(PeerBatches.allocate(capacity: 0)))
    }

    @Test func `a mailbox is overfull above its limit and takes batches all the same`() throws {
        let mailbox = Mailbox(byteCountMax: 100)
        for byteCount in [20, 16] as [UInt32] {
            #expect(!mailbox.isOverfull)
            let batch = PeerBatches.allocate(capacity: 64)
            batch.pointee.byteCount = byteCount
            _ = mailbox.post(batch)
        }
        #expect(!mailbox.isOverfull, "100 bytes are no more than 100")
        _ = mailbox.post(PeerBatches.allocate(capacity: 0))
        #expect(mailbox.isOverfull)
        var rest = mailbox.takeAll()
        while let batch = rest {
            rest = batch.pointee.next
            PeerBatches.free(batch)
        }
        #expect(!mailbox.isOverfull)
    }

    @Test func `four threads post without loss, disorder or a lost wake-up`() throws {
        let senderCount = 4
        let batchesPerSender: UInt64 = 25_000
        let producers = Producers(batchesPerSender: batchesPerSender)
        var threads: [pthread_t] = []
        for _ in 0..<senderCount {
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { context in
                    Unmanaged<Producers>.fromOpaque(context!).takeRetainedValue().produce()
                    return nil
                }, Unmanaged.passRetained(producers).toOpaque())
            try #require(result == 0)
            threads.append(thread)
        }

        var nextNumbers = [UInt64](repeating: 0, count: senderCount)
        var sleepCount = 0
        var attemptCount = 0
        var disorderCount = 0
        var isWakeUpLost = false
        while nextNumbers.reduce(0, +) < batchesPerSender * UInt64(senderCount) && !isWakeUpLost {
            var rest = producers.mailbox.takeAll()
            while let batch = rest {
                let sender = Int(batch.pointee.sender)
                let number = PeerBatches.bytes(of: batch).load(as: UInt64.self)
                if number != nextNumbers[sender] { disorderCount += 1 }
                nextNumbers[sender] += 1
                rest = batch.pointee.next
                PeerBatches.free(batch)
            }
            if nextNumbers.reduce(0, +) == batchesPerSender * UInt64(senderCount) { break }
            attemptCount += 1
            if producers.mailbox.prepareToSleep() {
                sleepCount += 1
                isWakeUpLost = !producers.wakeUp.wait()
                producers.mailbox.didWake()
            }
        }
        for thread in threads { pthread_join(thread, nil) }
        #expect(!isWakeUpLost)
        #expect(disorderCount == 0)
        #expect(sleepCount > 0, "the handshake was used")
        #expect(producers.wakeUpCount.load(ordering: .relaxed) <= attemptCount)
        #expect(producers.mailbox.pendingByteCount == 0)
    }
}
