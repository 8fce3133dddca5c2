import Glibc
import IO
import Journal
import Slabs
import Testing

@testable import Broker

/// The part alone, with answers given by hand.
@Suite("Message store")
struct MessageStoreTests {
    private static let segmentByteCount = 1 << 14

    private final class Fixture {
        let store: UnsafeMutablePointer<MessageStore>
        var submissions = Batch<Submission>(capacity: 16)
        var now: UInt64 = 1_000_000_000
        /// Submitted and not answered.
        var pending: [Submission] = []

        init(_ change: (inout StorageOptions) -> Void = { _ in }) {
            var options = StorageOptions(directory: Array("/store".utf8), life: 3)
            options.segmentByteCount = MessageStoreTests.segmentByteCount
            change(&options)
            store = .allocate(capacity: 1)
            let hosts = HostStorage([], isOn: false, HostUsages(hostCount: 0))
            store.initialize(to: MessageStore(options, hosts, worker: 1, workerCount: 2, wallMilliseconds: 1))
        }

        deinit {
            store.deinitialize(count: 1)
            store.deallocate()
        }

        /// A turn's end.
        func advance(isAwaited: Bool = true) {
            store.pointee.advance(
                &submissions, at: Moment(now: now, clock: 0, wallMilliseconds: 1), isAwaited: isAwaited)
            for place in 0..<submissions.count { pending.append(submissions[place]) }
            submissions.removeAll()
        }

        /// Answers the oldest submission; errno: with that error.
        @discardableResult
        func answer(_ errno: Int32 = 0) -> Submission.Kind {
            let submission = pending.removeFirst()
            let kind: Completion.Kind
            switch submission.kind {
            case .openDirectory, .createFile, .openFile: kind = .fileOpened
            case .appendFile, .appendFileDurably: kind = .fileAppended
            case .allocateFile: kind = .fileAllocated
            case .syncFile: kind = .fileSynced
            case .deleteFile: kind = .fileDeleted
            case .renameFile: kind = .fileRenamed
            default: kind = .fileClosed
            }
            let value = kind == .fileAppended ? submission.value : 0
            let completion = Completion(
                kind, connection: submission.connection, value: errno == 0 ? value : -errno,
                pointer: submission.pointer, address: UInt64(submission.byteCount))
            if case .failed = store.pointee.answered(completion, &submissions, now: now) { store.pointee.didFail() }
            advance()
            return submission.kind
        }

        /// Answers all there is.
        func settle() {
            advance()
            for _ in 0..<200 where !pending.isEmpty { answer() }
        }

        @discardableResult
        func write(_ byteCount: Int) -> MessageReference {
            let content = [UInt8](repeating: 7, count: byteCount + 3)
            return Array("/queue/a".utf8).withUnsafeBytes { name in
                content.withUnsafeBytes {
                    store.pointee.write(
                        MessageRecord(
                            queueName: name, identity: 1, expiresAt: 0, flags: [], content: $0.baseAddress!,
                            headersByteCount: 0, bodyByteCount: byteCount))
                }
            }
        }

        func place(_ reference: MessageReference) -> StoredPlace {
            StoredPlace(
                position: reference.position, orderKey: reference.position, worker: reference.worker, host: 0,
                byteCount: 0,
                earlierSegment: -1)
        }
    }

    @Test("A segment is made in steps before anything is appended")
    func making() {
        let fixture = Fixture()
        fixture.advance()
        #expect(fixture.pending.map(\.kind) == [.openDirectory])
        fixture.write(100)
        fixture.advance()
        #expect(fixture.pending.map(\.kind) == [.openDirectory])
        var kinds: [Submission.Kind] = []
        while !fixture.pending.isEmpty, kinds.last != .appendFileDurably { kinds.append(fixture.answer()) }
        #expect(
            kinds == [
                .openDirectory, .createFile, .syncFile, .allocateFile, .appendFile, .syncFile, .appendFileDurably,
            ])
        let isDurable = fixture.store.pointee.isDurable
        #expect(isDurable)
    }

    @Test("One append is under way; what comes meanwhile goes out with the next")
    func gathering() {
        let fixture = Fixture()
        fixture.settle()
        fixture.write(100)
        fixture.advance()
        fixture.write(100)
        fixture.write(100)
        fixture.advance()
        #expect(fixture.pending.map(\.kind) == [.appendFileDurably])
        let first = fixture.store.pointee.durablePosition
        let gathered = fixture.store.pointee.gatheredPosition
        fixture.answer()
        let second = fixture.store.pointee.durablePosition
        #expect(second > first && second < gathered)
        #expect(fixture.pending.map(\.kind) == [.appendFileDurably])
        fixture.answer()
        let last = fixture.store.pointee.durablePosition
        #expect(last >= gathered && fixture.pending.isEmpty)
    }

    @Test("What nobody waits for goes out a moment later, or with what somebody waits for, or when much has gathered")
    func unawaited() {
        let fixture = Fixture { $0.stagedByteCountMax = 20_000 }
        fixture.settle()
        fixture.write(100)
        fixture.advance(isAwaited: false)
        #expect(fixture.pending.isEmpty)
        let dueAt = fixture.store.pointee.dueAt
        #expect(dueAt == fixture.now + 5_000_000)
        fixture.now = dueAt
        fixture.advance(isAwaited: false)
        #expect(fixture.pending.map(\.kind) == [.appendFileDurably])
        fixture.settle()
        fixture.write(100)
        fixture.advance(isAwaited: false)
        #expect(fixture.pending.isEmpty)
        fixture.write(100)
        fixture.advance(isAwaited: true)
        #expect(fixture.pending.map(\.kind) == [.appendFileDurably])
        fixture.settle()
        for _ in 0..<3 { fixture.write(4000) }
        fixture.advance(isAwaited: false)
        #expect(fixture.pending.first?.kind == .appendFileDurably)
        fixture.settle()
        // Then a mark, once.
        let markDueAt = fixture.store.pointee.dueAt
        #expect(markDueAt == fixture.now + 1_000_000_000)
        fixture.now = markDueAt
        fixture.advance(isAwaited: false)
        #expect(fixture.pending.map(\.kind) == [.appendFileDurably])
        fixture.settle()
        let rest = fixture.store.pointee.dueAt
        #expect(rest == .max)
    }

    @Test("What was acknowledged in a turn is one record at its end, and nobody is told before where it is")
    func acknowledgements() {
        let fixture = Fixture()
        fixture.settle()
        let references = (0..<3).map { _ in fixture.write(10) }
        fixture.settle()
        let before = fixture.store.pointee.staging.endPosition
        for reference in references { fixture.store.pointee.acknowledge(fixture.place(reference)) }
        let gathered = fixture.store.pointee.gatheredPosition
        #expect(gathered == .max)
        fixture.advance()
        let after = fixture.store.pointee.gatheredPosition
        // A mark, and one record.
        #expect(after == before + 2)
    }

    @Test("Segments in which nothing lives go from the front, after a mark says so on stable storage")
    func removal() {
        let fixture = Fixture { $0.reusesSegments = false }
        fixture.settle()
        var places: [StoredPlace] = []
        for _ in 0..<12 {
            places.append(fixture.place(fixture.write(4000)))
            fixture.settle()
        }
        let made = fixture.store.pointee.files.madeCount
        #expect(made >= 4)
        // The last of the first segment lives on: nothing goes.
        for place in places where place.position != places[2].position { fixture.store.pointee.acknowledge(place) }
        fixture.settle()
        var gone = fixture.store.pointee.removal.nextOwn
        #expect(gone == 0)
        fixture.store.pointee.acknowledge(places[2])
        fixture.advance()
        #expect(fixture.pending.map(\.kind) == [.appendFileDurably])
        var kinds: [Submission.Kind] = []
        while !fixture.pending.isEmpty { kinds.append(fixture.answer()) }
        // The mark is durable before the first name goes, and each name is gone for good before the next.
        #expect(kinds.prefix(3) == [.appendFileDurably, .appendFileDurably, .deleteFile])
        #expect(zip(kinds, kinds.dropFirst()).allSatisfy { $0 != .deleteFile || $1 == .syncFile })
        gone = fixture.store.pointee.removal.nextOwn
        #expect(gone >= 3)
    }

    /// A segment at the front is needed no more, and the one that is written is half full.
    private static func withSpare() -> (Fixture, answered: [Submission.Kind]) {
        let fixture = Fixture()
        fixture.settle()
        var places: [StoredPlace] = []
        while fixture.store.pointee.staging.sequence < 2 {
            places.append(fixture.place(fixture.write(4000)))
            fixture.settle()
        }
        for place in places.dropLast() { fixture.store.pointee.acknowledge(place) }
        fixture.settle()
        var answered: [Submission.Kind] = []
        while !answered.contains(.renameFile), answered.count < 100 {
            fixture.write(4000)
            fixture.advance()
            while !fixture.pending.isEmpty, answered.last != .renameFile { answered.append(fixture.answer()) }
        }
        return (fixture, answered)
    }

    @Test("A segment that is needed no more becomes the next one, and is not filled again")
    func reuse() {
        let (fixture, answered) = Self.withSpare()
        #expect(!answered.contains(.createFile) && !answered.contains(.deleteFile) && answered.last == .renameFile)
        // Of segments 0 and 1 one is gone, and the other is the next one.
        var gone = fixture.store.pointee.removal.nextOwn
        #expect(gone == 2)
        var kinds: [Submission.Kind] = []
        while !fixture.pending.isEmpty { kinds.append(fixture.answer()) }
        #expect(kinds.filter { $0 != .appendFileDurably } == [.openFile, .syncFile, .syncFile])
        let ahead = fixture.store.pointee.files.ahead
        #expect(ahead.stage == .ready && ahead.filledByteCount == Self.segmentByteCount)
        for _ in 0..<3 { fixture.write(4000) }
        fixture.settle()
        let isDurable = fixture.store.pointee.isDurable
        let current = fixture.store.pointee.files.current.sequence
        #expect(isDurable && current == ahead.sequence)
        gone = fixture.store.pointee.removal.nextOwn
        #expect(gone == 2)
    }

    @Test("Nothing else is removed before the directory is synced with the new name")
    func reuseAndRemoval() {
        let fixture = Self.withSpare().0
        let isUnderWay = fixture.store.pointee.removal.isUnderWay
        #expect(isUnderWay)
        while let next = fixture.pending.first, next.kind != .syncFile { fixture.answer() }
        let isStillUnderWay = fixture.store.pointee.removal.isUnderWay
        #expect(isStillUnderWay)
        fixture.answer()
        let isOver = !fixture.store.pointee.removal.isUnderWay
        #expect(isOver)
    }

    @Test("A segment that was renamed and cannot be opened for want of descriptors is opened later")
    func openingAgain() {
        let fixture = Self.withSpare().0
        while let next = fixture.pending.first, next.kind != .openFile { fixture.answer() }
        fixture.answer(EMFILE)
        var isShort = fixture.store.pointee.files.isShort
        #expect(isShort)
        while !fixture.pending.isEmpty { fixture.answer() }
        fixture.now += 200_000_000
        fixture.advance()
        #expect(fixture.pending.map(\.kind) == [.openFile])
        fixture.settle()
        isShort = fixture.store.pointee.files.isShort
        let stage = fixture.store.pointee.files.ahead.stage
        #expect(!isShort && stage == .ready)
    }

    @Test("Zeros that a segment gets no more are of no account for the one that is made", arguments: [2, 3, 4])
    func lateZeros(answeredCount: Int) {
        // A segment of which a part alone is filled ahead.
        let fixture = Fixture { $0.segmentByteCount = 32 << 20 }
        fixture.settle()
        fixture.write(20 << 20)
        // The appends wait for zeros; the log goes on in the next segment while one piece of them is under way.
        for _ in 0..<200 where fixture.store.pointee.files.ahead.stage != .ready { fixture.answer() }
        fixture.write(20 << 20)
        fixture.advance()
        for _ in 0..<answeredCount where !fixture.pending.isEmpty { fixture.answer() }
        if let fill = fixture.pending.firstIndex(where: { $0.kind == .appendFile }) {
            fixture.pending.swapAt(0, fill)
            fixture.answer(ENOSPC)
        }
        fixture.now += 200_000_000
        fixture.settle()
        for _ in 0..<3 {
            fixture.now += 200_000_000
            fixture.settle()
        }
        let isDurable = fixture.store.pointee.isDurable
        #expect(isDurable)
    }

    @Test("Where names cannot be changed, segments are made new, and those that are needed no more go")
    func noReuse() {
        let fixture = Fixture()
        fixture.settle()
        var kinds: [Submission.Kind] = []
        var places: [StoredPlace] = []
        for _ in 0..<40 {
            places.append(fixture.place(fixture.write(4000)))
            if places.count > 6 { fixture.store.pointee.acknowledge(places.removeFirst()) }
            fixture.advance()
            while let next = fixture.pending.first, kinds.count < 1000 {
                kinds.append(fixture.answer(next.kind == .renameFile ? EPERM : 0))
            }
        }
        #expect(kinds.filter { $0 == .renameFile }.count == 1)
        #expect(kinds.filter { $0 == .deleteFile }.count > 3)
        let left = fixture.store.pointee.files.madeCount - Int(fixture.store.pointee.removal.nextOwn)
        #expect(left <= 4)
    }

    @Test("Want of space is no failure, and is tried again", arguments: [Submission.Kind.createFile, .allocateFile])
    func shortage(kind: Submission.Kind) {
        let fixture = Fixture()
        fixture.advance()
        while fixture.pending[0].kind != kind { fixture.answer() }
        fixture.answer(ENOSPC)
        while !fixture.pending.isEmpty { fixture.answer() }
        var admission = fixture.store.pointee.admission(100)
        guard case .full = admission else { return #expect(Bool(false), "\(admission)") }
        fixture.now += 1_000_000_000
        fixture.settle()
        admission = fixture.store.pointee.admission(100)
        guard case .open = admission else { return #expect(Bool(false), "\(admission)") }
    }

    @Test("After an error nothing is submitted, and nothing becomes durable")
    func failure() {
        let fixture = Fixture()
        fixture.settle()
        fixture.write(10)
        fixture.advance()
        let before = fixture.store.pointee.durablePosition
        fixture.answer(EIO)
        fixture.store.pointee.acknowledge(fixture.place(MessageReference(position: 1, worker: 1)))
        fixture.advance()
        let after = fixture.store.pointee.durablePosition
        let gathered = fixture.store.pointee.gatheredPosition
        #expect(fixture.pending.isEmpty && after == before && gathered == .max)
        let admission = fixture.store.pointee.admission(10)
        guard case .failed = admission else { return #expect(Bool(false), "\(admission)") }
    }

    @Test("A transaction of several workers takes its steps in order, and pins the log until all have forgotten it")
    func transaction() {
        let fixture = Fixture()
        fixture.settle()
        var participants = PeerSet()
        participants.set(0, true)
        participants.set(1, true)
        let transaction = fixture.store.pointee.beginTransaction(participants)
        #expect(MessageStore.coordinator(of: transaction) == 1)
        let position = fixture.store.pointee.staging.endPosition
        fixture.write(10)
        fixture.store.pointee.opened(part: transaction, at: position, holdsReceipts: true)
        var step = fixture.store.pointee.nextStep()
        #expect(step == nil)
        fixture.settle()
        step = fixture.store.pointee.nextStep()
        #expect(step?.step == .durable)
        var confirmed = fixture.store.pointee.confirmedPosition
        #expect(confirmed == position)
        var next = fixture.store.pointee.answered(.durable, of: transaction)
        #expect(next == nil)
        next = fixture.store.pointee.answered(.durable, of: transaction)
        #expect(next?.step == .complete)
        fixture.store.pointee.complete(transaction)
        confirmed = fixture.store.pointee.confirmedPosition
        #expect(confirmed > position)
        fixture.settle()
        step = fixture.store.pointee.nextStep()
        #expect(step?.step == .ended)
        _ = fixture.store.pointee.answered(.ended, of: transaction)
        next = fixture.store.pointee.answered(.ended, of: transaction)
        #expect(next?.step == .forget)
        fixture.store.pointee.forget(transaction)
        let count = fixture.store.pointee.openParts.count
        let isEmpty = fixture.store.pointee.commits.isEmpty
        #expect(count == 0 && isEmpty)
    }
}
