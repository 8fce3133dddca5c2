import Glibc
import Synchronization
import Testing

@testable import Slabs

/// A wake-up that the owner of a mailbox waits for, as an eventfd does in a driver.
private final class WakeUp: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(semaphore, 0, 0) }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func signal() { sem_post(semaphore) }

    /// false when no wake-up came for 30 seconds: it is lost.
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

/// What producers and owner share in the test with threads.
private final class Exchange: Sendable {
    let mailbox = Mailbox(byteCountMax: 1 << 20)
    let wakeUp = WakeUp()
    let wakeUpCount = Atomic<Int>(0)
    let nextSender = Atomic<UInt32>(0)
    let parcelsPerSender: UInt64

    init(parcelsPerSender: UInt64) { self.parcelsPerSender = parcelsPerSender }

    func produce() {
        let sender = nextSender.add(1, ordering: .relaxed).oldValue
        for number in 0..<parcelsPerSender {
            let parcel = Parcels.allocate(capacity: 8)
            parcel.pointee.sender = sender
            parcel.pointee.byteCount = 8
            Parcels.bytes(of: parcel).storeBytes(of: number, as: UInt64.self)
            if mailbox.post(parcel) {
                wakeUpCount.add(1, ordering: .relaxed)
                wakeUp.signal()
            }
            // Gives the owner occasions to fall asleep, so that the handshake is what is tested.
            if number % 16 == 0 { sched_yield() }
        }
    }
}

@Suite struct MailboxTests {
    @Test func `parcels come in the order they were posted`() {
        let mailbox = Mailbox(byteCountMax: 1000)
        for number in 0..<5 {
            let parcel = Parcels.allocate(capacity: 100)
            #expect(UInt(bitPattern: Parcels.bytes(of: parcel)) % 16 == 0)
            parcel.pointee.byteCount = UInt32(number)
            let mustWake = mailbox.post(parcel)
            #expect(!mustWake, "an owner that never slept needs no wake-up")
        }
        #expect(mailbox.pendingByteCount == 5 * Parcels.headerByteCount + 10)
        var order: [UInt32] = []
        var rest = mailbox.takeAll()
        while let parcel = rest {
            order.append(parcel.pointee.byteCount)
            rest = parcel.pointee.next
            Parcels.free(parcel)
        }
        #expect(order == [0, 1, 2, 3, 4])
        #expect(mailbox.pendingByteCount == 0)
        #expect(mailbox.takeAll() == nil)
    }

    @Test func `one post of each sleep is told to wake the owner`() {
        let mailbox = Mailbox(byteCountMax: 1000)
        #expect(mailbox.prepareToSleep())
        #expect(mailbox.post(Parcels.allocate(capacity: 0)))
        #expect(!mailbox.post(Parcels.allocate(capacity: 0)))
        mailbox.didWake()
        #expect(!mailbox.prepareToSleep(), "there are letters")
        #expect(!mailbox.post(Parcels.allocate(capacity: 0)), "the owner did not sleep")
        // The mailbox frees what nobody took.
    }

    @Test func `an owner that woke by itself is not woken`() {
        let mailbox = Mailbox(byteCountMax: 1000)
        #expect(mailbox.prepareToSleep())
        mailbox.didWake()
        #expect(!mailbox.post(Parcels.allocate(capacity: 0)))
    }

    @Test func `a mailbox is overfull above its limit and takes parcels all the same`() throws {
        let mailbox = Mailbox(byteCountMax: 100)
        for byteCount in [20, 16] as [UInt32] {
            #expect(!mailbox.isOverfull)
            let parcel = Parcels.allocate(capacity: 64)
            parcel.pointee.byteCount = byteCount
            _ = mailbox.post(parcel)
        }
        #expect(!mailbox.isOverfull, "100 bytes are no more than 100")
        _ = mailbox.post(Parcels.allocate(capacity: 0))
        #expect(mailbox.isOverfull)
        var rest = mailbox.takeAll()
        while let parcel = rest {
            rest = parcel.pointee.next
            Parcels.free(parcel)
        }
        #expect(!mailbox.isOverfull)
    }

    @Test func `four threads post without loss, disorder or a lost wake-up`() throws {
        let senderCount = 4
        let parcelsPerSender: UInt64 = 25_000
        let exchange = Exchange(parcelsPerSender: parcelsPerSender)
        var threads: [pthread_t] = []
        for _ in 0..<senderCount {
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { context in
                    Unmanaged<Exchange>.fromOpaque(context!).takeRetainedValue().produce()
                    return nil
                }, Unmanaged.passRetained(exchange).toOpaque())
            try #require(result == 0)
            threads.append(thread)
        }

        var nextNumbers = [UInt64](repeating: 0, count: senderCount)
        var sleepCount = 0
        var attemptCount = 0
        var disorderCount = 0
        var isWakeUpLost = false
        while nextNumbers.reduce(0, +) < parcelsPerSender * UInt64(senderCount) && !isWakeUpLost {
            var rest = exchange.mailbox.takeAll()
            while let parcel = rest {
                let sender = Int(parcel.pointee.sender)
                let number = Parcels.bytes(of: parcel).load(as: UInt64.self)
                if number != nextNumbers[sender] { disorderCount += 1 }
                nextNumbers[sender] += 1
                rest = parcel.pointee.next
                Parcels.free(parcel)
            }
            if nextNumbers.reduce(0, +) == parcelsPerSender * UInt64(senderCount) { break }
            attemptCount += 1
            if exchange.mailbox.prepareToSleep() {
                sleepCount += 1
                isWakeUpLost = !exchange.wakeUp.wait()
                exchange.mailbox.didWake()
            }
        }
        for thread in threads { pthread_join(thread, nil) }
        #expect(!isWakeUpLost)
        #expect(disorderCount == 0)
        #expect(sleepCount > 0, "the handshake was used")
        #expect(exchange.wakeUpCount.load(ordering: .relaxed) <= attemptCount)
        #expect(exchange.mailbox.pendingByteCount == 0)
    }
}
