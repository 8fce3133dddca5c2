#if URing
    internal import CURing
    import Glibc
    import IO
    import Slabs

    extension URingDriver {
        /// - Parameter features: the features that the driver uses. Tests remove some.
        init(
            options: DriverOptions, features: RingFeatures, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory
        ) throws(DriverError) {
            do throws(DriverError) {
                try self.init(ringFor: options, features, listeners, wake, peers)
            } catch {
                for fd in listeners { Glibc.close(fd) }
                throw error
            }
            peers.setRing(ring.fd, of: Int(wake.worker))
            if isPlain { peers.openInbox(of: Int(wake.worker)) }
            armWake()
            for index in self.listeners.indices { armAccept(index) }
            submitAll()
        }

        private init(
            ringFor options: DriverOptions, _ features: RingFeatures, _ listeners: [Int32], _ wake: WakeHandle,
            _ peers: WakeDirectory
        ) throws(DriverError) {
            let isRestricted = options.isRestricted && features.hasRestrictions
            var ring = try Ring.make(
                entryCount: options.submissionEntryCount, completionEntryCount: options.completionEntryCount,
                best: features.level, isDisabled: isRestricted)
            let limit = min(descriptorLimit(), 1 << 20)
            let wantedSlots =
                options.connectionCountMax > 0
                ? min(options.connectionCountMax + Self.handOffReserve, limit) : limit
            let slots = features.isPlain ? nil : try ring.makeFileTable(count: wantedSlots, countMin: 1)
            let small = try ReceiveBuffers(
                count: options.receiveBufferCount, byteCount: options.receiveBufferByteCount, group: 1, ring: ring)
            let large = try ReceiveBuffers(
                count: options.largeReceiveBufferCount, byteCount: options.largeReceiveBufferByteCount, group: 2,
                ring: ring)
            // A restricted ring does not allow it, so it comes first.
            ring.register()
            let fileFlags = features.isPlain ? curing_file_plain : curing_file_direct
            if isRestricted {
                try Self.restrict(ring, fileFlags: fileFlags, options)
            }
            let table = try ConnectionTable<URingConnection>(countMax: connectionIndexMax)
            self.ring = ring
            self.table = table
            largeInUseCount = large.count
            budget = ReceiveBudget(
                byteCountMax: max(large.count * large.byteCount, Self.receivesPerRoundMax * small.byteCount))
            self.small = small
            self.large = large
            self.options = options
            self.features = features
            self.wake = wake
            self.peers = peers
            self.isRestricted = isRestricted
            self.fileFlags = fileFlags
            connectionCountMax = Self.connectionCountMax(
                options: options, slotCount: slots, workerCount: peers.count)
            mode = features.hasMultishotReceive ? options.receiveMode : .poll
            promoted = PromotedList(countMax: options.promotedCountMax)
            promotionWindowMilliseconds = UInt64(max(options.promotionWindowMilliseconds, 1))
            demotionMilliseconds = UInt64(max(options.demotionMilliseconds, 1))
            nowMilliseconds = clock_coarse_milliseconds()
            sendBatchCount = max(options.sendBatchCount, 1)
            messages = .allocate(capacity: sendBatchCount)
            self.listeners = listeners.map { fd in
                var listener = Listener(fd: fd)
                if options.findsPeerAddress {
                    listener.address = .allocate(capacity: 1)
                    listener.address?.initialize(to: ListenerAddress())
                }
                return listener
            }
        }

        /// Restricts the ring to the operations that this driver uses, and enables it. An attacker who controls the
        /// ring cannot open files if the core uses none.
        static func restrict(
            _ ring: borrowing Ring, fileFlags: UInt8, _ options: DriverOptions
        ) throws(DriverError) {
            var operations = [
                IORING_OP_ACCEPT, IORING_OP_POLL_ADD, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_SENDMSG,
                IORING_OP_SEND_ZC, IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE, IORING_OP_MSG_RING,
            ]
            let isPlain = fileFlags == curing_file_plain
            operations += isPlain ? [IORING_OP_NOP] : [IORING_OP_SHUTDOWN, IORING_OP_URING_CMD]
            if options.opensConnections { operations += [IORING_OP_SOCKET, IORING_OP_CONNECT, IORING_OP_NOP] }
            if options.usesFiles {
                operations += [
                    IORING_OP_OPENAT, IORING_OP_WRITEV, IORING_OP_WRITE, IORING_OP_READ, IORING_OP_FALLOCATE,
                    IORING_OP_FSYNC, IORING_OP_UNLINKAT, IORING_OP_RENAMEAT,
                ]
            }
            var opcodes = operations.map { UInt8($0.rawValue) }
            if !isPlain { opcodes.append(UInt8(CURING_OP_FIXED_FD_INSTALL)) }
            let supported = opcodes.filter { curing_supports(ring.raw, Int32($0)) }
            var result = curing_restrict(ring.raw, supported, UInt32(supported.count), fileFlags)
            if result == 0 { result = curing_enable(ring.raw) }
            guard result == 0 else { throw DriverError.ring(step: "restricting the ring", errorNumber: -result) }
        }

        mutating func armWake() {
            guard !wakeArmed else { return }
            wakeArmed = true
            armedCount += 1
            // Edge-triggered: each write to the eventfd makes a completion, so the counter need not be read.
            curing_prepare_poll(
                nextEntry(), wake.eventfd, curing_file_plain, curing_poll_in, true, UserData(.wakePoll).rawValue)
        }

        /// Cancels all requests, waits for their last completions, and closes all descriptors.
        mutating func endEverything() {
            peers.setRing(-1, of: Int(wake.worker))
            for listener in listeners where listener.fd >= 0 { Glibc.close(listener.fd) }
            for index in listeners.indices { listeners[index].fd = -1 }
            endFiles()
            for position in stashHead..<stash.count { noteAtEnd(stash[position]) }
            // A cancel does not find a request that is between two attempts, so it is repeated.
            let attempts = 20
            for _ in 0..<attempts where armedCount > 0 {
                curing_prepare_cancel_everything(nextEntry(), UserData(.cancelEverything).rawValue)
                submitAll()
                drain()
            }
            if isPlain { return closePlainDescriptors() }
            // Closes the direct descriptors now. The kernel frees the ring itself some time later.
            _ = io_uring_unregister_files(ring.raw)
        }

        /// Waits for completions during the shut-down, 50 ms at most, and handles them.
        mutating func drain() {
            let waitNanoseconds: UInt64 = 50_000_000
            _ = ring.enter(completionCount: 1, timeout: waitNanoseconds)
            while let completion = ring.takeCompletion() {
                if !completion.hasMore, completion.userData.operation.isArmed { armedCount -= 1 }
                noteAtEnd(completion)
                endFile(completion)
                if completion.userData.operation == .install, completion.result >= 0 { Glibc.close(completion.result) }
            }
        }
    }

    extension RingOperation {
        /// Whether the request is counted in `armedCount`.
        fileprivate var isArmed: Bool {
            switch self {
            case .accept, .wakePoll, .receivePoll, .receive, .receiveMultishot, .failurePoll, .writablePoll,
                .sendZeroCopy, .shutdown, .install, .shutdownPlain, .close, .handOff, .socket, .connect:
                true
            case .ignored, .wakeMessage, .wakePeer, .send, .sendCounted, .cancelReceive, .cancelWritable,
                .cancelEverything, .cancelConnect, .handedOn, .selfTest, .peerName, .file:
                false
            }
        }
    }
#endif
