import Glibc

/// Many sessions that do nothing, each with one subscription.
public final class IdleConnections {
    private var descriptors: [Int32] = []
    private let port: UInt16

    public init(to broker: BrokerProcess) {
        port = broker.port
        descriptors.reserveCapacity(16384)
    }

    deinit { descriptors.forEach { Glibc.close($0) } }

    public var count: Int { descriptors.count }

    /// Opens `count` more sessions and subscribes each to `destination`. When it returns, the broker has answered all.
    public func open(_ count: Int, subscribingTo destination: String) throws {
        let conversation = Array(
            "CONNECT\naccept-version:1.2\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:\(destination)\nreceipt:s\n\n\0".utf8
        )
        let end = Array("receipt-id:s\n\n\0\n".utf8)
        // In groups, so that the broker accepts, reads and answers many at a time.
        for start in stride(from: 0, to: count, by: 256) {
            let group = try (start..<min(start + 256, count)).map { _ in try Connection.open(port: port) }
            descriptors += group
            for descriptor in group where send(descriptor, conversation, conversation.count, Int32(MSG_NOSIGNAL)) < 0 {
                throw Failure("send: errno \(errno)", at: Place(#fileID, #line))
            }
            for descriptor in group { try receive(from: descriptor, upTo: end) }
        }
    }

    /// Closes `count` of them.
    public func close(_ count: Int) {
        for descriptor in descriptors.suffix(count) { Glibc.close(descriptor) }
        descriptors.removeLast(count)
    }

    /// Waits until each has received one more message that ends with `body`.
    public func expectMessage(_ body: String) throws {
        for descriptor in descriptors { try receive(from: descriptor, upTo: Array("\n\n\(body)\0\n".utf8)) }
    }

    private func receive(from descriptor: Int32, upTo end: [UInt8]) throws {
        var bytes = [UInt8](repeating: 0, count: 4096)
        var count = 0
        let deadline = Deadline()
        while !bytes[..<count].suffix(end.count).elementsEqual(end) {
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let received =
                poll(&entry, 1, deadline.millisecondsLeft) > 0
                ? bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + count, $0.count - count, 0) } : 0
            guard received > 0 else {
                throw Failure(
                    "an idle connection got only: \(String(decoding: bytes[..<count], as: UTF8.self))",
                    at: Place(#fileID, #line))
            }
            count += received
        }
    }
}
