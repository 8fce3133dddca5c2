#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    /// The io_uring features of this kernel. A self-test finds them by using each of them once. Probes of opcodes do
    /// not show multishot requests or the flags of an operation, and the kernel version does not show which features a
    /// distribution has backported.
    struct RingFeatures: Sendable {
        var level: RingLevel
        /// Sockets are plain descriptors and not slots of the ring's file table.
        var isPlain = false
        /// Why they are plain, for the operator.
        var whyPlain = ""
        /// A complete send posts no completion, and an incomplete or failed one always posts one.
        var hasSilentSend = false
        var hasMultishotReceive = false
        var hasZeroCopySend = false
        /// SO_LINGER of a direct descriptor can be set (Linux 6.7 and later).
        var hasResetOnClose = false
        /// A plain descriptor can be made of a direct one (Linux 6.8 and later).
        var hasInstall = false
        /// A wait can end at a point in time and not only after a span (Linux 6.12 and later).
        var hasAbsoluteTimeout = false
        /// A wait for several completions can end earlier with one (Linux 6.12 and later).
        var hasMinWait = false
        var hasRestrictions = false

        /// Only the level. The self-test starts with it.
        init(assuming level: RingLevel) { self.level = level }

        /// The result for this process. The self-test runs once.
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

        /// The features that this kernel lacks and newer ones have.
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

        /// The short form for the log line "ready".
        var text: String {
            var names = [level.text]
            if isPlain { names.append("plain descriptors") }
            if !hasSilentSend { names.append("counted sends") }
            if !hasMultishotReceive { names.append("no multishot receive") }
            if hasMinWait { names.append("min-wait") }
            return names.joined(separator: ", ")
        }

        /// Tests a small ring on the calling thread. It takes some 25 system calls and less than a millisecond; 200 ms
        /// more if the kernel keeps closed sockets open.
        ///
        /// - Parameter keepsClosedOpen: for tests: behaves like such a kernel.
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
                    // The ring works, but not its direct descriptors.
                    guard descriptors == .auto, error.reason == .notSupported else { throw error }
                    why = error.description
                }
            }
            var test = try RingSelfTest(best: best, isPlain: true)
            self = try test.run(keepsClosedOpen: false)
            whyPlain = why
        }
    }

    /// Tests with a small ring the features that the driver uses.
    struct RingSelfTest: ~Copyable {
        private let ring: Ring
        private var buffers: ReceiveBuffers
        private var features = RingFeatures(assuming: .cooperative)
        private let listener: Int32
        private let client: Int32
        /// A pair of sockets. The ring closes `closing`, and `witness` must see the end at once.
        private var closing: Int32
        private let witness: Int32
        /// The accepted end of the connection: its index in the ring's file table, or its plain descriptor.
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
            // This test comes last. Its request stays armed, and other tests would mistake its completions for theirs.
            features.hasMultishotReceive = ring.level >= .singleIssuer && testMultishotReceive()
            features.hasMinWait = ring.raw.pointee.features & UInt32(CURING_FEAT_MIN_TIMEOUT) != 0
            features.hasRestrictions = testRestrictions()
            return features
        }

        /// A Unix listener with a name chosen by the kernel, a connection in its backlog, and a pair of sockets.
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

        /// Closes a socket while a POLL waits on another one. The peer of the closed socket must see the end at once.
        ///
        /// Before Linux 6.13 (commit 7029acd8a950) a ring releases closed direct descriptors in order, and not while an
        /// older request waits. So one idle client would keep the sockets of all clients open that disconnect after it.
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
            // Several short waits, because a signal may interrupt one.
            for _ in 0..<Self.closeWaitCount where !isSeen {
                isSeen = poll(&end, 1, Self.closeWaitMilliseconds) == 1
            }
            curing_prepare_cancel(curing_next(ring.raw), waiting, UserData(.selfTest).rawValue)
            return wait()?.userData.operation == .receivePoll && isSeen
        }

        private static let fileCount: Int32 = 4
        private static let closeWaitCount = 10
        private static let closeWaitMilliseconds: Int32 = 20

        /// Sends from the client's end, whose send buffer is small: a complete send, an incomplete one, and one that
        /// finds the socket full.
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

        /// The bytes of `testSilentSend` wait in the accepted end.
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
