import STOMP

// What a client hears whose bytes are no frame, or too large a one.
extension Shard {
    mutating func failBeforeConnected(_ session: UnsafeMutablePointer<Session>) {
        counters.limits.count(.preConnectBytes)
        fail(
            session, "Frame too large",
            "a client may send \(limits.preConnectByteCountMax) bytes before CONNECTED (limits.pre-connect-bytes)")
    }

    /// The parser refused `bytes`. Where the frame's `receipt` header is known, ERROR names it.
    mutating func frameFailed(_ context: FrameContext, _ bytes: UnsafeRawBufferPointer) {
        let session = context.session
        var explanation = "\(frameError.explanation)"
        if let limit = LimitKind(frameError.code) {
            counters.limits.count(limit)
            if let value = limits.frameLimit(limit) { explanation += " The limit is \(value) (limits.\(limit.key))." }
        } else if frameError.code == .unknownCommand, session.pointee.state == .fresh,
            let other = ForeignProtocol(UnsafeRawBufferPointer(rebasing: bytes[frameError.offset...]))
        {
            explanation = "\(other.explanation)"
        }
        fail(session, frameError.message, explanation, receipt: receiptOfFrame(context))
    }
}

extension Limits {
    /// The value of a limit that the parser keeps.
    fileprivate func frameLimit(_ limit: LimitKind) -> Int? {
        switch limit {
        case .commandBytes: commandByteCountMax
        case .headers: headerCountMax
        case .headerBytes: headerByteCountMax
        case .headersBytes: headersByteCountMax
        case .bodyBytes: bodyByteCountMax
        default: nil
        }
    }
}
