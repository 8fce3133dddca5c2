import Drivers
import Glibc
import IO
import Slabs

extension Engine where D: ~Copyable {
    mutating func startConnections() {
        guard phase == .connect else { return }
        while nextToConnect <= clientCount, connectingCount < connectingCountMax {
            let place = nextToConnect
            nextToConnect += 1
            connectingCount += 1
            liveCount += 1
            clients[place].generation = 1
            clients[place].phase = .connecting
            let address = addresses[share.subscribers.lowerBound + place]
            submissions.append(
                Submission(
                    .connect, connection: slot(place), pointer: UnsafeRawPointer(address),
                    byteCount: MemoryLayout<sockaddr_in>.size))
        }
    }

    mutating func connected(_ place: Int) {
        if let tls { return secure(place, tls) }
        opened(place)
    }

    /// The connection takes plaintext.
    mutating func opened(_ place: Int) {
        guard !usesWebSocket else { return upgrade(place) }
        greet(place)
    }

    mutating func greet(_ place: Int) {
        clients[place].phase = .greeting
        // A NATS server sends first.
        guard plan.dialect != .nats else { return }
        say(requests.connect, place)
        if plan.isPipelined, clients[place].subscription != 0, plan.backlog == 0 { subscribe(place) }
    }

    mutating func greeted(_ place: Int) {
        guard clients[place].phase == .greeting else { return }
        if plan.dialect == .nats { say(requests.connect, place) }
        if let confirmed = requests.confirmed, clients[place].publisher != 0 {
            say(confirmed.listen[Int(clients[place].publisher) - 1], place)
        }
        guard clients[place].subscription != 0, plan.backlog == 0 else { return becameReady(place) }
        subscribe(place)
    }

    private mutating func subscribe(_ place: Int) {
        clients[place].phase = .subscribing
        say(requests.subscribe[Int(clients[place].subscription) - 1], place)
    }

    mutating func becameReady(_ place: Int) {
        clients[place].phase = .ready
        connectingCount -= 1
        report.counts.ready += 1
        if clients[place].isStalled { submissions.append(Submission(.pauseReceive, connection: slot(place))) }
    }

    /// The backlog is complete: its consumers subscribe.
    mutating func startConsuming() {
        for place in 1..<(clientCount + 1) where clients[place].subscription != 0 && clients[place].phase == .ready {
            subscribe(place)
        }
    }

    /// The server has confirmed a subscription.
    mutating func subscribed(_ place: Int) {
        if plan.backlog == 0 { return becameReady(place) }
        clients[place].phase = .ready
    }

    mutating func ended(_ place: Int, errorNumber: Int32) {
        guard !clients[place].hasEnded else { return }
        clients[place].hasEnded = true
        if clients[place].isStalled, clients[place].phase == .ready {
            report.counts.cut += 1
        } else {
            report.anomalies.ended += 1
            report.counts.ended += 1
            let reason = errorNumber > 0 ? String(cString: strerror(errorNumber)) : "end of stream"
            control.fail("the server ended a connection (\(clients[place].phase)): \(reason)")
        }
        close(place)
    }

    mutating func closeEverything() {
        for place in 1..<(clientCount + 1) where clients[place].phase != .idle && clients[place].phase != .closing {
            close(place)
        }
    }

    /// A client that still waits for its socket keeps its outbox until the end of the turn, because the driver uses it
    /// until then.
    private mutating func close(_ place: Int) {
        clients[place].phase = .closing
        let index = clients[place].outbox
        if index != 0, outboxes[index].pointee.awaitsWritable {
            clients[place].outbox = 0
            outboxes.giveBack(index)
        }
        // A reset leaves no connection in TIME_WAIT, which would keep the port from the next run.
        submissions.append(Submission(.close, connection: slot(place), value: 1))
    }
}

/// The addresses that the clients connect to, one after the other. Each address has an ephemeral port range of its own.
final class Addresses: @unchecked Sendable {
    private let base: UnsafeMutablePointer<sockaddr_in>
    private let count: Int
    /// connect(2) tries the even ports of the range first. When they are taken, it tries all ports one by one. Of the
    /// 28,232 ports that Linux has by default, the first 14,000 take some microseconds each, and the others a
    /// millisecond.
    static let clientsPerAddress = 12_000

    /// - Parameter address: the first address, in host order.
    init(address: UInt32, port: UInt16, clientCount: Int) {
        let wanted = max(1, (clientCount + Self.clientsPerAddress - 1) / Self.clientsPerAddress)
        // The server may listen only on the first address.
        count = wanted > 1 && Self.isListening(address + 1, port) ? wanted : 1
        base = .allocate(capacity: count)
        for place in 0..<count {
            (base + place).initialize(to: Self.socketAddress(address + UInt32(place), port))
        }
    }

    private static func socketAddress(_ address: UInt32, _ port: UInt16) -> sockaddr_in {
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_port = port.bigEndian
        target.sin_addr.s_addr = address.bigEndian
        return target
    }

    private static func isListening(_ address: UInt32, _ port: UInt16) -> Bool {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(fd) }
        var target = socketAddress(address, port)
        return withUnsafePointer(to: &target) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    deinit { base.deallocate() }

    subscript(client: Int) -> UnsafeMutablePointer<sockaddr_in> { base + client % count }
}
