import Glibc
import IO
import STOMP
import Slabs

// One method per command. A frame is applied in full, or answered with ERROR and the connection's end, or (`.retry`)
// not applied at all and parsed again when what it waits for is there.
extension Shard {
    /// Applies the frame under the parser.
    mutating func apply(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        let command = frame.command
        switch session.pointee.state {
        case .fresh:
            switch command {
            case .connect, .stomp: connect(session)
            case .send, .subscribe, .unsubscribe, .begin, .commit, .abort, .ack, .nack, .disconnect:
                fail(
                    session, "Illegal command", "You must log in using CONNECT first", receipt: receiptOfFrame(context))
            case .connected, .message, .receipt, .error: failServerCommand(context)
            }
            return .done
        case .connected:
            switch command {
            case .send: return send(context)
            case .ack: return acknowledge(context, accepts: true)
            case .nack: return acknowledge(context, accepts: false)
            case .subscribe: return subscribe(context)
            case .unsubscribe: return unsubscribe(context)
            case .begin: return begin(context)
            case .commit: return commit(context)
            case .abort: return abort(context)
            case .disconnect: return disconnect(context)
            case .connect, .stomp:
                fail(session, "Illegal command", "this connection is CONNECTED", receipt: receiptOfFrame(context))
            case .connected, .message, .receipt, .error: failServerCommand(context)
            }
            return .done
        case .authenticating:
            invariant(false, "frames behind CONNECT wait for its answer")
            return .done
        case .ending, .lingering, .closing:
            return .done  // frames behind DISCONNECT or a faulty frame are not processed
        }
    }

    private mutating func failServerCommand(_ context: FrameContext) {
        let session = context.session
        fail(session, "Bad command", "only a server sends this command", receipt: receiptOfFrame(context))
    }

    /// The receipt that an ERROR about the frame names, as the client wrote it.
    @inline(__always)
    func receiptOfFrame(_ context: FrameContext) -> UnsafeRawBufferPointer? {
        // Where the session has ended meanwhile, it has been answered.
        guard context.session.pointee.state == .connected else { return nil }
        return context.commit.isNone ? frame.rawValue(.receipt) : receiptOfPending(context.commit)
    }

    mutating func failFrame(_ context: FrameContext, _ message: StaticString, _ explanation: String) {
        let session = context.session
        fail(session, message, explanation, receipt: receiptOfFrame(context))
    }

    /// The frame is processed: RECEIPT where it was asked for.
    @inline(__always)
    mutating func confirm(_ context: FrameContext) {
        if frame.has(.receipt), !context.isCommitting { writeOrKeepReceipt(context) }
    }

    private mutating func writeOrKeepReceipt(_ context: FrameContext) {
        let session = context.session
        guard let id = frame.rawValue(.receipt) else { return }
        if pendings.answersAtOnce(session) {
            writeReceipt(session, id)
        } else {
            confirmLater(context, id)
        }
    }

    // MARK: CONNECT

    private mutating func connect(_ session: UnsafeMutablePointer<Session>) {
        let versions = session.pointee.versions
        let common = frame.rawValue(.acceptVersion).map { AcceptVersion.highestCommon($0, among: versions) } ?? .v1_0
        guard let version = common, versions.contains(version) else { return refuseVersions(session) }
        var wish: (UInt32, UInt32) = (0, 0)
        if let text = frame.rawValue(.heartBeat) {
            guard let parsed = HeartBeat.parse(text) else {
                return fail(
                    session, "Bad heart-beat", "heart-beat must be two numbers of milliseconds, as in 10000,10000")
            }
            wish = parsed
        }
        let offer = UInt32(limits.heartBeatSendMilliseconds)
        let want = UInt32(limits.heartBeatReceiveMilliseconds)
        session.pointee.sendInterval = offer == 0 || wish.1 == 0 ? 0 : max(offer, wish.1)
        session.pointee.receiveInterval = expectedInterval(
            want == 0 || wish.0 == 0 ? 0 : max(want, wish.0), session.pointee.listener)
        session.pointee.version = version
        keepLogin(session)
        if frame.has(.clientId) { keepClientID(session) }
        if hosts.isOn, !choosesHost(session) { return }
        authenticate(session)
    }

    mutating func writeConnected(_ session: UnsafeMutablePointer<Session>) {
        var server = options.serverName
        guard let room = reserveOutput(session, 256 + server.utf8.count) else { return }
        var writer = FrameWriter(at: room)
        writer.write("CONNECTED\nversion:")
        writer.write(session.pointee.version.text)
        writer.write("\nserver:")
        server.withUTF8 { writer.write(UnsafeRawPointer($0.baseAddress!), $0.count) }
        writer.write("\nheart-beat:")
        writer.writeDecimal(UInt64(limits.heartBeatSendMilliseconds))
        writer.write(",")
        writer.writeDecimal(UInt64(limits.heartBeatReceiveMilliseconds))
        writer.write("\nsession:")
        var identity = sessionText(session)
        identity.withUTF8 { writer.write(UnsafeRawPointer($0.baseAddress!), $0.count) }
        writer.write("\n\n\0\n")
        commitOutput(session, writer.cursor - room)
    }

    // MARK: DISCONNECT

    private mutating func disconnect(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        // Everything before it is processed, by other workers too, before it is answered.
        if pendings.holdsBack(session, asksForReceipt: frame.has(.receipt)) { return retryAfterPending(context) }
        flushEncodings(of: session)
        // Unconsumed deliveries go back only after this, so that the RECEIPT is the last frame.
        confirm(context)
        end(session, .left)
        return .done
    }

    /// The session's subscription with this id; none where there is none.
    @inline(__always)
    func findSubscription(
        _ session: UnsafeMutablePointer<Session>, _ id: UnsafeRawBufferPointer
    ) -> Index<Subscription> {
        subscriptions.find(session, id, router, memory)
    }
}
