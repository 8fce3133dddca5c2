#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// What this kernel's io_uring can do, found by doing it once: opcode probes show neither multishot nor the flags
    /// of an operation, and distributions carry features back to old versions.
    struct RingFeatures: Sendable {
        var level: RingLevel
        /// Sockets are plain descriptors, not slots of the ring's table; and why, for the operator.
        var isPlain = false
        var whyPlain = ""
        /// A send that succeeds posts no completion, one that does not always posts one.
        var hasSilentSend = false
        var hasMultishotReceive = false
        var hasZeroCopySend = false
        /// A direct descriptor's SO_LINGER can be set (as of Linux 6.7).
        var hasResetOnClose = false
        /// A direct descriptor can be made a plain one (as of Linux 6.8).
        var hasInstall = false
        /// A wait can end at a point in time, not only after a span (as of Linux 6.12).
        var hasAbsoluteTimeout = false
        /// A wait for several completions can be cut short (as of Linux 6.12).
        var hasMinWait = false
        var hasRestrictions = false

        /// Nothing but the level: what the self-test starts from.
        init(assuming level: RingLevel) { self.level = level }

        /// The outcome for this process, found once.
        static func ofThisKernel(
            _ descriptors: DriverOptions.Descriptors = .auto
        ) -> Result<RingFeatures, DriverError> {
            switch descriptors {
            case .auto: automatic
            case .direct: direct
            case .plain: plain
            }
        }

        private static let automatic = outcome(.auto)
        private static let direct = outcome(.direct)
        private static let plain = outcome(.plain)

        private static func outcome(_ descriptors: DriverOptions.Descriptors) -> Result<RingFeatures, DriverError> {
            Result { () throws(DriverError) in try RingFeatures(best: .deferred, descriptors: descriptors) }
        }

        /// One line for each feature, for `stampede probe`.
        var lines: [String] {
            func line(_ isThere: Bool, _ name: String) -> String { "\(isThere ? "yes" : "no "): \(name)" }
            return [
                "level: \(level.text)",
                line(true, "multishot accept, provided-buffer rings"),
                line(!isPlain, "direct descriptors" + (isPlain ? "; plain ones are used: \(whyPlain)" : "")),
                line(hasSilentSend, "no completion for a send that succeeds (without it: one for each send)"),
                line(hasMultishotReceive, "multishot receive (Linux 6.0 and later; without it: poll, then receive)"),
                line(hasZeroCopySend, "zero-copy send (Linux 6.0 and later)"),
                line(
                    hasResetOnClose || isPlain,
                    isPlain ? "reset on close" : "reset on close (Linux 6.7 and later; without it: an orderly close)"),
                line(
                    hasInstall || isPlain,
                    isPlain
                        ? "shutdown without a worker thread"
                        : "shutdown without a worker thread (Linux 6.8 and later)"),
                line(hasAbsoluteTimeout && hasMinWait, "absolute time-outs and min-wait (Linux 6.12 and later)"),
                line(hasRestrictions, "restricted rings"),
            ] + gains.map { "a newer kernel has: \($0)" }
        }

        /// What this kernel lacks and a newer one has.
        private var gains: [String] {
            var gains: [String] = []
            if level < .deferred { gains.append("deferred task work (Linux 6.1): makes io_uring faster than epoll") }
            if !hasMultishotReceive {
                gains.append("multishot receive (Linux 6.0): less CPU for each message received")
            }
            if !hasAbsoluteTimeout || !hasMinWait {
                gains.append("min-wait (Linux 6.12): fewer system calls under load")
            }
            if isPlain, whyPlain != Self.askedFor {
                gains.append(
                    "direct descriptors (Linux 6.13): connections beyond RLIMIT_NOFILE, 3 % less CPU for each send")
            }
            return gains
        }

        static let askedFor = "io.uring.descriptors is plain"

        /// The short form for the ready line.
        var text: String {
            var names = [level.text]
            if isPlain { names.append("plain descriptors") }
            if !hasSilentSend { names.append("counted sends") }
            if !hasMultishotReceive { names.append("no multishot receive") }
            if hasMinWait { names.append("min-wait") }
            return names.joined(separator: ", ")
        }

        /// Tests a small ring on the calling thread: some 25 system calls, well under a millisecond, and a fifth of a
        /// second more where sockets that are closed stay open.
        ///
        /// - Parameter keepsClosedOpen: plays such a kernel, for tests.
        init(
            best: RingLevel, descriptors: DriverOptions.Descriptors = .auto, keepsClosedOpen: Bool = false
        ) throws(DriverError) {
            var why = Self.askedFor
            if descriptors != .plain {
                var test = try RingSelfTest(best: best, isPlain: false)
                do throws(DriverError) {
                    self = try test.run(keepsClosedOpen: keepsClosedOpen)
                    return
                } catch {
                    // The ring is there, and direct descriptors are what it cannot do as it should.
                    guard descriptors == .auto, error.reason == .notSupported else { throw error }
                    why = error.description
                }
            }
            var test = try RingSelfTest(best: best, isPlain: true)
            self = try test.run(keepsClosedOpen: false)
            whyPlain = why
        }
    }

    /// Plays through a small ring what the driver will rely on.
    struct RingSelfTest: ~Copyable {
        private let ring: Ring
        private var buffers: ReceiveBuffers
        private var features = RingFeatures(assuming: .cooperative)
        private let listener: Int32
        private let client: Int32
        /// A pair: one end is for the ring to close, the other one's peer is to see it closed.
        private var closing: Int32
        private let witness: Int32
        /// The accepted end of the connection: where it lies in the ring's table, or its descriptor.
        private var file: Int32 = -1
        private let fileFlags: UInt8

        private static let timeoutNanoseconds: UInt64 = 1_000_000_000

        init(best: RingLevel, isPlain: Bool) throws(DriverError) {
            let ring = try Ring.make(entryCount: 8, completionEntryCount: 32, best: best, isDisabled: false)
            for (bit, name) in [(1, "no-drop completions"), (8, "extended wait arguments"), (11, "silent success")]
            where ring.raw.pointee.features & 1 << bit == 0 {
                throw DriverError.ring(step: "missing feature: \(name)", errorNumber: 0)
            }
            if !isPlain { _ = try ring.makeFileTable(count: Int(Self.fileCount), countMin: Int(Self.fileCount)) }
            let buffers = try ReceiveBuffers(count: 4, byteCount: 4096, group: 1, ring: ring)
            let (listener, client, pair) = try Self.makeSockets()
            fileFlags = isPlain ? curing_file_plain : curing_file_direct
            self.ring = ring
            self.buffers = buffers
            self.listener = listener
            self.client = client
            (closing, witness) = pair
        }

        deinit {
            close(listener)
            close(client)
            close(closing)
            close(witness)
            if fileFlags == curing_file_plain, file >= 0 { close(file) }
        }

        mutating func run(keepsClosedOpen: Bool) throws(DriverError) -> RingFeatures {
            features.level = ring.level
            features.isPlain = fileFlags == curing_file_plain
            try accept()
            guard testCloseBesideWaiting(keepsClosedOpen: keepsClosedOpen) else {
                throw DriverError.ring(
                    step: "a closed direct descriptor stays open while other requests wait (before Linux 6.13)",
                    errorNumber: 0)
            }
            features.hasAbsoluteTimeout = ring.enter(completionCount: 1, timeout: 1, isAbsolute: true) == -ETIME
            if !features.isPlain {
                features.hasResetOnClose = testResetOnClose()
                features.hasInstall = testInstall()
            }
            features.hasSilentSend = testSilentSend()
            features.hasZeroCopySend = curing_supports(ring.raw, Int32(IORING_OP_SEND_ZC.rawValue))
            // Last: it stays armed, and its completions would be taken for those of other tests.
            features.hasMultishotReceive = ring.level >= .singleIssuer && testMultishotReceive()
            features.hasMinWait = ring.raw.pointee.features & UInt32(CURING_FEAT_MIN_TIMEOUT) != 0
            features.hasRestrictions = testRestrictions()
            return features
        }

        /// A local listener under a name that the kernel chooses, a connection in its backlog, and a pair.
        private static func makeSockets() throws(DriverError) -> (Int32, Int32, pair: (Int32, Int32)) {
            let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
            let listener = socket(AF_UNIX, kind, 0)
            let client = socket(AF_UNIX, kind, 0)
            var pair: (Int32, Int32) = (-1, -1)
            let hasPair = withUnsafeMutableBytes(of: &pair) { bytes in
                bytes.withMemoryRebound(to: Int32.self) { socketpair(AF_UNIX, kind, 0, $0.baseAddress) == 0 }
            }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            var byteCount = socklen_t(MemoryLayout<sa_family_t>.size)
            let isConnected = withUnsafeMutablePointer(to: &address) { address in
                address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    guard listener >= 0, client >= 0, hasPair, bind(listener, address, byteCount) == 0,
                        listen(listener, 1) == 0
                    else { return false }
                    byteCount = socklen_t(MemoryLayout<sockaddr_un>.size)
                    return getsockname(listener, address, &byteCount) == 0 && connect(client, address, byteCount) == 0
                }
            }
            guard isConnected else {
                let errorNumber = errno
                for fd in [listener, client, pair.0, pair.1] { close(fd) }
                throw DriverError.ring(step: "sockets for the self-test", errorNumber: errorNumber)
            }
            _ = socket_set_int(client, SOL_SOCKET, SO_SNDBUF, 4096)
            return (listener, client, pair)
        }

        private func wait() -> RingCompletion? {
            let deadline = clock_monotonic_nanoseconds() + Self.timeoutNanoseconds
            repeat {
                if let completion = ring.takeCompletion() { return completion }
                _ = ring.enter(completionCount: 1, timeout: Self.timeoutNanoseconds)
            } while ring.completionCount > 0 || clock_monotonic_nanoseconds() < deadline
            return nil
        }

        private mutating func accept() throws(DriverError) {
            curing_prepare_accept_multishot(curing_next(ring.raw), listener, fileFlags, UserData(.selfTest).rawValue)
            guard let completion = wait(), completion.result >= 0 else {
                throw DriverError.ring(
                    step: "no multishot accept (Linux 5.19 and later)", errorNumber: 0)
            }
            file = completion.result
        }

        /// While a POLL waits on one socket, another is closed: its peer has to see that at once.
        ///
        /// With direct descriptors before Linux 6.13 (commit 7029acd8a950) a ring lets go of the files taken out of its table in order, and of
        /// none while a request that is older waits: an idle client would keep the sockets of all that leave after it.
        private mutating func testCloseBesideWaiting(keepsClosedOpen: Bool) -> Bool {
            var closingFile = closing
            if fileFlags == curing_file_direct {
                closingFile = (file + 1) % Self.fileCount
                guard curing_put_file(ring.raw, UInt32(closingFile), closing) == 1 else { return false }
                if !keepsClosedOpen { close(closing) }
            }
            if !keepsClosedOpen { closing = -1 }
            let waiting = UserData(.receivePoll).rawValue
            curing_prepare_poll_receive(curing_next(ring.raw), file, fileFlags, waiting)
            curing_prepare_close(
                curing_next(ring.raw), closingFile, fileFlags, true, UserData(.selfTest).rawValue)
            _ = ring.submit()
            var end = pollfd(fd: witness, events: Int16(POLLIN), revents: 0)
            var isSeen = false
            // A wait that a signal interrupts is one of several.
            for _ in 0..<Self.closeWaitCount where !isSeen {
                isSeen = poll(&end, 1, Self.closeWaitMilliseconds) == 1
            }
            curing_prepare_cancel(curing_next(ring.raw), waiting, UserData(.selfTest).rawValue)
            return wait()?.userData.operation == .receivePoll && isSeen
        }

        private static let fileCount: Int32 = 4
        private static let closeWaitCount = 10
        private static let closeWaitMilliseconds: Int32 = 20

        /// From the client's end, whose send buffer was made small: success, success in part, no success at all.
        private func testSilentSend() -> Bool {
            let isPlain = fileFlags == curing_file_plain
            let clientFile = isPlain ? client : file == 0 ? 1 : 0
            guard isPlain || curing_put_file(ring.raw, UInt32(clientFile), client) == 1,
                let bytes = mmap(nil, Self.largeByteCount, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                bytes != MAP_FAILED
            else { return false }
            defer { munmap(bytes, Self.largeByteCount) }
            func send(_ byteCount: Int) -> [Int32] {
                curing_prepare_send(
                    curing_next(ring.raw), clientFile, fileFlags, bytes, UInt32(byteCount), true,
                    UserData(.selfTest).rawValue)
                _ = ring.submit()
                var results: [Int32] = []
                while let completion = ring.takeCompletion() { results.append(completion.result) }
                return results
            }
            guard send(8).isEmpty else { return false }
            let partial = send(Self.largeByteCount)
            guard partial.count == 1, partial[0] > 0, partial[0] < Self.largeByteCount else { return false }
            return send(8) == [-EAGAIN]
        }

        private static let largeByteCount = 1 << 20

        /// The accepted end has bytes of the send test waiting.
        private mutating func testMultishotReceive() -> Bool {
            curing_prepare_receive_multishot(
                curing_next(ring.raw), file, fileFlags, buffers.group, false, UserData(.selfTest).rawValue)
            guard socket_send(client, "ab", 2) != 0, let completion = wait() else { return false }
            return completion.result > 0 && completion.hasMore && completion.buffer != nil
        }

        private func testResetOnClose() -> Bool {
            guard curing_supports(ring.raw, Int32(IORING_OP_URING_CMD.rawValue)) else { return false }
            curing_prepare_reset_on_close(curing_next(ring.raw), file, UserData(.selfTest).rawValue)
            guard ring.submit() == 1 else { return false }
            return ring.takeCompletion() == nil
        }

        private func testInstall() -> Bool {
            guard curing_supports(ring.raw, Int32(CURING_OP_FIXED_FD_INSTALL)) else { return false }
            curing_prepare_install(curing_next(ring.raw), file, UserData(.selfTest).rawValue)
            let result = ring.submit() == 1 ? ring.takeCompletion()?.result ?? -EAGAIN : -EAGAIN
            return result >= 0 && socket_close(result) == 0
        }

        private func testRestrictions() -> Bool {
            guard let other = try? Ring.make(entryCount: 1, completionEntryCount: 2, best: ring.level, isDisabled: true)
            else { return false }
            return curing_restrict(other.raw, [UInt8(IORING_OP_SEND.rawValue)], 1, fileFlags) == 0
                && curing_enable(other.raw) == 0
        }
    }
#endif
