import IO
import STOMP
import Slabs
import Testing

@testable import Broker

/// Who is let in, who may be parsed now, and what is kept of frames cut short, without a worker.
@Suite("Session table")
struct SessionTableTests {
    typealias Pointer = UnsafeMutablePointer<Session>

    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Table {
        var part: SessionTable
        var memory: MemoryBudget
        var clock: UInt32 = 1_000

        init(worker: Int = 0, of workerCount: Int = 1, _ change: (inout Limits) -> Void = { _ in }) throws {
            var limits = Limits()
            limits.connectionCountMax = 100
            limits.messageMemoryByteCountMax = 8 << 20
            limits.bodyByteCountMax = 200_000
            change(&limits)
            part = try SessionTable(limits, worker: worker, of: workerCount, clock: clock, seed: 1)
            memory = try MemoryBudget(limits)
        }

        var liveCount: Int { part.liveCount }
        var waitingCount: Int { part.waitingCount }
        var hasWork: Bool { part.hasWork }
        var nobodyWaitsForRoom: Bool { part.nobodyWaitsForRoom }
        var inputByteCount: Int { memory.inputByteCount }
        var inUse: Int { memory.blocks.byteCountInUse }
        var inputIsTight: Bool { memory.inputIsTight }

        // Connections

        func accept(from address: UInt64 = 0, at listener: UInt8 = 0) -> AcceptOutcome {
            let listener = ListenerID(rawValue: listener)
            return part.admit(ConnectionOrigin(listener: listener, address: address), clock: clock)
        }
        /// nil: it is not let in.
        func admit(from address: UInt64 = 0) -> Pointer? {
            if case .admitted(let index) = accept(from: address) { return part[index] }
            return nil
        }
        func refusal(from address: UInt64 = 0) -> LimitKind? {
            if case .refused(let limit) = accept(from: address) { return limit }
            return nil
        }
        func connected() -> Pointer {
            let session = admit()!
            session.pointee.state = .connected
            return session
        }
        func remove(_ session: Pointer) { part.remove(session.pointee.index, memory: &memory) }
        func find(_ handle: Handle<Session>) -> Pointer? { part.find(handle) }
        func address(of session: Pointer) -> UInt64 { part.address(of: session.pointee.index) }
        func hasShrunk() -> Bool { part.hasShrunk() }

        // Input

        var largeCount: Int { part.inputs.largeCount }
        var admittedCount: Int { part.inputs.admittedCount }
        func keep(_ session: Pointer, _ bytes: [UInt8]) -> InputOutcome {
            bytes.withUnsafeBytes {
                part.inputs.keep(
                    session, $0.baseAddress!, $0.count, ParserState(), clock: clock, memory: &memory)
            }
        }
        func keep(_ session: Pointer, byteCount: Int) -> InputOutcome {
            keep(session, [UInt8](repeating: 7, count: byteCount))
        }
        func append(_ session: Pointer, _ bytes: [UInt8]) -> InputOutcome {
            bytes.withUnsafeBytes { part.inputs.append(session, $0.baseAddress!, $0.count, memory: &memory) }
        }
        func append(_ session: Pointer, byteCount: Int) -> InputOutcome {
            append(session, [UInt8](repeating: 7, count: byteCount))
        }
        func take(_ session: Pointer) -> InputInHand? { part.inputs.take(session, in: memory) }
        func giveBack(_ taken: InputInHand, behind consumed: Int, to session: Pointer) -> InputOutcome {
            part.inputs.giveBack(
                taken, behind: consumed, to: session, taken.parser, clock: clock, in: memory)
        }
        func release(_ taken: InputInHand) { part.inputs.release(taken, memory: &memory) }
        func since(_ session: Pointer) -> UInt32 { part.inputs.since(session, in: memory) }
        func isAdmitted(_ session: Pointer) -> Bool { part.inputs.isAdmitted(session, in: memory) }
        func stopParsing(_ session: Pointer) { part.stopParsing(session, memory: &memory) }
        func held(_ session: Pointer) -> [UInt8] {
            guard let taken = take(session) else { return [] }
            defer { _ = giveBack(taken, behind: 0, to: session) }
            return Array(UnsafeRawBufferPointer(start: taken.bytes, count: taken.byteCount))
        }
        /// Sessions on the list of large blocks, the most silent first.
        func silent() -> [Index<Session>] {
            (0..<largeCount).map { _ in
                defer { part.inputs.passOverMostSilent() }
                return part.inputs.mostSilent
            }
        }
        /// So many sessions with a frame of 100,000 bytes: nine of them make it tight.
        func large(_ count: Int) -> [Pointer] {
            (0..<count).map { _ in
                let session = connected()
                #expect(keep(session, byteCount: 100_000) == .listed)
                return session
            }
        }
        func slowFrames(looks: Int = 0) -> [Index<Session>] {
            var lookCount = looks
            var found: [Index<Session>] = []
            while let slow = part.nextSlowFrame(&lookCount, clock: clock, in: memory) {
                found.append(slow.session)
                stopParsing(part[slow.session])
            }
            return found
        }

        // Turns

        func suspend(_ session: Pointer) -> Bool { part.suspend(session) }
        func resumeReceiving(_ session: Pointer) -> Bool { part.resumeReceiving(session) }
        func resumeSoon(_ session: Pointer) { part.resumeSoon(session) }
        /// Those whose turn it is; each may do something that lets others go on.
        func resumed(_ body: (Pointer) -> Void = { _ in }) -> [Pointer] {
            var sessions: [Pointer] = []
            for _ in 0..<part.resumableCount {
                guard let session = part.nextToResume() else { continue }
                #expect(!session.pointee.flags.contains(.suspended))
                sessions.append(session)
                body(session)
            }
            return sessions
        }
        func wait(_ session: Pointer, for owner: UInt16? = nil, isTopic: Bool = false) {
            _ = part.suspend(session)
            part.waitForRoom(session, owner: owner, isTopic: isTopic)
        }
        func resumed(with room: Room) -> [Pointer] {
            part.resumeThoseWithRoom(room, in: memory)
            return resumed()
        }
        func resumeAllWhoWaitForRoom() { part.resumeAllWhoWaitForRoom() }

        // Ends

        func endLater(_ session: Pointer) { part.endLater(session) }
        func nextFailed() -> Pointer? { part.nextFailed() }
        func disconnectSoon(_ session: Pointer, for limit: LimitKind) {
            part.disconnectSoon(session, for: limit, encoding: .none)
        }
        func nextSlow() -> SlowSession? { part.nextSlow() }

        // Logins

        func keepLogin(_ session: Pointer, _ login: String) {
            Array(login.utf8).withUnsafeBytes { part.keepLogin(session, $0, memory: &memory) }
        }
        func login(_ session: Pointer) -> String {
            session.pointee.login == 0
                ? "" : String(decoding: LoginTable.text(session.pointee.login, in: memory), as: UTF8.self)
        }
        func fill() { while memory.hasBulk(0), memory.blocks.allocate(byteCount: 64 * 1024) != 0 {} }
    }

    private static let open = Room(isForQueues: true, isForTopics: true)

    // MARK: Coming and going

    @Test("A connection begins fresh, with a number that no other connection of any worker gets")
    func numbers() throws {
        let table = try Table(worker: 1, of: 3)
        let first = try #require(table.admit())
        guard case .admitted(let index) = table.accept(from: 0xA, at: 7) else { return #expect(Bool(false)) }
        let second = table.part[index]
        #expect(first.pointee.number == 2 && second.pointee.number == 5)
        #expect(second.pointee.state == .fresh && second.pointee.listener.rawValue == 7)
        #expect(second.pointee.index == index && second.pointee.since == 1_000 && second.pointee.lastReceived == 1_000)
        let handle = first.pointee.handle
        #expect(table.find(handle) == first)
        table.remove(first)
        #expect(table.find(handle) == nil && table.liveCount == 1)
        #expect(table.admit()?.pointee.number == 8)
        // No limit counts by address, so none is kept.
        #expect(table.address(of: second) == 0)
    }

    @Test("As many connections as there are records")
    func records() throws {
        let table = try Table { $0.connectionCountMax = 2 }
        let first = try #require(table.admit())
        #expect(table.admit() != nil)
        #expect(table.refusal() == .connections)
        table.remove(first)
        #expect(table.admit() != nil && table.refusal() == .connections)
    }

    @Test("As many connections in a second as are allowed, those counted that are refused for another reason")
    func rate() throws {
        let table = try Table {
            $0.connectionsPerSecondMax = 3
            $0.connectionsPerAddressMax = 1
        }
        table.clock = 1_999
        #expect(table.admit(from: 1) != nil)
        #expect(table.refusal(from: 1) == .connectionsPerAddress)
        #expect(table.admit(from: 2) != nil)
        #expect(table.refusal(from: 3) == .connectionsPerSecond)
        table.clock = 2_000
        for address in 3..<6 { #expect(table.admit(from: UInt64(address)) != nil) }
        #expect(table.refusal(from: 6) == .connectionsPerSecond)
        // The clock wraps.
        table.clock = UInt32.max - 100
        #expect(table.admit(from: 6) != nil)
        table.clock &+= 999
        #expect(table.admit(from: 7) != nil && table.admit(from: 8) != nil)
        #expect(table.refusal(from: 9) == .connectionsPerSecond)
        table.clock &+= 1
        #expect(table.admit(from: 9) != nil)
    }

    @Test("As many connections of an address as are allowed; those whose address is not known are no one's")
    func addresses() throws {
        let table = try Table { $0.connectionsPerAddressMax = 2 }
        let sessions = [table.admit(from: 5), table.admit(from: 5)].compactMap { $0 }
        #expect(sessions.count == 2 && table.refusal(from: 5) == .connectionsPerAddress)
        #expect(table.address(of: sessions[0]) == 5)
        #expect(table.admit(from: 6) != nil)
        for _ in 0..<5 { #expect(table.admit() != nil) }
        table.remove(sessions[0])
        #expect(table.admit(from: 5) != nil && table.refusal(from: 5) == .connectionsPerAddress)
    }

    @Test("After a burst, when less than half is left, its memory should go back: once")
    func burst() throws {
        let table = try Table { $0.connectionCountMax = 2_000 }
        let sessions = (0..<1_025).compactMap { _ in table.admit() }
        #expect(sessions.count == 1_025 && !table.hasShrunk())
        for session in sessions.prefix(513) { table.remove(session) }
        #expect(!table.hasShrunk())
        table.remove(sessions[513])
        #expect(table.hasShrunk() && table.hasShrunk())
        table.part.trim()
        #expect(!table.hasShrunk() && table.find(sessions[1_024].pointee.handle) != nil)
    }

    // MARK: Frames cut short

    @Test("What is kept grows as more arrives, keeps its bytes, and is released with the session")
    func growing() throws {
        let table = try Table()
        let session = table.connected()
        #expect(table.held(session) == [])
        var sent: [UInt8] = Array(0..<100)
        #expect(table.keep(session, sent) == .kept)
        var number: UInt8 = 100
        while sent.count < 300_000 {
            let more = [UInt8](repeating: number, count: sent.count)
            number &+= 1
            // Once it is large, it is on the list, and stays there.
            let before = table.largeCount
            let outcome = table.append(session, more)
            #expect(outcome == (table.largeCount > before ? .listed : .kept))
            sent += more
        }
        #expect(table.largeCount == 1 && table.held(session) == sent)
        #expect(Int(session.pointee.inputByteCount) == sent.count && table.inputByteCount == table.inUse)
        table.stopParsing(session)
        #expect(session.pointee.input == 0 && session.pointee.inputByteCount == 0)
        #expect(table.largeCount == 0 && table.inUse == 0 && table.inputByteCount == 0)
        #expect(table.keep(session, byteCount: 10) == .kept)
        table.remove(session)
        #expect(table.inUse == 0)
    }

    @Test("What is left behind whole frames moves to the front, and its time begins anew")
    func movingUp() throws {
        let table = try Table()
        let session = table.connected()
        #expect(table.keep(session, Array(0..<200)) == .kept)
        table.clock = 1_500
        var taken = try #require(table.take(session))
        // It is not the session's meanwhile: its end does not free it.
        #expect(table.take(session) == nil)
        table.stopParsing(session)
        #expect(table.inUse > 0)
        #expect(table.giveBack(taken, behind: 0, to: session) == .kept)
        #expect(table.since(session) == 1_000 && table.held(session) == Array(0..<200))
        taken = try #require(table.take(session))
        #expect(table.giveBack(taken, behind: 150, to: session) == .kept)
        #expect(table.since(session) == 1_500 && table.held(session) == Array(150..<200))
        table.clock = 1_700
        table.part.inputs.restart(session, clock: table.clock, in: table.memory)
        #expect(table.since(session) == 1_700)
        taken = try #require(table.take(session))
        table.release(taken)
        #expect(table.inUse == 0 && table.held(session) == [])
        // Without input there is nothing to restart.
        table.part.inputs.restart(session, clock: 0, in: table.memory)
    }

    @Test("Where there is no memory, what is kept stays as it is; the first bytes of a frame always find room")
    func noMemory() throws {
        let table = try Table()
        let sessions = table.large(31)
        let last = table.connected()
        #expect(table.keep(last, [1, 2, 3]) == .kept)
        #expect(table.keep(table.connected(), byteCount: 200_000) == .noMemory)
        let (inUse, block) = (table.inputByteCount, last.pointee.input)
        #expect(table.append(last, byteCount: 200_000) == .noMemory)
        #expect(table.held(last) == [1, 2, 3] && last.pointee.input == block && table.inputByteCount == inUse)
        #expect(table.keep(table.connected(), byteCount: 3_000) == .kept)
        #expect(table.append(sessions[0], byteCount: 200_000) == .noMemory)
        #expect(table.held(sessions[0]).count == 100_000)
        #expect(table.largeCount == 31)
    }

    @Test("Large blocks are listed from the one that has been silent longest")
    func order() throws {
        let table = try Table()
        let sessions = table.large(4)
        let places = sessions.map(\.pointee.index)
        #expect(table.silent() == places)
        // Bytes of the same frame do not change the order, nor does a block that moves.
        #expect(table.append(sessions[0], byteCount: 100_000) == .kept)
        #expect(table.silent() == places)
        let taken = try #require(table.take(sessions[1]))
        #expect(table.silent() == [places[0], places[2], places[3]])
        #expect(table.giveBack(taken, behind: 10, to: sessions[1]) == .listed)
        #expect(table.silent() == [places[0], places[2], places[3], places[1]])
        table.stopParsing(sessions[2])
        table.remove(sessions[3])
        #expect(table.silent() == [places[0], places[1]])
    }

    @Test("A block that is copied to a larger one keeps its place and its leave to grow")
    func copies() throws {
        let table = try Table()
        let small = table.connected()
        #expect(table.keep(small, byteCount: 10_000) == .listed)
        let others = table.large(9)
        table.wait(small)
        #expect(table.resumed(with: Self.open) == [small] && table.isAdmitted(small) && table.admittedCount == 1)
        let block = small.pointee.input
        #expect(table.append(small, byteCount: 20_000) == .kept)
        #expect(small.pointee.input != block)
        #expect(table.isAdmitted(small) && table.admittedCount == 1)
        #expect(table.silent() == [small.pointee.index] + others.map(\.pointee.index))
        table.stopParsing(small)
        #expect(table.admittedCount == 0 && table.largeCount == 9)
    }

    // MARK: While memory is short for them

    @Test("While it is tight, as many large frames go on at a time as fit, in their order, and one at least")
    func admission() throws {
        let table = try Table()
        let sessions = table.large(9)
        #expect(table.inputIsTight)
        let small = table.connected()
        #expect(table.keep(small, byteCount: 100) == .kept)
        for session in sessions.prefix(3) + [small] { table.wait(session) }
        // There is room for one more of the largest frames. Small ones, and those without input, need none.
        #expect(table.resumed(with: Self.open) == [sessions[0], small])
        #expect(table.isAdmitted(sessions[0]) && !table.isAdmitted(sessions[1]) && table.admittedCount == 1)
        // Its frame is whole: the next.
        table.release(try #require(table.take(sessions[0])))
        #expect(table.admittedCount == 0)
        #expect(table.keep(sessions[0], byteCount: 100_000) == .listed)
        _ = table.large(8)
        // No room at all: one, until it is done with.
        #expect(table.resumed(with: Self.open) == [sessions[1]])
        #expect(table.resumed(with: Self.open) == [])
        table.stopParsing(sessions[1])
        #expect(table.admittedCount == 0 && table.resumed(with: Self.open) == [sessions[2]])
        // The frame that was let go on is done with when what follows it has come to the front.
        #expect(table.giveBack(try #require(table.take(sessions[2])), behind: 1, to: sessions[2]) == .listed)
        #expect(table.admittedCount == 0 && table.nobodyWaitsForRoom)
    }

    @Test("Slow frames make way, the most silent first, until it is not tight")
    func slowFrames() throws {
        let table = try Table()
        let sessions = table.large(8)
        let places = sessions.map(\.pointee.index)
        table.clock += 5_000
        #expect(table.slowFrames() == [])
        let young = table.large(3)
        // 1 s, and 95 ms for 100,000 bytes.
        #expect(table.slowFrames() == Array(places.prefix(3)))
        #expect(!table.inputIsTight)
        _ = table.large(1)
        #expect(table.slowFrames() == [places[3]])
        for session in sessions[4..<8] { table.stopParsing(session) }
        _ = table.large(5)
        table.clock += 1_094
        #expect(table.slowFrames() == [])
        table.clock += 1
        #expect(table.slowFrames() == [young[0].pointee.index])
    }

    @Test("Those who are not read, or end, are passed over; so many are looked at")
    func notTheirFault() throws {
        let table = try Table()
        let sessions = table.large(10)
        let places = sessions.map(\.pointee.index)
        #expect(table.suspend(sessions[0]))
        sessions[1].pointee.state = .authenticating
        table.clock += 5_000
        #expect(table.slowFrames() == [places[2], places[3]])
        #expect(table.silent() == places[4...] + [places[0], places[1]])
        _ = table.large(2)
        for session in sessions[4...] { _ = table.suspend(session) }
        table.clock += 5_000
        // 62 looks were for others; two are passed over.
        #expect(table.slowFrames(looks: 62) == [])
        #expect(table.silent().first == places[6])
        #expect(table.slowFrames(looks: 64) == [])
    }

    // MARK: Suspended sessions

    @Test("Suspended sessions go on in the order in which they were put in line, once")
    func resuming() throws {
        let table = try Table()
        let sessions = (0..<4).map { _ in table.connected() }
        for session in sessions { #expect(table.suspend(session)) }
        // The driver is told once.
        #expect(!table.suspend(sessions[0]))
        #expect(!table.hasWork && table.resumed() == [])
        for session in [sessions[2], sessions[0], sessions[3], sessions[0]] { table.resumeSoon(session) }
        #expect(table.hasWork && table.waitingCount == 4)
        table.remove(sessions[3])
        #expect(table.resumed() == [sessions[2], sessions[0]])
        #expect(!table.hasWork && table.waitingCount == 0)
        #expect(sessions[1].pointee.flags.contains(.suspended))
        #expect(table.resumeReceiving(sessions[0]) && !table.resumeReceiving(sessions[0]))
        #expect(table.suspend(sessions[0]))
        table.resumeSoon(sessions[0])
        table.stopParsing(sessions[0])
        #expect(table.resumed() == [])
    }

    @Test("Who is put in line while others have their turn waits for the next")
    func nextTurn() throws {
        let table = try Table()
        let (first, second) = (table.connected(), table.connected())
        for session in [first, second] { _ = table.suspend(session) }
        table.resumeSoon(first)
        let turn = table.resumed { session in
            _ = table.suspend(session)
            table.resumeSoon(second)
            table.resumeSoon(session)
        }
        #expect(turn == [first] && table.waitingCount == 2)
        #expect(table.resumed() == [second, first])
    }

    @Test("A line keeps its order however it grows, and forgets those who had their turn")
    func lines() {
        var line = Line<Int>()
        var (next, expected) = (0, 0)
        for round in 0..<2_000 {
            for _ in 0...(round % 3) {
                line.append(next)
                next += 1
            }
            for _ in 0..<(round % 5 == 0 ? 4 : 2) {
                let taken = line.popFirst()
                if expected < next {
                    #expect(taken == expected)
                    expected += 1
                } else {
                    #expect(taken == nil)
                }
            }
            let count = line.count
            #expect(count == next - expected)
        }
        while let taken = line.popFirst() {
            #expect(taken == expected)
            expected += 1
        }
        let isEmpty = line.isEmpty
        #expect(isEmpty && expected == next)
    }

    // MARK: Waiting for room

    @Test("Those that wait go on when there is room for their kind of message; the others keep their places")
    func room() throws {
        let table = try Table()
        let sessions = (0..<5).map { _ in table.connected() }
        for session in sessions.prefix(4) {
            table.wait(session, isTopic: session == sessions[1] || session == sessions[3])
        }
        #expect(!table.nobodyWaitsForRoom && table.waitingCount == 4 && !table.hasWork)
        #expect(table.resumed(with: Room(isForQueues: false, isForTopics: false)) == [])
        #expect(table.resumed(with: Room(isForQueues: false, isForTopics: true)) == [sessions[1], sessions[3]])
        table.wait(sessions[4])
        // Those who left are forgotten though nobody can go on.
        table.remove(sessions[0])
        #expect(table.resumed(with: Room(isForQueues: false, isForTopics: false)) == [] && table.waitingCount == 2)
        #expect(table.resumed(with: Self.open) == [sessions[2], sessions[4]] && table.nobodyWaitsForRoom)
    }

    @Test("Who waits for a worker goes on when that one has room")
    func owners() throws {
        let table = try Table()
        let sessions = (0..<3).map { _ in table.connected() }
        table.wait(sessions[0], for: 1)
        table.wait(sessions[1], for: 127)
        table.wait(sessions[2])
        var room = Self.open
        room.fullWorkers.set(1, true)
        room.fullWorkers.set(127, true)
        #expect(table.resumed(with: room) == [sessions[2]])
        room.fullWorkers.set(127, false)
        #expect(table.resumed(with: room) == [sessions[1]])
        table.wait(sessions[1])
        table.resumeAllWhoWaitForRoom()
        #expect(table.nobodyWaitsForRoom && table.resumed() == [sessions[0], sessions[1]])
    }

    // MARK: Ends

    @Test("A session is cut once, for the first limit that it reached; what has ended meanwhile is no session")
    func ends() throws {
        let table = try Table()
        let sessions = (0..<3).map { _ in table.connected() }
        table.disconnectSoon(sessions[1], for: .outputStall)
        table.disconnectSoon(sessions[0], for: .outputBytes)
        table.disconnectSoon(sessions[1], for: .outputBytes)
        #expect(table.hasWork && table.waitingCount == 2 && sessions[1].pointee.flags.contains(.slow))
        let first = try #require(table.nextSlow())
        #expect(first.session == sessions[1].pointee.handle && first.limit == .outputStall)
        // While one is cut another may come.
        table.disconnectSoon(sessions[2], for: .outputBytes)
        #expect(table.nextSlow()?.session == sessions[0].pointee.handle)
        #expect(table.nextSlow()?.session == sessions[2].pointee.handle)
        #expect(table.nextSlow() == nil && !table.hasWork)

        table.endLater(sessions[2])
        table.endLater(sessions[0])
        table.remove(sessions[2])
        #expect(table.hasWork && table.part.hasFailed)
        #expect(table.nextFailed() == nil && table.nextFailed() == sessions[0])
        #expect(!table.part.hasFailed && table.nextFailed() == nil)
    }

    // MARK: Logins

    @Test("Connections share what is kept of a login, and the last one takes it along")
    func logins() throws {
        let table = try Table()
        let sessions = (0..<4).map { _ in table.connected() }
        table.keepLogin(sessions[0], "alice")
        table.keepLogin(sessions[1], "alice")
        table.keepLogin(sessions[2], "bob")
        table.keepLogin(sessions[3], "")
        #expect(sessions[0].pointee.login == sessions[1].pointee.login)
        #expect(sessions.map { table.login($0) } == ["alice", "alice", "bob", ""])
        let inUse = table.inUse
        table.remove(sessions[0])
        #expect(table.inUse == inUse && table.login(sessions[1]) == "alice")
        table.remove(sessions[1])
        #expect(table.inUse < inUse)
        let again = table.connected()
        table.keepLogin(again, "alice")
        #expect(table.login(again) == "alice" && table.inUse == inUse)
        for session in [again, sessions[2], sessions[3]] { table.remove(session) }
        #expect(table.inUse == 0)
    }

    @Test("A long login is cut; where memory is short there is none")
    func loginLimits() throws {
        let table = try Table()
        let (first, second, third) = (table.connected(), table.connected(), table.connected())
        let text = String(repeating: "x", count: LoginTable.byteCountMax)
        table.keepLogin(first, text + "1")
        table.keepLogin(second, text + "2")
        #expect(first.pointee.login == second.pointee.login && table.login(second) == text)
        table.fill()
        table.keepLogin(third, "other")
        #expect(third.pointee.login == 0)
        // One that is known needs no memory.
        let fourth = table.connected()
        table.keepLogin(fourth, text)
        #expect(table.login(fourth) == text)
    }

    @Test("Where many logins share the places for them, each connection still has its own")
    func loginCollisions() throws {
        let count = LoginTable.placeCount * 2
        let table = try Table { $0.connectionCountMax = count }
        let sessions = (0..<count).map { _ in table.connected() }
        for (number, session) in sessions.enumerated() { table.keepLogin(session, "login \(number)") }
        #expect(sessions.enumerated().allSatisfy { table.login($0.element) == "login \($0.offset)" })
        for session in sessions { table.remove(session) }
        #expect(table.inUse == 0 && table.liveCount == 0)
    }
}
