import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

extension DriverTests {
    @Test(arguments: DriverVariant.allCases)
    func `megabytes reach a slow reader whole and in order`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        let message = pattern(8 << 20)
        var sentCount = 0
        var receivedBytes: [UInt8] = []
        var incompleteCount = 0
        var remaining = DriverBench.turnsMax
        while receivedBytes.count < message.count, remaining > 0 {
            remaining -= 1
            if sentCount < message.count {
                let events = bench.send(Array(message[sentCount...]), to: slot)
                if let incomplete = events.first(where: { $0.kind == .sendIncomplete }) {
                    #expect(incomplete.value >= 0)
                    incompleteCount += 1
                    sentCount += Int(incomplete.value)
                    func isWritable(_ events: [Event]) -> Bool {
                        events.contains { $0.kind == .writable && $0.connection == slot }
                    }
                    // The reader makes room, and only then is there a reason to be writable; unless the kernel has moved
                    // bytes to the reader's side by itself.
                    let early = bench.turn([Submission(.awaitWritable, connection: slot)], deadline: 0)
                    receivedBytes += try client.receive(exactly: sentCount - receivedBytes.count)
                    if !isWritable(early) { _ = try #require(bench.turns(until: isWritable)) }
                    continue
                }
                sentCount = message.count
            }
            receivedBytes += try client.receive(exactly: sentCount - receivedBytes.count)
        }
        #expect(areEqual(receivedBytes, message))
        #expect(incompleteCount > 0)
        #expect(bench.driver.counters.shortSends >= incompleteCount)
    }

    @Test(arguments: DriverVariant.allCases)
    func `what a poll could not send is reported before everything else of it`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (full, fullSlot) = try bench.connect()
        let (other, otherSlot) = try bench.connect()
        let message = pattern(4 << 20)
        var isFull = false
        for _ in 0..<100 where !isFull { isFull = !bench.send(message, to: fullSlot).isEmpty }
        #expect(isFull)
        try full.send(pattern(100))
        try other.send(pattern(100))
        full.endSending()
        var isFirst = false
        for _ in 0..<100 where !isFirst {
            let events = bench.send(message, to: fullSlot, deadline: bench.soon)
            let incomplete = try #require(events.firstIndex { $0.kind == .sendIncomplete })
            #expect(incomplete == 0)
            isFirst = events.count > 1
        }
        _ = otherSlot
    }

    @Test(arguments: DriverVariant.allCases)
    func `sends that are carried out ahead of a poll are over, and what was received stays`(
        _ variant: DriverVariant
    ) throws {
        let bench = try DriverBench(variant)
        let (full, fullSlot) = try bench.connect()
        let (other, otherSlot) = try bench.connect()
        let large = pattern(4 << 20)
        let small = pattern(1000)
        var isFull = false
        for _ in 0..<100 where !isFull { isFull = !bench.send(large, to: fullSlot).isEmpty }
        #expect(isFull)
        try other.send(pattern(500))
        _ = try #require(bench.turns { bench.received($0, by: otherSlot).count == 500 })
        try full.send(pattern(300))
        // More sends than a ring has entries for.
        let count = 5000
        large.withUnsafeBytes { large in
            small.withUnsafeBytes { small in
                let vectors = [
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: small.baseAddress!), iov_len: 400),
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: small.baseAddress! + 400), iov_len: 600),
                ]
                vectors.withUnsafeBytes { vectors in
                    var requests = [
                        Submission(
                            .sendVector, connection: otherSlot, value: Int32(small.count), pointer: vectors.baseAddress,
                            byteCount: 2)
                    ]
                    for _ in 0..<count {
                        requests.append(
                            Submission(
                                .send, connection: fullSlot, pointer: large.baseAddress, byteCount: large.count))
                    }
                    let early = bench.carryOut(requests)
                    #expect(early.count { $0.kind == .sendIncomplete && $0.connection == fullSlot } == count)
                    #expect(!early.contains { $0.connection == otherSlot })
                }
            }
        }
        #expect(areEqual(bench.received(bench.lastEvents, by: otherSlot), pattern(500)))
        #expect(areEqual(try other.receive(exactly: small.count), small))
        // Nothing of it is reported again, and what has come meanwhile is.
        let later = try #require(bench.turns { bench.received($0, by: fullSlot).count == 300 })
        #expect(!later.contains { $0.kind == .sendIncomplete })
    }

    @Test(arguments: DriverVariant.allCases)
    func `what is to be said of other submissions ahead of a poll is said with it at the latest`(
        _ variant: DriverVariant
    ) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        let bytes = pattern(100)
        let early = bytes.withUnsafeBytes { bytes in
            bench.carryOut([
                Submission(.send, connection: slot, pointer: bytes.baseAddress, byteCount: bytes.count),
                Submission(.close, connection: slot),
            ])
        }
        #expect(areEqual(try client.receive(exactly: bytes.count), bytes))
        func isClosed(_ events: [Event]) -> Bool {
            events.contains { $0.kind == .closed && $0.connection == slot }
        }
        if !isClosed(early) { _ = try #require(bench.turns(until: isClosed)) }
        #expect(client.receive(1)?.isEmpty == true)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a flood is received whole while others are served`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.promotionCount = 3 }
        let (flooder, floodSlot) = try bench.connect()
        let (other, otherSlot) = try bench.connect()
        let flood = pattern(6 << 20)
        let small = pattern(32)
        var offset = 0
        var bytes: [UInt8] = []
        var otherBytes: [UInt8] = []
        var sentOthers = 0
        let deadline = bench.soon
        while bytes.count < flood.count || otherBytes.count < sentOthers * 32, DriverBench.now < deadline {
            if offset < flood.count { offset += flooder.sendSome(flood[offset..<min(offset + 300_000, flood.count)]) }
            if sentOthers < 50 {
                try other.send(small)
                sentOthers += 1
            }
            let events = bench.turn()
            bytes += bench.received(events, by: floodSlot)
            otherBytes += bench.received(events, by: otherSlot)
            // No connection delivers without bound in one poll.
            #expect(bench.received(events, by: floodSlot).count <= 4 << 20)
        }
        #expect(areEqual(bytes, flood))
        #expect(areEqual(otherBytes, (0..<sentOthers).flatMap { _ in small }))
    }

    @Test(arguments: DriverVariant.allCases)
    func `while turns take long, floods take turns, and others are heard at once`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let floods = try (0..<16).map { _ in try bench.connect() }
        let (other, otherSlot) = try bench.connect()
        let pattern = pattern(1 << 20)
        var sentCounts = Array(repeating: 0, count: floods.count)
        var receivedCounts = Array(repeating: 0, count: floods.count)
        func turn() -> [Event] {
            for (number, (client, _)) in floods.enumerated() {
                let offset = sentCounts[number] % pattern.count
                sentCounts[number] += client.sendSome(pattern[offset..<min(offset + 100_000, pattern.count)])
            }
            let events = bench.turn(deadline: 0)
            for (number, (_, slot)) in floods.enumerated() {
                for byte in bench.received(events, by: slot) {
                    if byte != pattern[receivedCounts[number] % pattern.count] { Issue.record("a byte is wrong") }
                    receivedCounts[number] += 1
                }
            }
            // What the core would do with it.
            usleep(1500)
            return events
        }
        for _ in 0..<30 { _ = turn() }
        #expect(bench.driver.budget.isTight)
        let before = receivedCounts
        let byteCounts = (0..<60).map { _ in turn().reduce(0) { $0 + $1.bytes.count } }
        for number in floods.indices { #expect(receivedCounts[number] > before[number], "\(number) gets no turn") }
        if variant.takesTurns { #expect(byteCounts.max()! <= 4 * bench.driver.budget.byteCount) }
        try other.send([1, 2, 3])
        #expect(bench.received(turn(), by: otherSlot) + bench.received(turn(), by: otherSlot) == [1, 2, 3])
    }

    @Test(arguments: DriverVariant.allCases)
    func `newcomers who speak all at once are heard in turn, and others beside them`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (other, otherSlot) = try bench.connect()
        try other.send([1])
        #expect(bench.turns { bench.received($0, by: otherSlot) == [1] } != nil)
        let newcomers = try (0..<200).map { _ in try bench.connect() }
        for (client, _) in newcomers { try client.send([2, 3]) }
        try other.send([4])
        let slots = Set(newcomers.map(\.1.index))
        var heard: [UInt32] = []
        var wasOtherHeard = false
        for turn in 0..<DriverBench.turnsMax where heard.count < newcomers.count {
            let events = bench.turn().filter { $0.kind == .received }
            if turn < 3, !bench.received(events, by: otherSlot).isEmpty { wasOtherHeard = true }
            let indices = events.map(\.connection.index).filter(slots.contains)
            if variant.takesTurns { #expect(indices.count <= 16) }
            heard += indices
        }
        #expect(wasOtherHeard)
        #expect(heard.count == newcomers.count && Set(heard) == slots)
    }

    @Test(arguments: DriverVariant.allCases)
    func `pausing and resuming loses nothing, wherever it happens`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.promotionCount = 2 }
        let (client, slot) = try bench.connect()
        let message = pattern(2 << 20)
        var offset = 0
        var bytes: [UInt8] = []
        var isPaused = false
        var step = 0
        let deadline = bench.soon
        while bytes.count < message.count, DriverBench.now < deadline {
            step += 1
            let chunk = [1, 100, 2048, 5000, 70_000][step % 5]
            if offset < message.count {
                offset += client.sendSome(message[offset..<min(offset + chunk, message.count)])
            }
            var requests: [Submission] = []
            if step % 3 == 0 {
                isPaused.toggle()
                requests.append(Submission(isPaused ? .pauseReceive : .resumeReceive, connection: slot))
            }
            if step % 7 == 0 {
                requests.append(Submission(isPaused ? .resumeReceive : .pauseReceive, connection: slot))
                requests.append(Submission(isPaused ? .pauseReceive : .resumeReceive, connection: slot))
            }
            bytes += bench.received(bench.turn(requests, deadline: 0), by: slot)
        }
        if isPaused { bench.turn([Submission(.resumeReceive, connection: slot)], deadline: 0) }
        #expect(areEqual(bytes, message))
    }

    @Test(arguments: DriverVariant.allCases)
    func `a paused connection delivers nothing new until it is resumed`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        bench.turn([Submission(.pauseReceive, connection: slot)], deadline: 0)
        // What was under way when the pause was asked for may still come.
        bench.turn([], deadline: DriverBench.now + 1_000_000)
        try client.send(pattern(1000))
        for _ in 0..<5 {
            #expect(bench.received(bench.turn([], deadline: DriverBench.now + 1_000_000), by: slot).isEmpty)
        }
        let events = bench.turns([Submission(.resumeReceive, connection: slot)]) {
            bench.received($0, by: slot).count == 1000
        }
        #expect(events != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a vector is sent in one piece, and in part with the right count`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        let message = pattern(64 * 1000)
        func sendVector() -> [Event] {
            message.withUnsafeBytes { bytes in
                let vectors = (0..<64).map { place in
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress! + place * 1000), iov_len: 1000)
                }
                return vectors.withUnsafeBytes { vectors in
                    bench.turn(
                        [
                            Submission(
                                .sendVector, connection: slot, value: 64_000, pointer: vectors.baseAddress,
                                byteCount: 64)
                        ], deadline: 0)
                }
            }
        }
        #expect(sendVector().isEmpty)
        let received = try client.receive(exactly: message.count)
        #expect(areEqual(received, message))
        var sentCount = 0
        for _ in 0..<1000 {
            if let incomplete = sendVector().first {
                #expect(incomplete.kind == .sendIncomplete)
                #expect(incomplete.value < 64_000)
                sentCount += Int(incomplete.value)
                break
            }
            sentCount += 64_000
        }
        let bytes = try client.receive(exactly: sentCount)
        let expected = (0...sentCount / message.count).flatMap { _ in message }
        #expect(areEqual(bytes, Array(expected[..<sentCount])))
        #expect(client.receive(waits: false) == nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a zero-copy send is released with the count it took`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        let message = pattern(100_000)
        try message.withUnsafeBytes { bytes in
            for _ in 0..<5 {
                var events = bench.turn(
                    [
                        Submission(.sendZeroCopy, connection: slot, pointer: bytes.baseAddress, byteCount: bytes.count)
                    ], deadline: 0)
                // The kernel holds the bytes until the peer's has them.
                let received = try client.receive(exactly: 100_000)
                #expect(areEqual(received, message))
                if events.isEmpty { events = bench.turns { $0.contains { $0.kind == .sendReleased } } ?? [] }
                #expect(events.map(\.kind) == [.sendReleased])
                #expect(events.first?.connection == slot)
                #expect(events.first?.value == 100_000)
            }
        }
        #expect(bench.close(slot) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a zero-copy send to a full socket is released with no bytes, also when it is closed`(
        _ variant: DriverVariant
    ) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        let message = pattern(4 << 20)
        var isFull = false
        for _ in 0..<100 where !isFull { isFull = bench.send(message, to: slot).first?.value == 0 }
        #expect(isFull)
        try message.withUnsafeBytes { bytes in
            let events = bench.turns([
                Submission(.sendZeroCopy, connection: slot, pointer: bytes.baseAddress, byteCount: 1000),
                Submission(.close, connection: slot, value: 1),
            ]) { $0.contains { $0.kind == .closed } }
            let kinds = try #require(events).filter { $0.connection == slot }.map(\.kind)
            #expect(kinds == [.sendReleased, .closed])
            #expect(events?.first { $0.kind == .sendReleased }?.value == 0)
        }
        _ = client
    }

    @Test(arguments: DriverVariant.allCases)
    func `few receive buffers slow many senders down and lose nothing`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) {
            $0.receiveBufferCount = 2
            $0.receiveBufferByteCount = 512
            $0.largeReceiveBufferCount = 1
            $0.largeReceiveBufferByteCount = 1024
            $0.promotionCount = 2
        }
        var clients: [(Client, Slot)] = []
        for _ in 0..<40 { clients.append(try bench.connect()) }
        let message = pattern(10_000)
        var bytes: [UInt32: [UInt8]] = [:]
        for (client, _) in clients { try client.send(message) }
        let deadline = bench.soon
        while bytes.values.reduce(0, { $0 + $1.count }) < 40 * 10_000, DriverBench.now < deadline {
            for event in bench.turn() where event.kind == .received {
                bytes[event.connection.index, default: []] += event.bytes
            }
        }
        #expect(clients.allSatisfy { bytes[$0.1.index] == message })
    }
}
