import Broker

// What clients do with logs of topics, and with messages that topics retain.
extension Simulation {
    /// Headers of a SEND in the mode `logs`.
    func addLogHeaders(of message: Message, to frame: inout FrameText) {
        guard let logs = scenario.logs, scenario.topics.contains(message.destination) else { return }
        if scenario.storage != nil, !scenario.hasDurables {
            let isPersistent = random.chance(600)
            if isPersistent { frame.add("persistent", "true") }
            if logs.topics.contains(message.destination) {
                message.isPersistent = logs.storage == .always || logs.storage == .byHeader && isPersistent
            }
        }
        if random.chance(150) {
            let change: RetainChange = random.chance(800) ? .set : .remove
            message.retain = change
            frame.add("retain", change.rawValue)
        }
        // What only the broker may say.
        if random.chance(50) { frame.add("x-stream-offset", "\(random.below(10))") }
    }

    /// SUBSCRIBE with `x-stream-offset`. False: not this time.
    func subscribesToLog(_ peer: Peer) -> Bool {
        guard let logs = scenario.logs, random.chance(300) else { return false }
        let topic = random.pick(logs.topics)
        let known = oracle.offsets[topic]?.keys.max() ?? -1
        let seconds = wallMilliseconds / 1000
        let start = random.pick([
            "first", "first", "last", "next", "offset=\(random.below(known + 3))", "timestamp=\(seconds)",
            "timestamp=\(seconds - UInt64(random.below(10)))",
        ])
        subscribe(
            peer, to: topic, isQueue: false, mode: random.pick([.auto, .client, .individual]), receipt: 800,
            position: ReadPosition(start: start, knownAtStart: known))
        return true
    }
}
