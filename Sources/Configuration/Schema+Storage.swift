extension Schema {
    /// The keys of the section `storage`.
    static let storage: [Setting<Settings>] = [
        .flag(
            "storage.enabled", \.storage.isEnabled,
            "true: what a destination's `storage` names survives a crash. false: everything is in memory alone."),
        .text(
            "storage.directory", \.storage.directory,
            allowed: "\"\" ($STATE_DIRECTORY, $XDG_STATE_HOME/stampede or ~/.local/state/stampede), or a path",
            "Where the log is. One broker at a time; it is made, for its user alone, if it is not there.",
            accepts: { text in
                text.utf8.count <= 3072 && !text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }
            }),
        .choice(
            "storage.sync", \.storage.sync,
            "receipt: RECEIPT waits for the disk. interval: it does not; a crash of the machine loses what is newer."),
        .milliseconds(
            "storage.sync-interval-ms", \.storage.syncIntervalMilliseconds, 1...600_000,
            "sync: interval: how often what was written is brought to stable storage."),
        .choice(
            "storage.commit", \.storage.commit,
            "How: one write that waits for the disk (RWF_DSYNC), or a write, then fdatasync. Measure on your disk."),
        .flag(
            "storage.direct-writes", \.storage.writesDirectly,
            "true: past the page cache (O_DIRECT), where the file system can. false: through it."),
        .bytes(
            "storage.segment-bytes", \.storage.segmentByteCount, 64 << 10...1 << 30,
            "Size of a file of the log. It must hold a largest frame, and a transaction, twice."),
        .bytes(
            "storage.bytes-max", \.storage.byteCountMax, 1 << 20...1 << 50, zero: "what the disk holds",
            "Bytes of all files. At the limit, as on a full disk: ERROR for what is to be stored."),
        .bytes(
            "storage.staged-bytes", \.storage.stagedByteCountMax, 64 << 10...1 << 30,
            "Bytes that wait for the disk, of each worker. At the limit: publishers of what is to be stored wait."),
        .choice(
            "storage.on-error", \.storage.onError,
            "When the disk fails. stop: the broker ends. refuse: what is to be stored is refused, the rest goes on."),
    ]
}
