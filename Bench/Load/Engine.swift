import ClientWebSocket
import Drivers
import Glibc
import IO
import Slabs

/// The clients of a thread, and their loop: connect, publish, poll the driver, check the messages that arrived.
///
/// A client is named by its index, from 1, which is also the index of its driver slot.
struct Engine<D: Driver & ~Copyable>: ~Copyable {
    let plan: Plan
    let share: Share
    let requests: Requests
    let control: Control
    let thread: Int
    let addresses: Addresses
    let body: Body
    let usesWebSocket: Bool
    /// nil: the clients have no TLS.
    let tls: TLSClients?

    var driver: D
    var submissions = Batch<Submission>(capacity: 4096)
    var completions = Batch<Completion>(capacity: 8192)
    var outboxes = OutboxPool()
    var partials: PartialPool
    var scanner: FrameScanner

    /// Indices 1 ... clientCount.
    let clients: UnsafeMutablePointer<Client>
    let clientCount: Int
    let publishers: UnsafeMutablePointer<Publisher>
    /// For topics: the next sequence that a subscriber expects from each publisher of its destination.
    let expectations: UnsafeMutablePointer<UInt32>
    /// With confirmations: when the messages under way were made. `plan.window` places for each publisher, by the low
    /// bits of the sequence. 0: confirmed.
    let unconfirmed: UnsafeMutablePointer<UInt64>

    /// With WebSocket: for each client, where it is in the frames of the server.
    let readers: UnsafeMutablePointer<ServerFrameReader>
    /// With WebSocket: heads of answers to handshakes, and payloads of control frames, that are incomplete, by client.
    var pieces: [Int: [UInt8]] = [:]
    var masks = MaskKeys()

    var phase = Control.Phase.connect
    var now = monotonicNanoseconds()
    var report = ThreadReport()
    /// The number of connections that are open or being opened.
    var liveCount = 0
    var nextToConnect = 1
    var connectingCount = 0
    /// The publishers that may send, and the clients whose outboxes are sent in this turn.
    var mayPublish = Batch<UInt32>(capacity: 64)
    var toSend = Batch<UInt32>(capacity: 1024)
    var sending = Batch<UInt32>(capacity: 1024)
    var pace = Pace()
    var beat = Beat()
    var broadcastCount = 0
    /// With cumulative acknowledgements: the last `ack` of the bytes being received. It points into these bytes.
    var pendingAcknowledgement = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Deliveries with the same time stamp are recorded together.
    var latencyStamp: UInt64 = 0
    var latencyCount: UInt64 = 0
    /// Confirmations of messages with the same time stamp are recorded together.
    var confirmationStamp: UInt64 = 0
    var confirmationCount: UInt64 = 0

    let connectingCountMax: Int
    /// The longest wait. A new phase wakes the thread.
    static var napNanoseconds: UInt64 { 1_000_000_000 }
    static var framesHeadByteCountMax: Int { 4096 }

    init(_ setup: ThreadSetup, driver: consuming D) {
        plan = setup.plan
        share = setup.share
        requests = setup.requests
        control = setup.control
        thread = setup.thread
        addresses = setup.addresses
        usesWebSocket = setup.usesWebSocket
        // A requester publishes and subscribes. In other plans each client has one role.
        let separatePublishers = setup.plan.delivery == .reply ? 0 : setup.share.publishers.count
        clientCount = setup.share.subscribers.count + separatePublishers
        tls = setup.tls.map { TLSClients($0, count: setup.share.subscribers.count + separatePublishers) }
        connectingCountMax = setup.connectingCountMax
        body = Body(byteCount: setup.plan.bodyByteCount)
        partials = PartialPool(byteCount: setup.plan.bodyByteCount + Self.framesHeadByteCountMax)
        scanner = FrameScanner(dialect: setup.plan.dialect, bodyByteCount: setup.plan.bodyByteCount)
        report.driver = driver.level
        self.driver = driver
        clients = .allocate(capacity: clientCount + 1)
        clients.initialize(repeating: Client(), count: clientCount + 1)
        readers = .allocate(capacity: setup.usesWebSocket ? clientCount + 1 : 1)
        readers.initialize(repeating: ServerFrameReader(), count: setup.usesWebSocket ? clientCount + 1 : 1)
        publishers = .allocate(capacity: setup.share.publishers.count + 1)
        publishers.initialize(repeating: Publisher(), count: setup.share.publishers.count + 1)
        let expectationCount = setup.share.subscribers.count * setup.plan.publishersPerDestination + 1
        expectations = .allocate(capacity: expectationCount)
        expectations.initialize(repeating: 0, count: expectationCount)
        let unconfirmedCount = setup.plan.isConfirmed ? setup.share.publishers.count * setup.plan.window : 1
        unconfirmed = .allocate(capacity: max(unconfirmedCount, 1))
        unconfirmed.initialize(repeating: 0, count: max(unconfirmedCount, 1))
        castRoles()
        if setup.plan.isFilled { countFilled() }
    }

    deinit {
        clients.deallocate()
        readers.deallocate()
        publishers.deallocate()
        expectations.deallocate()
        unconfirmed.deallocate()
    }

    private mutating func castRoles() {
        var place = 1
        for subscriber in share.subscribers {
            let client = clients + place
            if plan.delivery == .reply {
                client.pointee.subscription = UInt32(subscriber) + 1
                if subscriber > 0 { cast(publisher: subscriber - 1, destination: 0, place) }
            } else {
                let (destination, rank) = subscriber.quotientAndRemainder(dividingBy: plan.subscribersPerDestination)
                client.pointee.subscription = UInt32(destination) + 1
                client.pointee.isStalled = rank >= plan.subscribersPerDestination - plan.stalledPerDestination
            }
            client.pointee.expectations = UInt32((place - 1) * plan.publishersPerDestination)
            place += 1
        }
        guard plan.delivery != .reply else { return }
        for publisher in share.publishers {
            cast(publisher: publisher, destination: publisher / plan.publishersPerDestination, place)
            place += 1
        }
    }

    private func cast(publisher: Int, destination: Int, _ place: Int) {
        publishers[publisher].client = UInt32(place)
        publishers[publisher].destination = UInt32(destination)
        clients[place].publisher = UInt32(publisher) + 1
    }

    /// Runs until the phase is `close` and every connection is closed.
    mutating func run() {
        while true {
            if control.phase != phase { enter(control.phase) }
            if phase == .close, liveCount == 0 { return }
            startConnections()
            publish()
            keepAlive()
            submitSends()
            driver.poll(submissions, deadline: deadline, completions: &completions)
            submissions.removeAll()
            now = monotonicNanoseconds()
            settleSends()
            for position in 0..<completions.count { handle(completions[position]) }
            completions.removeAll()
            recordLatency()
            recordConfirmations()
            control.publish(report.counts, phase, thread: thread)
        }
    }

    /// Must be called after `run`.
    mutating func finish() -> ThreadReport {
        checkConservation()
        return report
    }

    private var deadline: UInt64 {
        min(now + Self.napNanoseconds, pace.deadline, beat.deadline)
    }

    private mutating func enter(_ next: Control.Phase) {
        let previous = phase
        phase = next
        switch next {
        case .connect, .measure: break
        case .warmUp: startPublishing()
        case .unload: startConsuming()
        case .drain:
            pace.stop()
            for place in 1...max(clientCount, 1) where clients[place].isStalled && clients[place].phase == .ready {
                submissions.append(Submission(.resumeReceive, connection: slot(place)))
            }
        case .close:
            countLastSilences()
            closeEverything()
        }
        // A short measurement may have started and ended between two checks.
        if previous == .connect, next == .measure { startPublishing() }
    }

    func slot(_ place: Int) -> Slot { Slot(index: UInt32(place), generation: clients[place].generation) }

    // MARK: Events

    private mutating func handle(_ completion: Completion) {
        let place = Int(completion.connection.index)
        switch completion.kind {
        case .received:
            guard isCurrent(completion) else { return }
            let bytes = UnsafeRawBufferPointer(start: completion.pointer!, count: Int(completion.value))
            if let tls { return receivedCiphertext(place, bytes, tls) }
            receivedPlaintext(place, bytes)
        case .writable:
            guard isCurrent(completion) else { return }
            becameWritable(place)
        case .receiveEnded, .receiveFailed:
            guard isCurrent(completion) else { return }
            ended(place, errorNumber: -completion.value)
        case .closed:
            clients[place].phase = .idle
            tls?.end(place)
            liveCount -= 1
        case .sendIncomplete, .woken: break
        case .accepted, .acceptFailed, .sendReleased, .authenticated, .durable, .permitted, .identified:
            invariant(false, "a client's driver reported a server's event")
        case .fileOpened, .fileAppended, .fileRead, .fileAllocated, .fileSynced, .fileDeleted, .fileRenamed,
            .fileClosed:
            invariant(false, "a file's completion for a client that uses no files")
        }
    }

    /// Bytes that are not, or no longer, in TLS.
    mutating func receivedPlaintext(_ place: Int, _ bytes: UnsafeRawBufferPointer) {
        if usesWebSocket { return receivedFrames(place, bytes.baseAddress!, bytes.count) }
        received(place, bytes.baseAddress!, bytes.count)
    }

    private func isCurrent(_ completion: Completion) -> Bool {
        let client = clients[Int(completion.connection.index)]
        return client.generation == completion.connection.generation && client.phase != .closing
            && client.phase != .idle
    }

    // MARK: Sending

    /// Returns the outbox of the client with room for `byteCount` more bytes, and lists it for this turn.
    mutating func outbox(of place: Int, _ byteCount: Int) -> UnsafeMutablePointer<Outbox> {
        let outbox = listedOutbox(of: place)
        if usesWebSocket { openMessage(outbox, place, byteCount) } else { outbox.pointee.reserve(byteCount) }
        return outbox
    }

    /// The outbox of the client, as it is, which is sent in this turn.
    mutating func listedOutbox(of place: Int) -> UnsafeMutablePointer<Outbox> {
        if clients[place].outbox == 0 { clients[place].outbox = outboxes.take(for: UInt32(place)) }
        let index = clients[place].outbox
        let outbox = outboxes[index]
        if !outbox.pointee.isListed, !outbox.pointee.awaitsWritable {
            outbox.pointee.isListed = true
            toSend.append(index)
        }
        return outbox
    }

    mutating func say(_ text: Text, _ place: Int) {
        let outbox = outbox(of: place, text.byteCount)
        memcpy(outbox.pointee.bytes + outbox.pointee.end, text.base, text.byteCount)
        outbox.pointee.end += text.byteCount
    }

    /// Makes one send for each client with bytes in its outbox.
    private mutating func submitSends() {
        for position in 0..<toSend.count {
            let index = toSend[position]
            let outbox = outboxes[index]
            outbox.pointee.isListed = false
            let place = Int(outbox.pointee.client)
            guard clients[place].phase != .closing else {
                clients[place].outbox = 0
                outboxes.giveBack(index)
                continue
            }
            if usesWebSocket { seal(outbox) }
            if let tls { encrypt(outbox, place, tls) }
            submissions.append(
                Submission(
                    .send, connection: slot(place),
                    pointer: UnsafeRawPointer(outbox.pointee.bytes + outbox.pointee.start),
                    byteCount: outbox.pointee.end - outbox.pointee.start))
            sending.append(index)
        }
        toSend.removeAll()
    }

    /// Frees the outboxes that were sent completely. The others wait for room.
    private mutating func settleSends() {
        guard !sending.isEmpty else { return }
        for position in 0..<completions.count where completions[position].kind == .sendIncomplete {
            let index = clients[Int(completions[position].connection.index)].outbox
            outboxes[index].pointee.takenByteCount = Int(max(completions[position].value, 0))
        }
        for position in 0..<sending.count {
            let index = sending[position]
            let outbox = outboxes[index]
            let place = Int(outbox.pointee.client)
            if outbox.pointee.takenByteCount >= 0 {
                outbox.pointee.start += outbox.pointee.takenByteCount
                outbox.pointee.takenByteCount = -1
                outbox.pointee.awaitsWritable = true
                submissions.append(Submission(.awaitWritable, connection: slot(place)))
            } else {
                clients[place].outbox = 0
                outboxes.giveBack(index)
                let publisher = clients[place].publisher
                if publisher != 0 { allowPublishing(Int(publisher) - 1) }
            }
        }
        sending.removeAll()
    }

    private mutating func becameWritable(_ place: Int) {
        if clients[place].phase == .connecting { return connected(place) }
        let index = clients[place].outbox
        guard index != 0, outboxes[index].pointee.awaitsWritable else { return }
        outboxes[index].pointee.awaitsWritable = false
        outboxes[index].pointee.isListed = true
        toSend.append(index)
    }
}

func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
