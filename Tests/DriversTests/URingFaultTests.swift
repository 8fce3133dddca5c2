#if URing
    import CURing
    import Glibc
    import IO
    import Slabs
    import Testing

    @testable import Drivers

    /// How the io_uring driver handles completions that are hard to cause. The tests pass them to the driver as the
    /// kernel would have written them.
    @Suite(.serialized)
    struct URingFaultTests {
        private static let slot = Slot(index: 1, generation: 1)

        /// A driver with one connection, and a client at its other end.
        private struct Fixture: ~Copyable {
            var driver: URingDriver
            let peers: WakeDirectory
            let client: Client

            static func make(_ mode: DriverOptions.ReceiveMode = .poll) throws -> Fixture {
                var options = DriverOptions()
                options.connectionCountMax = 16
                options.receiveMode = mode
                options.isRestricted = false
                let peers = try WakeDirectory(workerCount: 2)
                var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
                let client = try Client(port: group.port)
                let driver = try URingDriver(
                    options: options, listeners: [group.take(worker: 0)], wake: peers[0], peers: peers)
                var fixture = Fixture(driver: driver, peers: peers, client: client)
                try fixture.adopt()
                return fixture
            }

            private mutating func adopt() throws {
                var events: [Completion] = []
                let deadline = DriverBench.now + DriverBench.patienceNanoseconds
                while events.isEmpty, DriverBench.now < deadline { events = turn([], deadline: deadline) }
                try #require(events.map(\.kind) == [.accepted])
                _ = turn([Submission(.adopt, connection: URingFaultTests.slot, value: events[0].value)])
            }

            mutating func turn(_ requests: [Submission] = [], deadline: UInt64 = 0) -> [Completion] {
                var submissions = Batch<Submission>(capacity: 16)
                for request in requests { submissions.append(request) }
                var completions = Batch<Completion>(capacity: 16)
                driver.poll(submissions, deadline: deadline, completions: &completions)
                return (0..<completions.count).map { completions[$0] }
            }

            /// Passes the completion of an armed request to the driver. Returns the events that the driver reports.
            mutating func answer(
                _ operation: RingOperation, _ result: Int32, index: UInt32? = nil, flags: UInt32 = 0
            ) -> [Completion] {
                driver.armedCount += 1
                let userData =
                    index.map { UserData(operation, index: $0) } ?? UserData(operation, URingFaultTests.slot)
                var completions = Batch<Completion>(capacity: 16)
                driver.handle(RingCompletion(userData: userData, result: result, flags: flags), &completions)
                return (0..<completions.count).map { completions[$0] }
            }

            var state: URingConnection.State { driver.anyRecord(of: URingFaultTests.slot)?.pointee.state ?? [] }

            /// Whether the driver still receives bytes.
            mutating func receives(_ byteCount: Int) throws -> Bool {
                try client.send(pattern(byteCount))
                var received = 0
                let deadline = DriverBench.now + DriverBench.patienceNanoseconds
                while received < byteCount, DriverBench.now < deadline {
                    for event in turn([], deadline: deadline) where event.kind == .received {
                        received += Int(event.value)
                    }
                }
                return received == byteCount
            }

            consuming func end() { driver.shutDown() }
        }

        @Test func `a newcomer that is lost while it is accepted is counted, and the next one gets in`() throws {
            var fixture = try Fixture.make()
            for errorNumber in [ECONNABORTED, EPROTO] {
                #expect(fixture.answer(.accept, -errorNumber, index: 0).isEmpty)
                #expect(fixture.driver.listeners[0].isArmed)
            }
            #expect(fixture.driver.counters.acceptErrors == 2)
            #expect(fixture.answer(.accept, -ECANCELED, index: 0).isEmpty)
            #expect(fixture.driver.counters.acceptErrors == 2)
            fixture.end()
        }

        @Test func `a poll that found no memory, or was interrupted, is tried again`() throws {
            for errorNumber in [ENOMEM, EINTR] {
                var fixture = try Fixture.make()
                #expect(fixture.answer(.receivePoll, -errorNumber).isEmpty)
                #expect(fixture.state.contains(.isQueued))
                #expect(try fixture.receives(100))
                fixture.end()
            }
        }

        @Test func `a watch for failure that found no memory is looked at again`() throws {
            var fixture = try Fixture.make()
            for errorNumber in [ENOMEM, EINTR] {
                #expect(fixture.answer(.failurePoll, -errorNumber).isEmpty)
                #expect(fixture.state.contains(.isQueued))
                #expect(fixture.turn().isEmpty)
            }
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `a poll that failed leaves it to a receive to find out what has`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.receivePoll, -EIO).isEmpty)
            #expect(fixture.state.contains(.isReceiving))
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `a receive that was interrupted is tried again`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.receive, -EINTR).isEmpty)
            #expect(fixture.state.contains(.isQueued))
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `a receive that found no buffer is counted, and gets one`() throws {
            var fixture = try Fixture.make()
            fixture.driver.anyRecord(of: Self.slot)?.pointee.state.insert(.isLarge)
            #expect(fixture.answer(.receive, -ENOBUFS).isEmpty)
            #expect(!fixture.state.contains(.isLarge))
            #expect(fixture.driver.counters.receiveBufferExhausted == 1)
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test
        func `a multishot receive that found no large buffer goes on with small ones where large ones are scarce`()
            throws
        {
            var fixture = try Fixture.make(.multishot)
            let largeArmedCount = fixture.driver.largeArmedCount
            fixture.driver.anyRecord(of: Self.slot)?.pointee.state.insert(.isLarge)
            fixture.driver.largeArmedCount = fixture.driver.large.count
            let more = curing_cqe_more
            #expect(fixture.answer(.receiveMultishot, -ENOBUFS, flags: more).isEmpty)
            #expect(!fixture.state.contains(.isLarge))
            fixture.driver.largeArmedCount = largeArmedCount
            fixture.driver.armedCount -= 1  // it stays armed, and was so before
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `a receive that we cancelled is no failure`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.receive, -ECANCELED).isEmpty)
            #expect(!fixture.state.contains(.hasEnded))
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `the poll of the wake-up handle is armed again, unless we cancelled it`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.wakePoll, -ENOMEM).isEmpty)
            var isArmed = fixture.driver.wakeArmed
            #expect(isArmed)
            #expect(fixture.answer(.wakePoll, -ECANCELED).isEmpty)
            isArmed = fixture.driver.wakeArmed
            #expect(!isArmed)
            fixture.driver.armWake()
            fixture.peers[0].wake()
            #expect(
                fixture.turn([], deadline: DriverBench.now + DriverBench.patienceNanoseconds).map(\.kind) == [.woken])
            fixture.end()
        }

        // A plain descriptor with this number would belong to other code.
        @Test(.enabled(if: RingFeatures.hasDirectHere))
        func `a hand-off that failed is counted, and its file is closed`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.handOff, -ENFILE, index: 9).isEmpty)
            #expect(fixture.driver.counters.handOffErrors == 1)
            #expect(fixture.driver.ring.pendingCount > 0)
            fixture.end()
        }

        @Test(.enabled(if: RingFeatures.hasDirectHere))
        func `a shutdown for which the process has no descriptor is left to the kernel`() throws {
            var fixture = try Fixture.make()
            fixture.driver.anyRecord(of: Self.slot)?.pointee.state.insert(.isShuttingDown)
            #expect(fixture.answer(.install, -EMFILE).isEmpty)
            let deadline = DriverBench.now + DriverBench.patienceNanoseconds
            while fixture.state.contains(.isShuttingDown), DriverBench.now < deadline {
                _ = fixture.turn([], deadline: DriverBench.now + 1_000_000)
            }
            #expect(fixture.client.receive() == [])
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test(.enabled(if: RingFeatures.hasDirectHere))
        func `a descriptor for a shutdown that comes when the driver ends is closed`() throws {
            var fixture = try Fixture.make()
            if let record = fixture.driver.anyRecord(of: Self.slot) {
                fixture.driver.shutDownWrite(record, Self.slot, installs: true)
            }
            #expect(fixture.driver.ring.pendingCount == 1)
            let client = fixture.client
            fixture.end()
            // If it stayed open, the connection would stay open too.
            #expect(client.receive() == [])
        }

        @Test func `a file that did not arrive from another ring is no connection`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.handedOn, -ENFILE, index: 0).isEmpty)
            fixture.driver.armedCount -= 1
            #expect(fixture.driver.counters.accepts == 1)
            fixture.end()
        }

        @Test func `a worker whose ring is gone is woken by its eventfd`() throws {
            var fixture = try Fixture.make()
            #expect(fixture.answer(.wakePeer, -EBADFD, index: 1).isEmpty)
            fixture.driver.armedCount -= 1
            var event = pollfd(fd: fixture.peers[1].eventfd, events: Int16(POLLIN), revents: 0)
            #expect(poll(&event, 1, 0) == 1)
            fixture.end()
        }

        @Test func `a cancel that came too early or too late is repeated while its request lives`() throws {
            var fixture = try Fixture.make()
            fixture.driver.cancelReceive(fixture.driver.anyRecord(of: Self.slot)!, Self.slot)
            #expect(fixture.answer(.cancelReceive, -EALREADY).isEmpty)
            fixture.driver.armedCount -= 1
            #expect(!fixture.state.contains(.isReceiveEnding) && fixture.state.contains(.isQueued))
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `a send that the kernel had no memory for is one that found no room`() throws {
            var fixture = try Fixture.make()
            for errorNumber in [ENOBUFS, ENOMEM, EAGAIN] {
                #expect(fixture.answer(.send, -errorNumber).isEmpty)
                fixture.driver.armedCount -= 1
            }
            #expect(fixture.driver.failedSends.count == 3 && fixture.driver.failedSends[0].value == 0)
            #expect(fixture.driver.counters.shortSends == 3)
            fixture.driver.failedSends.removeAll()
            fixture.end()
        }

        @Test func `a connection is not reported closed before its zero-copy bytes are released`() throws {
            var fixture = try Fixture.make()
            let bytes: StaticString = "zero-copy"
            let request = Submission(
                .sendZeroCopy, connection: Self.slot, pointer: UnsafeRawPointer(bytes.utf8Start),
                byteCount: bytes.utf8CodeUnitCount)
            // The request is prepared. The test answers it before the kernel does.
            fixture.driver.carryOut(request)
            #expect(fixture.answer(.close, 0).isEmpty)
            let events = fixture.answer(.sendZeroCopy, -EPIPE, index: 1)
            #expect(events.map(\.kind) == [.sendReleased, .closed])
            #expect(events.first?.value == -EPIPE)
            fixture.driver.armedCount -= 1
            fixture.end()
        }

        @Test func `a submit that the kernel refused for now loses nothing`() throws {
            var fixture = try Fixture.make()
            for errorNumber in [EBUSY, EAGAIN, ENOMEM, EINTR] { fixture.driver.submitted(-errorNumber) }
            fixture.driver.submitted(3)
            #expect(try fixture.receives(100))
            fixture.end()
        }

        @Test func `set-up steps that the kernel refuses are explained`() throws {
            let ring = try Ring.make(entryCount: 8, completionEntryCount: 16, best: .deferred, isDisabled: false)
            #expect(try ring.makeFileTable(count: 8, countMin: 4) == 8)
            // A ring has one file table and one buffer ring per group, and can be restricted only before it is enabled.
            let table = #expect(throws: DriverError.self) { try ring.makeFileTable(count: 8, countMin: 4) }
            #expect(table?.errorNumber == EBUSY)
            let buffers = try ReceiveBuffers(count: 4, byteCount: 64, group: 1, ring: ring)
            let second = #expect(throws: DriverError.self) {
                _ = try ReceiveBuffers(count: 4, byteCount: 64, group: 1, ring: ring)
            }
            #expect(second?.errorNumber == EEXIST)
            let huge = #expect(throws: DriverError.self) {
                _ = try ReceiveBuffers(count: 4, byteCount: 1 << 56, group: 2, ring: ring)
            }
            #expect(huge?.reason == .noMemory)
            let restricted = #expect(throws: DriverError.self) {
                try URingDriver.restrict(ring, fileFlags: curing_file_direct, DriverOptions())
            }
            #expect(restricted?.errorNumber == EBADFD)
            _ = buffers.count
        }
    }
#endif
