// Messages that wait for their time, and such as are sent again with the same id: in runs of the mode `delays`.
extension Simulation {
    /// What the SEND of a message asks for beside delivery.
    func addOptions(_ message: Message, _ frame: inout FrameText) {
        if message.life == nil, random.chance(300) {
            let delay = random.pick([1, 20, 300, 3000])
            message.delay = UInt64(delay)
            let asked = canary == .releaseEarly ? delay / 2 : delay
            switch random.below(3) {
            case 0: frame.add("x-delay", "\(asked)")
            case 1: frame.add("AMQ_SCHEDULED_DELAY", "\(asked)")
            default:
                // That time may have come when the frame is read.
                frame.add("AMQ_SCHEDULED_TIME", "\(wallMilliseconds + UInt64(asked))")
                message.delayIsAbsolute = true
                message.dueEarliest = wallMilliseconds + UInt64(delay)
            }
        }
        if message.isQueue, random.chance(300) {
            message.isDeduplicated = true
            frame.add("x-deduplication-id", "d\(message.number)")
        }
    }

    /// Sends a message again whose RECEIPT has come: it is confirmed, and must not be delivered again. False: there is none.
    func resend(_ peer: Peer) -> Bool {
        let taken = oracle.messages.filter {
            $0.isDeduplicated && $0.state == .confirmed && scenario.queues.contains($0.destination)
                && ($0.brokerLife == oracle.life || $0.isPromised && oracle.isStored($0) && !$0.isLost)
                && (peer.version != 10 || $0.text?.contains("\n") != true)
        }
        guard !taken.isEmpty else { return false }
        let message = random.pick(taken)
        var frame = FrameText("SEND")
        frame.add("destination", message.destination)
        frame.add("x-number", "\(message.number)")
        if let text = message.text { frame.add("x-text", text, version: peer.version) }
        if message.isPersistent { frame.add("persistent", "true") }
        frame.add("x-deduplication-id", "d\(message.number)")
        frame.body = (0..<message.bodyByteCount).map(message.byte)
        frame.hasLength = true
        let wants = random.chance(500)
        let index = oracle.wrote(peer, .plain, receipt: wants)
        if wants { frame.add("receipt", "\(index)") }
        put(frame.finished(), peer)
        return true
    }

    /// Somebody waits for a message that is not due yet.
    var hasDelayedMessages: Bool {
        scenario.delays && (0..<scenario.shardCount).contains { shards[$0].audit().delayedMessages > 0 }
    }
}
