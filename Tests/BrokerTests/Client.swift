import FakeKernel
import Glibc
import STOMP
import Testing

/// A STOMP client at the other end of a `FakeSocket`.
final class Client {
    unowned let broker: TestBroker
    let socket: FakeSocket
    let name: String
    var version = Version.v1_2
    private var decoder: ClientFrameDecoder
    private var frames: [ClientFrame] = []

    init(_ broker: TestBroker, _ socket: FakeSocket, _ name: String) {
        self.broker = broker
        self.socket = socket
        self.name = name
        decoder = ClientFrameDecoder(
            limits: FrameLimits(headerByteCountMax: 65_535, headersByteCountMax: 1 << 20, bodyByteCountMax: 64 << 20))
    }

    // MARK: Sending

    func write(_ text: String) { socket.write(Array(text.utf8)) }
    func write(_ bytes: [UInt8]) { socket.write(bytes) }
    func send(_ frame: ClientFrame) { socket.write(frame.encoded(version)) }

    func send(_ command: Command, _ headers: [(String, String)] = [], _ body: String = "") {
        send(ClientFrame(command, headers, text: body))
    }

    /// The end of the client's sending side.
    func hangUp() { socket.endSending() }
    func reset() { socket.fail(errno: ECONNRESET) }

    func connect(
        _ version: Version = .v1_2, heartBeat: String? = nil, clientID: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        self.version = version
        var headers = [("accept-version", "\(version.text)"), ("host", "test")]
        if let heartBeat { headers.append(("heart-beat", heartBeat)) }
        if let clientID { headers.append(("client-id", clientID)) }
        send(.connect, headers)
        broker.run()
        let answer = frame()
        #expect(answer?.command == .connected, sourceLocation: sourceLocation)
        #expect(answer?["version"] == "\(version.text)", sourceLocation: sourceLocation)
    }

    func publish(_ destination: String, _ body: String, _ headers: [(String, String)] = []) {
        send(.send, [("destination", destination)] + headers, body)
    }

    func subscribe(_ destination: String, id: String = "0", ack: String? = nil, _ headers: [(String, String)] = []) {
        var all = [("destination", destination), ("id", id)]
        if let ack { all.append(("ack", ack)) }
        send(.subscribe, all + headers)
    }

    /// Sends a frame that asks for a RECEIPT, and runs until it is there. Frames that come before it are kept.
    func confirmed(
        _ command: Command, _ headers: [(String, String)] = [], _ body: String = "",
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        receiptCount += 1
        let id = "confirmed-\(receiptCount)"
        send(command, headers + [("receipt", id)], body)
        broker.run()
        pump()
        let place = frames.firstIndex { $0.command == .receipt && $0["receipt-id"] == id }
        guard let place else {
            Issue.record(
                "no RECEIPT for \(command) of \(name): \(frames.map(Self.describe))", sourceLocation: sourceLocation)
            return
        }
        frames.remove(at: place)
    }
    private var receiptCount = 0

    func ack(_ message: ClientFrame, _ headers: [(String, String)] = [], nack: Bool = false) {
        let command = nack ? Command.nack : .ack
        switch version {
        case .v1_2: send(command, [("id", message["ack"] ?? "")] + headers)
        case .v1_1:
            send(
                command,
                [("message-id", message["message-id"] ?? ""), ("subscription", message["subscription"] ?? "")] + headers
            )
        case .v1_0: send(command, [("message-id", message["message-id"] ?? "")] + headers)
        }
    }

    // MARK: Receiving

    private func pump() {
        decoder.push(socket.takeReceived())
        do throws(FrameError) {
            while let frame = try decoder.pop() { frames.append(frame) }
        } catch {
            Issue.record("\(name) got bytes that are no frame: \(error)")
        }
    }

    /// The next frame that has arrived.
    func frame() -> ClientFrame? {
        pump()
        return frames.isEmpty ? nil : frames.removeFirst()
    }

    /// All frames that have arrived.
    func takeFrames() -> [ClientFrame] {
        pump()
        defer { frames.removeAll() }
        return frames
    }

    /// Runs the broker, and returns all MESSAGEs; anything else among them is a fault.
    func messages(sourceLocation: SourceLocation = #_sourceLocation) -> [ClientFrame] {
        broker.run()
        let all = takeFrames()
        for frame in all where frame.command != .message {
            Issue.record("\(name) got \(Self.describe(frame))", sourceLocation: sourceLocation)
        }
        return all.filter { $0.command == .message }
    }

    func bodies(sourceLocation: SourceLocation = #_sourceLocation) -> [String] {
        messages(sourceLocation: sourceLocation).map(\.text)
    }

    /// Runs the broker and expects an ERROR as the last frame, and then the end of the connection.
    @discardableResult
    func expectError(_ message: String, receipt: String? = nil, sourceLocation: SourceLocation = #_sourceLocation)
        -> ClientFrame?
    {
        broker.run()
        let last = takeFrames().last
        #expect(last?.command == .error, "\(last.map(Self.describe) ?? "nothing")", sourceLocation: sourceLocation)
        #expect(last?["message"] == message, sourceLocation: sourceLocation)
        #expect(last?["receipt-id"] == receipt, sourceLocation: sourceLocation)
        #expect(last?["content-type"] == "text/plain" && last?.body.isEmpty == false, sourceLocation: sourceLocation)
        #expect(socket.isWriteShutDown || socket.isClosed, "the connection ends", sourceLocation: sourceLocation)
        return last
    }

    static func describe(_ frame: ClientFrame) -> String {
        "\(frame.command) \(frame.headers.map { "\($0.name):\($0.value)" }) \(frame.text.prefix(200))"
    }
}
