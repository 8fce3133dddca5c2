#if URing
    import CURing
    import Glibc
    import IO
    import Slabs
    import Testing

    @testable import Drivers

    @Suite(.serialized)
    struct URingTests {
        @Test func `records are as small as promised`() {
            #expect(MemoryLayout<URingConnection>.stride == 16)
            #expect(MemoryLayout<EpollDriver.Connection>.stride == 12)
        }

        @Test(arguments: RingLevel.allCases, DriverOptions.Descriptors.onThisKernel)
        func `every rung of the ladder passes the self-test`(
            _ level: RingLevel, _ descriptors: DriverOptions.Descriptors
        ) throws {
            let features = try RingFeatures(best: level, descriptors: descriptors)
            #expect(descriptors == .auto || features.isPlain == (descriptors == .plain))
            #expect(features.level == level)
            #expect(features.hasSilentSend)
            #expect(features.hasRestrictions)
            #expect(features.hasMultishotReceive == (level >= .singleIssuer))
        }

        @Test func `the probe tells what there is`() throws {
            let probe = URingProbe.run()
            #expect(probe.isAvailable)
            #expect(probe.reason.isEmpty)
            #expect(probe.lines.count > 5)
            #expect(try DriverChoice.auto.choose().kind == .uring)
            #expect(try DriverChoice.epoll.choose().kind == .epoll)
            #expect(try DriverChoice.uring.choose().kind == .uring)
        }

        @Test(arguments: RingLevel.allCases)
        func `where direct descriptors that are closed stay open, plain ones are taken, and it is said why`(
            _ level: RingLevel
        ) throws {
            func outcome(_ descriptors: DriverOptions.Descriptors) -> Result<RingFeatures, DriverError> {
                Result { () throws(DriverError) in
                    try RingFeatures(best: level, descriptors: descriptors, keepsClosedOpen: true)
                }
            }
            let reason = "stays open while other requests wait (before Linux 6.13)"
            let probe = URingProbe(outcome(.auto))
            #expect(probe.isAvailable && probe.isPlain)
            #expect(probe.level.contains("plain descriptors"))
            #expect(probe.features.contains { $0.hasPrefix("no ") && $0.contains(reason) })
            #expect(probe.features.contains { $0.contains("a newer kernel has: direct descriptors (Linux 6.13)") })
            #expect(try DriverChoice.uring.choose(by: probe).kind == .uring)
            let insisting = URingProbe(outcome(.direct))
            #expect(!insisting.isAvailable && insisting.reason.contains(reason))
            #expect(throws: DriverError.self) { try DriverChoice.uring.choose(by: insisting) }
            #expect(try DriverChoice.auto.choose(by: insisting).kind == .epoll)
        }

        @Test(arguments: RingLevel.allCases)
        func `without deferred task work auto takes epoll and says so`(_ level: RingLevel) throws {
            let probe = URingProbe(Result { () throws(DriverError) in try RingFeatures(best: level) })
            let choice = try DriverChoice.auto.choose(by: probe)
            #expect((choice.kind == .uring) == (level == .deferred))
            #expect((choice.kind == .epoll) == choice.reason.contains("without deferred task work"))
            #expect(try DriverChoice.uring.choose(by: probe).kind == .uring)
        }

        @Test func `plain descriptors that were asked for promise nothing of a newer kernel`() throws {
            let probe = URingProbe.run(descriptors: .plain)
            #expect(probe.isPlain && !probe.features.contains { $0.contains("Linux 6.13") })
            #expect(probe.lines.last?.contains("all workers together") == true)
        }

        @Test(arguments: [
            (ENOSYS, "ENOSYS"), (EPERM, "seccomp"), (ENOMEM, "ulimit -l"), (EINVAL, "6.1 or later"),
            (EMFILE, "ulimit -n"), (EIO, "errno 5"),
        ])
        func `a refused ring is explained`(_ errorNumber: Int32, _ word: String) {
            #expect(DriverError.ring(step: "io_uring_setup", errorNumber: errorNumber).description.contains(word))
        }

        @Test(arguments: DriverOptions.Descriptors.onThisKernel)
        func `a restricted ring refuses every other operation`(_ descriptors: DriverOptions.Descriptors) throws {
            var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
            let peers = try WakeDirectory(workerCount: 1)
            var options = DriverOptions()
            options.descriptors = descriptors
            let driver = try URingDriver(
                options: options, listeners: [group.take(worker: 0)], wake: peers[0], peers: peers)
            #expect(driver.level.contains("restricted"))
            #expect(driver.level.contains("registered ring"))
            curing_prepare(
                curing_next(driver.ring.raw), Int32(IORING_OP_OPENAT.rawValue), -1, 0, UserData(.selfTest).rawValue)
            #expect(driver.ring.submit() == 1)
            #expect(driver.ring.takeCompletion()?.result == -EACCES)
            if driver.isPlain {
                curing_prepare_shutdown_write(curing_next(driver.ring.raw), 0, UserData(.selfTest).rawValue)
                #expect(driver.ring.submit() == 1)
                #expect(driver.ring.takeCompletion()?.result == -EACCES)
            }
            #expect(io_uring_register_files_sparse(driver.ring.raw, 4) == -EACCES)
            driver.shutDown()
        }

        @Test func `a busy connection is promoted, and demoted when it falls silent`() throws {
            let bench = try DriverBench(.uringAdaptive) {
                $0.promotionCount = 3
                $0.promotionWindowMilliseconds = 10_000
                $0.promotedCountMax = 2
                $0.demotionMilliseconds = 20
            }
            var clients: [(Client, Slot)] = []
            for _ in 0..<3 { clients.append(try bench.connect()) }
            func talk() throws {
                for round in 0..<10 {
                    for (client, slot) in clients {
                        try client.send(pattern(64, seed: UInt8(round)))
                        let events = try #require(bench.turns { bench.received($0, by: slot).count >= 64 })
                        #expect(bench.received(events, by: slot) == pattern(64, seed: UInt8(round)))
                    }
                }
            }
            try talk()
            #expect(bench.driver.counters.promoted >= 2)
            let deadline = bench.soon
            while bench.driver.counters.demoted < bench.driver.counters.promoted, DriverBench.now < deadline {
                bench.turn([], deadline: DriverBench.now + 10_000_000)
            }
            #expect(bench.driver.counters.demoted == bench.driver.counters.promoted)
            try talk()
            for (_, slot) in clients { #expect(bench.close(slot) != nil) }
        }

        /// Before Linux 6.1 such a send with MSG_WAITALL may return -EAGAIN although it has taken bytes.
        @Test func `a send that always answers does not ask the kernel for all or nothing`() throws {
            let ring = try Ring.make(entryCount: 8, completionEntryCount: 16, best: .deferred, isDisabled: false)
            var message = msghdr()
            for isSilent in [true, false] {
                let one = try #require(curing_next(ring.raw))
                curing_prepare_send(one, 0, curing_file_direct, nil, 0, isSilent, 0)
                let several = try #require(curing_next(ring.raw))
                curing_prepare_send_vector(several, 0, curing_file_direct, &message, nil, 0, isSilent, 0)
                for entry in [one, several] {
                    #expect((entry.pointee.msg_flags & UInt32(MSG_WAITALL) != 0) == isSilent)
                }
            }
            let zeroCopy = try #require(curing_next(ring.raw))
            curing_prepare_send_zero_copy(zeroCopy, 0, curing_file_direct, nil, 0, 0)
            #expect(zeroCopy.pointee.msg_flags & UInt32(MSG_WAITALL) == 0)
        }

        @Test func `the address of a newcomer fits beside the operation that hands it on`() {
            var address = sockaddr_storage()
            withUnsafeMutableBytes(of: &address) { bytes in
                bytes.storeBytes(of: sa_family_t(AF_INET6), as: sa_family_t.self)
                for place in 8..<24 { bytes[place] = UInt8(place * 37 & 0xFF) }
            }
            let key = socket_address_key(&address)
            #expect(key >> 47 == 1)
            // Of a global address, the last 64 bits are the subscriber's to choose.
            for (first, isGlobal) in [(0x20, true), (0x3F, true), (0xFD, false), (0xFE, false)] as [(UInt8, Bool)] {
                withUnsafeMutableBytes(of: &address) { $0[8] = first }
                let before = socket_address_key(&address)
                withUnsafeMutableBytes(of: &address) { $0[23] ^= 1 }
                #expect((socket_address_key(&address) == before) == isGlobal)
                withUnsafeMutableBytes(of: &address) { $0[15] ^= 1 }
                #expect(socket_address_key(&address) != before)
            }
            for key in [key, 0x7F00_0001, 0] {
                let origin = ConnectionOrigin(listener: ListenerID(rawValue: 255), address: key)
                let userData = UserData(.handedOn, origin)
                #expect(userData.operation == .handedOn)
                #expect(userData.origin == origin && userData.origin.address == key)
            }
        }

        @Test(arguments: [
            DriverVariant.uringAdaptive, .uringPoll, .uringMultishot, .uringSingleIssuer, .uringCountedSends,
            .uringPlain, .uringPlainMultishot,
        ])
        func `an overflowing completion queue loses nothing`(_ variant: DriverVariant) throws {
            let bench = try DriverBench(variant) {
                $0.submissionEntryCount = 8
                $0.completionEntryCount = 16
            }
            var clients: [(Client, Slot)] = []
            for _ in 0..<200 { clients.append(try bench.connect()) }
            for round in 0..<3 {
                let message = pattern(100, seed: UInt8(round))
                for (client, _) in clients { try client.send(message) }
                var bytes: [UInt32: [UInt8]] = [:]
                let isComplete = bench.turns { events in
                    bytes = [:]
                    for event in events where event.kind == .received {
                        bytes[event.connection.index, default: []] += event.bytes
                    }
                    return bytes.values.reduce(0) { $0 + $1.count } >= 200 * 100
                }
                #expect(isComplete != nil)
                #expect(clients.allSatisfy { bytes[$0.1.index] == message })
            }
            // Failing sends complete at once, all in the same poll.
            for (client, _) in clients { client.reset() }
            #expect(bench.turns { $0.filter { $0.kind == .receiveFailed }.count == 200 } != nil)
            let events = pattern(10).withUnsafeBytes { bytes in
                bench.turn(
                    clients.map { Submission(.send, connection: $0.1, pointer: bytes.baseAddress, byteCount: 10) },
                    deadline: 0)
            }
            #expect(events.filter { $0.kind == .sendIncomplete && $0.value < 0 }.count == 200)
        }

        @Test(.enabled(if: RingFeatures.hasDirectHere), arguments: DriverVariant.uringOnly.filter { !$0.isPlain })
        func `a full table stops accepting until room was made`(_ variant: DriverVariant) throws {
            let bench = try DriverBench(variant) { $0.connectionCountMax = 8 }
            #expect(bench.driver.connectionCountMax == 8)
            var clients: [Client] = []
            var values: [Int32] = []
            var failure: Event?
            for _ in 0..<100 where failure == nil {
                clients.append(try Client(port: bench.port))
                for event in bench.turn() {
                    if event.kind == .accepted { values.append(event.value) }
                    if event.kind == .acceptFailed { failure = event }
                }
            }
            #expect(failure?.value == -ENFILE)
            #expect(values.count >= 8)
            bench.turn([Submission(.refuse, value: values[0])], deadline: 0)
            // The kernel closed the connection for which it found no slot. The next one waits in the backlog.
            clients.append(try Client(port: bench.port))
            #expect(bench.turn([], deadline: 0).isEmpty)
            let events = bench.turns([Submission(.resumeAccepting)]) { $0.contains { $0.kind == .accepted } }
            #expect(events != nil)
        }
    }

    extension RingFeatures {
        static var hasDirectHere: Bool { (try? ofThisKernel(.direct).get()) != nil }
    }

    extension DriverOptions.Descriptors {
        /// The levels that pass the self-test on this kernel.
        static var onThisKernel: [Self] { RingFeatures.hasDirectHere ? allCases : [.auto, .plain] }
    }
#endif
