import FakeKernel
import STOMP

/// A client of the fuzzer: it reads the frames that it gets, and remembers what later frames may name.
final class SessionClient {
    let socket: FakeSocket
    private var decoder = ClientFrameDecoder(
        limits: FrameLimits(headerByteCountMax: 65_535, headersByteCountMax: 1 << 20, bodyByteCountMax: 1 << 20))
    private(set) var version = Version.v1_2
    /// What ACK and NACK may name: pairs of the id and the subscription.
    private(set) var deliveries: [(id: String, subscription: String)] = []
    /// Addresses that others gave for replies.
    private(set) var replyDestination = "/reply-queue/0-0-0/none"

    init(_ socket: FakeSocket) { self.socket = socket }

    /// Reads what has arrived; says what is wrong with it.
    func read() -> String? {
        decoder.push(socket.takeReceived())
        do throws(FrameError) {
            while let frame = try decoder.pop() { read(frame) }
        } catch {
            return "a client got what is no frame: \(error.code) at \(error.offset)"
        }
        return socket.isWriteShutDown && decoder.pendingByteCount > 0 ? "shut down within a frame" : nil
    }

    private func read(_ frame: ClientFrame) {
        if frame.command == .connected { version = decoder.version }
        guard frame.command == .message else { return }
        if let reply = frame["reply-to"] { replyDestination = reply }
        let id = version == .v1_2 ? frame["ack"] : frame["message-id"]
        deliveries.append((id ?? "", frame["subscription"] ?? ""))
        if deliveries.count > 16 { deliveries.removeFirst() }
    }
}
