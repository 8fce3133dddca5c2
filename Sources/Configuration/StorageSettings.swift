/// What is kept on disk, where, and when a RECEIPT may speak of it: the section `storage`.
public struct StorageSettings: Sendable, Equatable {
    public var isEnabled = true
    /// Empty: `directory(environment:)` chooses.
    public var directory = ""
    public var sync = Sync.receipt
    public var syncIntervalMilliseconds = 1000
    public var commit = Commit.durableWrite
    /// Past the page cache, where the file system can.
    public var writesDirectly = true
    public var segmentByteCount = 64 << 20
    /// Of all workers together. 0: no limit.
    public var byteCountMax = 0
    public var stagedByteCountMax = 8 << 20
    public var onError = ErrorPolicy.stop

    /// When a RECEIPT leaves for what is stored.
    public enum Sync: String, Sendable, CaseIterable {
        case receipt, interval
    }

    /// How a group of records is brought to stable storage.
    public enum Commit: String, Sendable, CaseIterable {
        case durableWrite = "durable-write"
        case writeAndSync = "write-and-sync"
    }

    public enum ErrorPolicy: String, Sendable, CaseIterable {
        case stop, refuse
    }

    /// Where the store is: `storage.directory`, or the first that is set of these:
    ///
    /// - `$STATE_DIRECTORY`: systemd makes it for `StateDirectory=` (systemd.exec(5)); of several, the first;
    /// - `$XDG_STATE_HOME/stampede` (XDG Base Directory Specification 0.8; a path that is not absolute is ignored);
    /// - `$HOME/.local/state/stampede`.
    ///
    /// nil: none is set.
    public func directory(environment: [String: String]) -> String? {
        if !directory.isEmpty { return directory }
        if let state = environment["STATE_DIRECTORY"]?.split(separator: ":").first { return String(state) }
        if let state = environment["XDG_STATE_HOME"], state.hasPrefix("/") { return "\(state)/stampede" }
        if let home = environment["HOME"], home.hasPrefix("/") { return "\(home)/.local/state/stampede" }
        return nil
    }
}
