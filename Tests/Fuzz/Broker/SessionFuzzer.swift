import Broker
import FakeKernel
import Glibc
import IO
import STOMP

/// Plays a script of clients and faults on the production core, and checks that nothing is left when all have gone.
///
///     | shards, overflow, limits | zero-copy, mailbox, prefetch | deeds ...
///     0                          1                              2
///
/// A deed is an octet (bits 0 to 3: which; 4 and 5: whose; 6 and 7: how) and what it takes. Clients write whole frames
/// with what the script puts into them, and octets as they stand in the script.
final class SessionFuzzer {
    private static let deedCountMax = 256
    private static let messageLifeMilliseconds = 5_000

    private var script: SessionScript
    private let kernel: FakeKernel
    /// Those whose turn it may be, by number.
    private var clients = [SessionClient?](repeating: nil, count: 4)
    /// All whose connections are not closed.
    private var connected: [SessionClient] = []
    private var isDraining = false

    static func check(_ octets: UnsafeRawBufferPointer) -> String? { SessionFuzzer(octets).play() }

    private init(_ octets: UnsafeRawBufferPointer) {
        script = SessionScript(octets)
        let first = script.next()
        let second = script.next()
        var options = BrokerOptions()
        Self.set(&options.limits, first, second)
        options.zeroCopyByteCountMin = [0, 1, 64, 512][Int(second & 3)]
        var policy = DestinationPolicy(pattern: "/queue/#")
        policy.messageMillisecondsMax = Self.messageLifeMilliseconds
        policy.overflow = [.reject, .dropOldest, .block, .reject][Int(first >> 2 & 3)]
        policy.deliveryCountMax = second & 64 != 0 ? 2 : 10
        policy.deadLetterDestination = second & 128 != 0 ? "" : "/queue/DLQ"
        if first & 64 != 0 {
            policy.queueMessageCountMax = 2
            policy.queueByteCountMax = 1000
        }
        options.destinationPolicies = [policy]
        kernel = FakeKernel(shardCount: Int(first & 3) % 3 + 1, options: options, connectionCountMax: 8)
        kernel.didTurn = { [unowned self] shard in check(shard) }
    }

    /// After a turn: clients read, and the shard has to be in order.
    private func check(_ shard: Int) {
        for client in connected { if let text = client.read() { kernel.fail(text) } }
        connected.removeAll(where: \.socket.isClosed)
        _ = kernel.shard(shard).pointee.takeNotices()
        if let text = kernel.shard(shard).pointee.auditQueues() { kernel.fail(text) }
        if let text = kernel.shard(shard).pointee.auditDestinations() { kernel.fail(text) }
    }

    /// Tables so small that they are quick to make, and limits that a short script can reach.
    private static func set(_ limits: inout Limits, _ first: UInt8, _ second: UInt8) {
        limits.queuedMessageCountMax = 512
        limits.subscriptionCountMax = 128
        limits.destinationCountMax = 24
        limits.subscriptionsPerConnectionMax = 8
        limits.transactionsPerConnectionMax = 3
        limits.framesPerTransactionMax = 8
        limits.transactionByteCountMax = 4000
        limits.transactionMillisecondsMax = 8_000
        limits.messageMemoryByteCountMax = first & 16 != 0 ? 16 << 10 : 8 << 20
        limits.outputByteCountMax = first & 32 != 0 ? 1500 : 64 << 10
        limits.outputStallMillisecondsMax = 2_000
        limits.frameMillisecondsMax = 4_000
        limits.connectionCountMax = first & 128 != 0 ? 2 : 8
        limits.headerByteCountMax = 512
        limits.headersByteCountMax = 1024
        limits.headerCountMax = 16
        limits.bodyByteCountMax = 4096
        limits.preConnectByteCountMax = 600
        limits.mailboxByteCountMax = second & 4 != 0 ? 1 : 1 << 20
        limits.prefetchCountMax = second & 8 != 0 ? 1 : 100
        limits.prefetchByteCountMax = second & 16 != 0 ? 100 : 1 << 20
        limits.connectionsPerSecondMax = second & 32 != 0 ? 3 : 0
        limits.drainMillisecondsMax = 1_000
        limits.lingerMillisecondsMax = 500
        limits.heartBeatSendMilliseconds = 100
        limits.heartBeatReceiveMilliseconds = 100
    }

    private func play() -> String? {
        for _ in 0..<Self.deedCountMax {
            if script.isOver || kernel.fault != nil { break }
            perform(script.next())
        }
        if kernel.fault == nil { depart() }
        return kernel.fault
    }

    // MARK: Deeds

    private func perform(_ octet: UInt8) {
        let who = Int(octet >> 4 & 3)
        let how = Int(octet >> 6)
        switch octet & 15 {
        case 0: kernel.run(turnCountMax: 8)
        case 1: kernel.turn(who % kernel.shardCount)
        case 2: client(who).socket.writeOn(script.take(Int(script.next())))
        case 3:
            let client = client(who)
            client.socket.writeOn(frame(client))
        case 4: leave(client(who).socket, how)
        case 5: client(who).socket.room = how == 3 ? .max : Int(script.next()) << (how * 3)
        case 6: client(who).socket.sendFailure = [EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH][how]
        case 7: client(who).socket.receiveByteCountMax = Int(script.next())
        case 8:
            kernel.advance(
                milliseconds: Int(script.next()) * [1, 10, 100, 1000][how], deadlineCountMax: 64, turnCountMax: 64)
        case 9: client(who).socket.holdsZeroCopy = how & 1 != 0
        case 10:
            client(who).socket.closesLate = how & 1 != 0
            client(who).socket.pausesLate = how & 2 != 0
        case 11:
            if let kind = Completion.Kind(rawValue: script.next() % 10) { repeatOld(kind, on: who % kernel.shardCount) }
        case 12: if how == 3 { drain() }
        case 13: failAccepting(on: who % kernel.shardCount, errorNumber: [EMFILE, ENFILE, ENOBUFS, ENOMEM][how])
        case 14: kernel.wallMilliseconds &+= UInt64(script.next()) << (how * 8)
        default: settle(client(who), how)
        }
    }

    /// The client of that number; a new one where there is none, or none any more.
    private func client(_ number: Int) -> SessionClient {
        if let client = clients[number], !client.socket.isClosed { return client }
        let shard = number % kernel.shardCount
        // Where nobody listens, it writes to nobody.
        let client = SessionClient(
            kernel.isListening[shard] ? kernel.accept(on: shard) : FakeSocket(descriptor: -1, shard: shard))
        clients[number] = client
        connected.append(client)
        return client
    }

    private func leave(_ socket: FakeSocket, _ how: Int) {
        if how < 2 { socket.endSending() } else { socket.fail(errno: how == 2 ? ECONNRESET : ETIMEDOUT) }
    }

    /// A completion of a connection that is closed already.
    private func repeatOld(_ kind: Completion.Kind, on shard: Int) {
        guard let slot = kernel.lastClosed[shard], ![.accepted, .acceptFailed, .woken, .received].contains(kind) else {
            return
        }
        let value: Int32 = kind == .receiveFailed || kind == .sendIncomplete ? -ECONNRESET : 1
        kernel.post(Completion(kind, connection: slot, value: value), to: shard)
    }

    private func failAccepting(on shard: Int, errorNumber: Int32) {
        if kernel.isAccepting[shard], kernel.isListening[shard] { kernel.failAccepting(on: shard, errno: errorNumber) }
    }

    private func drain() {
        isDraining = true
        kernel.beginDrain()
    }

    /// ACK or NACK of something that was delivered, or of something that was not.
    private func settle(_ client: SessionClient, _ how: Int) {
        let which = Int(script.next())
        var delivery = (id: "none", subscription: "0")
        if !client.deliveries.isEmpty { delivery = client.deliveries[which % client.deliveries.count] }
        var text = how < 2 ? "ACK\n" : "NACK\n"
        switch client.version {
        case .v1_2: text += "id:\(delivery.id)\n"
        case .v1_1: text += "message-id:\(delivery.id)\nsubscription:\(delivery.subscription)\n"
        case .v1_0: text += "message-id:\(delivery.id)\n"
        }
        if how == 1 { text += "transaction:t\(which >> 6)\n" }
        if how == 3 { text += "requeue:false\n" }
        client.socket.writeOn(Array((text + "\n\0").utf8))
    }

    // MARK: Frames

    private static let destinations = [
        "/queue/a", "/queue/b", "/topic/a", "/topic/a.b", "/topic/#", "/topic/a.*", "/temp-queue/t", "/temp-topic/t",
        "/queue/DLQ", "bare", "/amq/queue/a", "/exchange/amq.topic/a.b", "/topic/x/y", "/queue/c", "/topic/*.b",
    ]

    /// Octets: which frame, the destination and the id, and what else it takes.
    private func frame(_ client: SessionClient) -> [UInt8] {
        let which = script.next()
        let choice = Int(script.next())
        let id = choice >> 4 & 3
        let destination =
            choice & 15 == 15 ? client.replyDestination : Self.destinations[choice & 15]
        var text: String
        var body: [UInt8] = []
        switch which & 15 {
        case 0: text = "CONNECT\naccept-version:1.2\n"
        case 1: text = "CONNECT\naccept-version:1.1\n"
        case 2: text = "STOMP\n"
        case 3: text = "CONNECT\naccept-version:1.0,1.1,1.2\nheart-beat:\(choice),\(script.next())\n"
        case 4: text = "SUBSCRIBE\nid:\(id)\ndestination:\(destination)\n"
        case 5: text = "SUBSCRIBE\nid:\(id)\ndestination:\(destination)\nack:client\n"
        case 6: text = "SUBSCRIBE\nid:\(id)\ndestination:\(destination)\nack:client-individual\nprefetch-count:1\n"
        case 7: text = "UNSUBSCRIBE\nid:\(id)\n"
        case 8:
            text = "SEND\ndestination:\(destination)\n"
            body = [UInt8](repeating: 0x61, count: Int(script.next()) << id)
        case 9: text = "SEND\ndestination:\(destination)\ntransaction:t\(id)\n"
        case 10: text = "SEND\ndestination:\(destination)\nreply-to:/temp-queue/r\(id)\n"
        case 11: text = "SEND\ndestination:\(destination)\nttl:\(script.next())\nx-max-length:\(id)\n"
        case 12: text = "BEGIN\ntransaction:t\(id)\n"
        case 13: text = "COMMIT\ntransaction:t\(id)\n"
        case 14: text = "ABORT\ntransaction:t\(id)\n"
        default: text = "DISCONNECT\n"
        }
        if which & 16 != 0 { text += "receipt:r\(choice)\n" }
        if which & 32 != 0 {
            // A header of the script's own.
            let name = script.take(Int(script.next() & 31))
            text += String(decoding: name, as: UTF8.self) + "\n"
        }
        if !body.isEmpty { text += "content-length:\(body.count)\n" }
        var octets = Array(text.utf8) + [UInt8(ascii: "\n")] + body + [0]
        // Cut short, so that what comes next is taken for a part of it.
        if which & 128 != 0 { octets.removeLast(min(octets.count, Int(script.next()))) }
        return octets
    }

    // MARK: The end

    /// Faults stop, everyone reads and leaves; what is left then is a leak.
    private func depart() {
        for socket in kernel.sockets {
            socket.endSending()
            socket.room = .max
            socket.sendFailure = 0
            socket.receiveByteCountMax = 0
            socket.holdsZeroCopy = false
            socket.closesLate = false
        }
        rest()
        // Who is not read is not known to have gone, until its machine answers a probe with a reset.
        let unread = kernel.sockets.filter { $0.stage == .adopted && $0.isReceivePaused }
        for socket in unread { socket.fail(errno: ECONNRESET) }
        if !unread.isEmpty { rest() }
        guard kernel.fault == nil else { return }
        if let socket = kernel.sockets.first, !isDraining {
            return kernel.fail("connection \(socket.descriptor) is \(socket.stage) long after its client has gone")
        }
        for index in 0..<kernel.shardCount { checkNothingIsLeft(of: index) }
    }

    /// Longer than any limit of time, and than any message lives: twice, since a dead letter lives anew.
    private func rest() {
        let patience = 4 * Self.messageLifeMilliseconds + 20_000
        if !kernel.advance(milliseconds: patience, deadlineCountMax: 4_000, turnCountMax: 64) {
            kernel.fail("a shard comes to no rest")
        }
    }

    private func checkNothingIsLeft(of index: Int) {
        let shard = kernel.shard(index)
        if isDraining {
            if !shard.pointee.isDrained { kernel.fail("shard \(index) drains for ever") }
            return
        }
        let audit = shard.pointee.audit()
        if !audit.isEmpty { kernel.fail("shard \(index) leaks: \(audit)") }
        if kernel.fabric.mailbox(index).pendingByteCount > 0 { kernel.fail("shard \(index) has unread messages") }
    }
}

/// Octets that are taken one by one, with zeros behind them.
struct SessionScript {
    private let octets: UnsafeRawBufferPointer
    private var position = 0

    init(_ octets: UnsafeRawBufferPointer) { self.octets = octets }

    var isOver: Bool { position >= octets.count }

    mutating func next() -> UInt8 {
        guard position < octets.count else { return 0 }
        position += 1
        return octets[position - 1]
    }

    /// The next octets, fewer where the script ends.
    mutating func take(_ count: Int) -> Slice<UnsafeRawBufferPointer> {
        let end = min(position + count, octets.count)
        defer { position = end }
        return octets[position..<end]
    }
}
