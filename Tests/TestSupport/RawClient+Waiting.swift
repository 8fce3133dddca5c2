import Glibc

extension RawClient {
    /// Waits until one of several clients has a frame, or its connection ended, and returns its index; nil at the
    /// deadline.
    public static func indexOfReadable(among clients: [RawClient], within seconds: Int = Deadline.defaultSeconds)
        -> Int?
    {
        if let index = clients.firstIndex(where: { $0.hasFrameOrEnd }) { return index }
        let deadline = Deadline(seconds: seconds)
        while !deadline.isOver {
            var entries = clients.map { pollfd(fd: $0.connection.descriptor, events: Int16(POLLIN), revents: 0) }
            poll(&entries, nfds_t(entries.count), deadline.millisecondsLeft)
            for (index, entry) in entries.enumerated() where entry.revents != 0 {
                _ = try? clients[index].connection.receive(until: deadline)
                if clients[index].hasFrameOrEnd { return index }
            }
        }
        return nil
    }

    /// Whether `nextFrameOrEnd` returns, or throws, without waiting.
    private var hasFrameOrEnd: Bool {
        skipLineEnds()
        if !setAside.isEmpty || connection.end != nil { return true }
        do throws(FrameDecoder.Malformed) {
            return try FrameDecoder.decode(connection.received, version) != nil
        } catch {
            return true
        }
    }
}
