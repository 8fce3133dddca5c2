// What clients must not do.
extension Simulation {
    func writeGarbage(_ peer: Peer) {
        peer.misbehaved = true
        switch random.below(6) {
        case 0: put((0..<random.range(1...200)).map { _ in UInt8(random.below(256)) } + [0, 10], peer)
        case 1: put(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8), peer)
        case 2: put(Array("SEND\ndestination:/queue/q0\ncontent-length:99999999999999999999\n\nx\0".utf8), peer)
        case 3: put(Array("SEND\ndestination:/queue/q0\ncontent-length:3\n\nlonger\0".utf8), peer)
        case 4: put(Array("SEND\nno colon\n\n\0".utf8), peer)
        default: put([UInt8](repeating: 65, count: random.range(1...400)), peer)
        }
    }

    func writeUnfinished(_ peer: Peer) {
        peer.misbehaved = true
        let whole = Array("SEND\ndestination:/topic/a\ncontent-length:500\n\nnever finished".utf8)
        put(Array(whole.prefix(random.range(1...whole.count))), peer)
    }

    func writeWrong(_ peer: Peer) {
        peer.misbehaved = true
        var frames = [
            "CONNECT\naccept-version:1.2\n\n\0", "MESSAGE\ndestination:/queue/q0\n\nx\0", "SEND\n\nno destination\0",
            "SEND\ndestination:/topic/*\n\nwildcard\0", "SEND\ndestination:/nowhere/x\n\nx\0",
            "SEND\ndestination:/queue/\n\nx\0",
            "SUBSCRIBE\nid:w\ndestination:/queue/q0\nack:maybe\n\n\0", "SUBSCRIBE\ndestination:\nid:w\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/reply-queue/0-1-1-r\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/queue/q0\nselector:a=1\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/queue/q0\nprefetch-count:many\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/queue/q0.*\n\n\0", "SUBSCRIBE\nid:w\ndestination:/dsub/q0\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/topic/a\nactivemq.subcriptionName:w\n\n\0",
            "SEND\ndestination:/queue/q0\nx-queue-type:quorum\n\nx\0", "NACK\nid:0\nrequeue:maybe\n\n\0",
            "UNSUBSCRIBE\nid:unknown\n\n\0", "ACK\nid:0\nmessage-id:0\nsubscription:0\n\n\0",
            "NACK\nid:zz\nmessage-id:zz\nsubscription:zz\n\n\0", "ACK\n\n\0", "COMMIT\ntransaction:none\n\n\0",
            "ABORT\ntransaction:none\n\n\0", "BEGIN\n\n\0", "SEND\ndestination:/queue/q0\ntransaction:none\n\nx\0",
            "BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n\0", "DISCONNECT\n\nbody\0",
        ]
        // Where clients have a client-id, that is none.
        if scenario.hasDurables { frames.removeAll { $0.contains("subcriptionName") } }
        put(Array(random.pick(frames).utf8), peer)
    }
}
