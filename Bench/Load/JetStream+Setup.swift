import Glibc

/// The streams and consumers of a load. They are made before it begins and removed after it, over a blocking socket.
extension JetStream {
    private static let consumer = "workers"
    private static let inbox = "_INBOX.setup"
    /// What is delivered and not acknowledged: less than the output that a server keeps for a client (64 MiB).
    private static let unacknowledgedMax = 16_384
    /// Nanoseconds until a message is delivered again. Longer than any measurement.
    private static let acknowledgementWait = 3_600_000_000_000

    static func streamName(_ subject: String) -> String { subject.replacing(".", with: "_") }

    /// Makes a stream and a consumer for each queue. Returns what went wrong; nil: nothing.
    static func make(_ plan: Plan, target: Load.Target) -> String? {
        requests(plan, target) { index in
            let subject = plan.destinationName(index)
            let stream = streamName(subject)
            return [
                (
                    "$JS.API.STREAM.CREATE.\(stream)",
                    """
                    {"name":"\(stream)","subjects":["\(subject)"],"retention":"workqueue",\
                    "storage":"\(plan.isPersistent ? "file" : "memory")"}
                    """
                ),
                (
                    "$JS.API.CONSUMER.CREATE.\(stream).\(consumer)",
                    """
                    {"stream_name":"\(stream)","config":{"name":"\(consumer)","durable_name":"\(consumer)",\
                    "deliver_subject":"\(deliverySubject(subject))","deliver_group":"\(consumer)","ack_policy":"explicit",\
                    "ack_wait":\(acknowledgementWait),"max_ack_pending":\(unacknowledgedMax)}}
                    """
                ),
            ]
        }
    }

    /// Removes them. Returns what went wrong; nil: nothing.
    static func remove(_ plan: Plan, target: Load.Target) -> String? {
        requests(plan, target) { [("$JS.API.STREAM.DELETE.\(streamName(plan.destinationName($0)))", "")] }
    }

    private static func requests(
        _ plan: Plan, _ target: Load.Target, _ requests: (Int) -> [(subject: String, text: String)]
    ) -> String? {
        guard let connection = SetupConnection(target) else { return "JetStream: no connection" }
        guard connection.line()?.hasPrefix("INFO") == true else { return "JetStream: no INFO from the server" }
        connection.say("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB \(inbox) 1\r\n")
        for (subject, text) in (0..<plan.destinationCount).flatMap(requests) {
            connection.say("PUB \(subject) \(inbox) \(text.utf8.count)\r\n\(text)\r\n")
            guard let answer = answer(connection) else { return "JetStream: no answer to \(subject); is it enabled?" }
            if answer.contains("\"error\"") { return "JetStream: \(subject): \(answer)" }
        }
        return nil
    }

    /// The JSON behind the next MSG. It has no line end in it.
    private static func answer(_ connection: borrowing SetupConnection) -> String? {
        while let line = connection.line() {
            if line.hasPrefix("PING") { connection.say("PONG\r\n") }
            if line.hasPrefix("-ERR") { return nil }
            if line.hasPrefix("MSG") { return connection.line() }
        }
        return nil
    }
}

/// A blocking connection for a few lines.
private struct SetupConnection: ~Copyable {
    private let fd: Int32
    private static let patienceSeconds = 10

    init?(_ target: Load.Target) {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return nil }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = target.port.bigEndian
        address.sin_addr.s_addr = target.address.bigEndian
        var patience = timeval(tv_sec: Self.patienceSeconds, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            close(fd)
            return nil
        }
    }

    deinit { close(fd) }

    func say(_ text: String) {
        var text = text
        text.withUTF8 { _ = send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    /// The next line, without its end. nil: there is none in time.
    func line() -> String? {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while recv(fd, &byte, 1, 0) == 1 {
            if byte == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
            if byte != UInt8(ascii: "\r") { bytes.append(byte) }
        }
        return nil
    }
}
