internal import CDeflate
internal import Glibc
internal import IO
internal import Slabs

/// A stretch of the core's bytes as DEFLATE, up to the end of a byte and an empty block (00 00 FF FF). It refers to
/// nothing before it, so it may stand behind any other one, and for any connection.
struct DeflatedPiece: BitwiseCopyable {
    /// nil: it did not become smaller, and is sent as it is.
    var bytes: UnsafeRawPointer?
    var byteCount = 0
    /// It is UTF-8, from the first octet to the last.
    var isText = false
}

/// What was deflated in a poll: many connections get the same runs in one poll, and these are deflated once.
///
/// A piece is known by where its runs lie and by its window. Runs lie where they are until the poll is over.
struct DeflatedPieces: ~Copyable {
    private struct Entry: BitwiseCopyable {
        /// 0: none was ever here.
        var poll: UInt32 = 0
        var windowBits: Int32 = 0
        var hash: UInt64 = 0
        var firstRun = 0
        var runCount = 0
        var piece = DeflatedPiece()
    }

    /// Entries that collide replace each other.
    private static var entryCount: Int { 1024 }
    /// What may be deflated in a poll, measured before: some milliseconds of it. Beyond it messages leave as they are, so that
    /// those who want compression do not delay those who do not.
    static var byteCountPerPoll: Int { 256 << 10 }
    /// A piece, measured before: what is deflated at a time.
    static var pieceByteCountMax: Int { 32 << 10 }
    private static var roomByteCount: Int { byteCountPerPoll + 4 * pieceByteCountMax }

    private var entries: UnsafeMutablePointer<Entry>?
    private var room: UnsafeMutableRawPointer?
    private var roomUsed = 0
    /// The runs of all pieces of the poll, and behind them those of the piece that is looked for.
    private(set) var runs = Batch<iovec>(capacity: 64)
    private var poll: UInt32 = 1
    private(set) var byteCount = 0
    /// What a send of this poll may point to: an empty block without its tail.
    let zero: UnsafeMutableRawPointer = {
        let zero = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)
        zero.storeBytes(of: 0, as: UInt8.self)
        return zero
    }()

    init() {}

    deinit {
        entries?.deallocate()
        room?.deallocate()
        zero.deallocate()
    }

    /// The poll is over.
    mutating func removeAll() {
        if byteCount == 0 { return }
        runs.removeAll()
        roomUsed = 0
        byteCount = 0
        poll &+= 1
        // Entries of 2^32 polls ago could be taken for new ones.
        if poll == 0 {
            entries?.update(repeating: Entry(), count: Self.entryCount)
            poll = 1
        }
    }

    /// More may be deflated in this poll.
    var hasAllowance: Bool { byteCount < Self.byteCountPerPoll }

    // MARK: A piece

    /// Adds a run to the piece that is looked for. The others begin with `runs.count` before the first.
    @inline(__always)
    mutating func append(_ run: iovec) { runs.append(run) }

    /// Nothing is made of the runs from `first` on.
    mutating func drop(_ first: Int) { runs.keepFirst(first) }

    /// The piece of the runs from `first` on, if it was deflated in this poll with this window.
    mutating func find(first: Int, windowBits: Int) -> DeflatedPiece? {
        let hash = hash(first, windowBits)
        guard let entries else { return nil }
        let entry = entries[Int(truncatingIfNeeded: hash >> 32) & (Self.entryCount - 1)]
        let count = runs.count - first
        guard entry.poll == poll, entry.hash == hash, entry.windowBits == Int32(windowBits), entry.runCount == count
        else { return nil }
        for place in 0..<count {
            let (old, new) = (runs[entry.firstRun + place], runs[first + place])
            guard old.iov_base == new.iov_base, old.iov_len == new.iov_len else { return nil }
        }
        runs.keepFirst(first)
        return entry.piece
    }

    /// Deflates the runs from `first` on.
    ///
    /// - Parameters:
    ///   - isShared: it is kept for the other connections of this poll, and is of use only if it is smaller. The stream
    ///     was reset before.
    /// - Returns: nil: there is no room left in this poll.
    mutating func deflate(
        _ stream: OpaquePointer, first: Int, windowBits: Int, isShared: Bool
    ) -> DeflatedPiece? {
        let sourceByteCount = sourceByteCount(first)
        let bound = deflate_stream_bound(stream, sourceByteCount)
        guard roomUsed + bound <= Self.roomByteCount else { return nil }
        if room == nil { room = .allocate(byteCount: Self.roomByteCount, alignment: 64) }
        let output = room! + roomUsed
        var piece = DeflatedPiece(isText: true)
        var textState: UInt16 = 0
        for place in first..<runs.count {
            let run = runs[place]
            var written = bound - piece.byteCount
            let isDone = deflate_stream_run(
                stream, run.iov_base, run.iov_len, place == runs.count - 1, output + piece.byteCount, &written)
            invariant(isDone, "what is deflated fits the bound that zlib has given")
            piece.byteCount += written
            if piece.isText { piece.isText = TextCheck.check(run.iov_base, run.iov_len, &textState) }
        }
        piece.isText = piece.isText && textState == 0
        byteCount += sourceByteCount
        // With a context the reader needs it, however large it is.
        if !isShared || piece.byteCount < sourceByteCount {
            piece.bytes = UnsafeRawPointer(output)
            roomUsed += piece.byteCount
        }
        if isShared { remember(piece, first, windowBits) } else { runs.keepFirst(first) }
        return piece
    }

    private func sourceByteCount(_ first: Int) -> Int {
        var count = 0
        for place in first..<runs.count { count += runs[place].iov_len }
        return count
    }

    private mutating func remember(_ piece: DeflatedPiece, _ first: Int, _ windowBits: Int) {
        if entries == nil {
            entries = .allocate(capacity: Self.entryCount)
            entries!.initialize(repeating: Entry(), count: Self.entryCount)
        }
        let hash = hash(first, windowBits)
        entries![Int(truncatingIfNeeded: hash >> 32) & (Self.entryCount - 1)] = Entry(
            poll: poll, windowBits: Int32(windowBits), hash: hash, firstRun: first, runCount: runs.count - first,
            piece: piece)
    }

    private func hash(_ first: Int, _ windowBits: Int) -> UInt64 {
        var hash = UInt64(windowBits)
        for place in first..<runs.count {
            let run = runs[place]
            hash ^= UInt64(UInt(bitPattern: run.iov_base)) &+ UInt64(run.iov_len) << 48
            hash = hash &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 29
        }
        return hash
    }
}
