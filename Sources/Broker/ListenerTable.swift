import IO

/// What the core asks of the listeners, by `ListenerID`: plain values, because they are asked at each accept.
///
/// A listener without an entry has no options. `hasOptions` is false if none has any, so that brokers whose listeners
/// are plain ask nothing further.
struct ListenerTable: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var connectionCountMax = 0
        var isUnix = false
        var copiesSends = false
        var isEncrypted = false
        var hasLenientHeartBeats = false
    }

    private let entries: UnsafeMutablePointer<Entry>
    let hasOptions: Bool

    init(_ listeners: [ListenerOptions]) {
        entries = .allocate(capacity: ListenerID.countMax)
        entries.initialize(repeating: Entry(), count: ListenerID.countMax)
        var hasOptions = false
        for (index, listener) in listeners.prefix(ListenerID.countMax).enumerated() {
            entries[index] = Entry(
                connectionCountMax: listener.connectionCountMax, isUnix: listener.isUnix,
                copiesSends: listener.isUnix || !listener.transport.isPlain,
                isEncrypted: listener.transport.usesTLS, hasLenientHeartBeats: listener.hasLenientHeartBeats)
            hasOptions =
                hasOptions || listener.connectionCountMax > 0 || listener.isUnix || !listener.transport.isPlain
                || listener.hasLenientHeartBeats
        }
        self.hasOptions = hasOptions
    }

    deinit { entries.deallocate() }

    /// Connections of all workers together. 0: no limit.
    @inline(__always)
    func connectionCountMax(_ listener: ListenerID) -> Int { entries[Int(listener.rawValue)].connectionCountMax }

    @inline(__always)
    func isUnix(_ listener: ListenerID) -> Bool { entries[Int(listener.rawValue)].isUnix }

    /// Its connections cannot send by zero-copy: the bytes are framed, encrypted, or passed through a Unix socket.
    @inline(__always)
    func copiesSends(_ listener: ListenerID) -> Bool { entries[Int(listener.rawValue)].copiesSends }

    /// What the kernel has taken of its connections is known by whole blocks: a client may have read more.
    @inline(__always)
    func isEncrypted(_ listener: ListenerID) -> Bool { entries[Int(listener.rawValue)].isEncrypted }

    @inline(__always)
    func hasLenientHeartBeats(_ listener: ListenerID) -> Bool { entries[Int(listener.rawValue)].hasLenientHeartBeats }
}
