import Glibc
import IO
import Slabs
import Synchronization
import Testing

@testable import Drivers

/// A path in a directory of its own, which goes with it.
final class SocketPath: Sendable {
    let directory: String
    let path: String

    init(_ name: String = "s.sock") throws {
        var template = Array("/tmp/stampede-test-XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!) != nil }
        try #require(made)
        directory = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        path = "\(directory)/\(name)"
    }

    deinit {
        unlink(path)
        rmdir(directory)
    }

    var status: stat? {
        var status = stat()
        return lstat(path, &status) == 0 ? status : nil
    }
}

struct UnixSocketFileTests {
    @Test func `the socket has its mode, whatever the umask, and goes with the broker`() throws {
        let place = try SocketPath()
        let old = umask(0o077)
        defer { umask(old) }
        for mode in [0o600, 0o660, 0o666] as [UInt32] {
            let file = try UnixSocketFile(UnixSocketOptions(path: place.path, mode: mode))
            let status = try #require(place.status)
            #expect(status.st_mode & S_IFMT == S_IFSOCK && status.st_mode & 0o777 == mode)
            #expect(status.st_uid == getuid())
            withExtendedLifetime(file) {}
        }
        #expect(place.status == nil)
    }

    @Test func `owner and group are names or numbers`() throws {
        let place = try SocketPath()
        let file = try UnixSocketFile(
            UnixSocketOptions(path: place.path, owner: "\(getuid())", group: "\(getgid())"))
        let status = try #require(place.status)
        #expect(status.st_uid == getuid() && status.st_gid == getgid())
        withExtendedLifetime(file) {}
        for options in [
            UnixSocketOptions(path: place.path + "3", owner: "\(getuid())"),
            UnixSocketOptions(path: place.path + "4", group: "\(getgid())"),
        ] {
            let file = try UnixSocketFile(options)
            var status = stat()
            #expect(lstat(options.path, &status) == 0 && status.st_uid == getuid() && status.st_gid == getgid())
            withExtendedLifetime(file) {}
        }
        let error = #expect(throws: DriverError.self) {
            _ = try UnixSocketFile(UnixSocketOptions(path: place.path + "2", group: "no-such-group"))
        }
        #expect(error?.description.contains("group \"no-such-group\" is not known") == true)
    }

    @Test func `who may not set an owner or a group is told why`() {
        for (owner, group) in [(nil, nil), (geteuid(), nil), (nil, getegid()), (geteuid(), getegid())]
            as [(UInt32?, UInt32?)]
        {
            #expect(
                "\(UnixSocketFile.ownerRefused("/s", EPERM, owner: owner, group: group))".contains(
                    "SystemCallFilter=@chown"))
        }
        for (owner, group) in [(geteuid() + 1, nil), (nil, 3_000_000_000), (geteuid(), 3_000_000_000)]
            as [(UInt32?, UInt32?)]
        {
            #expect("\(UnixSocketFile.ownerRefused("/s", EPERM, owner: owner, group: group))".contains("CAP_CHOWN"))
        }
    }

    @Test func `a socket that a killed broker left behind is replaced`() throws {
        let place = try SocketPath()
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let address = try #require(UnixAddress(place.path))
        #expect(address.withPointer { bind(fd, $0, $1) } == 0)
        close(fd)
        let before = try #require(place.status).st_ino
        let file = try UnixSocketFile(UnixSocketOptions(path: place.path))
        let after = try #require(place.status).st_ino
        #expect(after != before)
        withExtendedLifetime(file) {}
    }

    @Test func `a broker that listens is left alone`() throws {
        let place = try SocketPath()
        let first = try UnixSocketFile(UnixSocketOptions(path: place.path))
        let error = #expect(throws: DriverError.self) {
            _ = try UnixSocketFile(UnixSocketOptions(path: place.path))
        }
        #expect(error?.reason == .portTaken)
        #expect(place.status != nil)
        withExtendedLifetime(first) {}
    }

    @Test func `a file that is no socket stays, and so does the socket of a broker that came later`() throws {
        let place = try SocketPath()
        close(open(place.path, O_CREAT | O_WRONLY, 0o600))
        let error = #expect(throws: DriverError.self) {
            _ = try UnixSocketFile(UnixSocketOptions(path: place.path))
        }
        #expect(error?.description.contains("no socket") == true)
        unlink(place.path)
        var first: UnixSocketFile? = try UnixSocketFile(UnixSocketOptions(path: place.path))
        unlink(place.path)
        let second = try UnixSocketFile(UnixSocketOptions(path: place.path))
        _ = first
        first = nil
        #expect(place.status != nil)
        withExtendedLifetime(second) {}
    }

    @Test func `a directory that is missing, and a path that is too long, are explained`() throws {
        let place = try SocketPath()
        let missing = #expect(throws: DriverError.self) {
            _ = try UnixSocketFile(UnixSocketOptions(path: "\(place.directory)/none/s.sock"))
        }
        #expect(missing?.description.contains("directory does not exist") == true)
        let inFile = #expect(throws: DriverError.self) {
            _ = try UnixSocketFile(UnixSocketOptions(path: "/etc/passwd/s.sock"))
        }
        #expect(inFile?.description.contains("/etc/passwd/s.sock") == true)
        let long = place.directory + "/" + String(repeating: "x", count: 108)
        let error = #expect(throws: DriverError.self) { _ = try UnixSocketFile(UnixSocketOptions(path: long)) }
        #expect(error?.description.contains("107 bytes") == true)
    }

    @Test func `a path of the greatest length works`() throws {
        let directory = try SocketPath().directory
        let place = try SocketPath(String(repeating: "x", count: 106 - directory.utf8.count))
        #expect(place.path.utf8.count == 107)
        let file = try UnixSocketFile(UnixSocketOptions(path: place.path))
        _ = try Client(unix: place.path)
        withExtendedLifetime(file) {}
    }
}

extension DriverTests {
    @Test(arguments: DriverVariant.allCases)
    func `a Unix socket is accepted, echoes, half-closes and closes like TCP`(_ variant: DriverVariant) throws {
        let place = try SocketPath()
        let bench = try DriverBench(variant, unix: UnixSocketFile(UnixSocketOptions(path: place.path)))
        for round in 0..<20 {
            let client = try Client(unix: place.path)
            let slot = bench.newSlot()
            try bench.adopt(as: slot)
            // Also more than one receive takes.
            let count = round % 4 == 3 ? 100_000 : 5000
            try client.send(pattern(count))
            if round % 2 == 0 { client.endSending() }
            let events = try #require(
                bench.turns { events in
                    bench.received(events, by: slot).count == count
                        && (round % 2 == 1 || events.contains { $0.kind == .receiveEnded })
                })
            #expect(bench.received(events, by: slot) == pattern(count))
            #expect(bench.send(pattern(300), to: slot).isEmpty)
            #expect(try client.receive(exactly: 300) == pattern(300))
            if round % 3 == 0 { client.close() }
            #expect(bench.close(slot, isReset: round % 5 == 0) != nil)
            if round % 3 != 0 { #expect(client.receive() == []) }
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a peer of a Unix socket that goes without reading is told`(_ variant: DriverVariant) throws {
        let place = try SocketPath()
        let bench = try DriverBench(variant, unix: UnixSocketFile(UnixSocketOptions(path: place.path)))
        let client = try Client(unix: place.path)
        let slot = bench.newSlot()
        try bench.adopt(as: slot)
        #expect(bench.send(pattern(1000), to: slot).isEmpty)
        client.close()
        let events = try #require(
            bench.turns { $0.contains { $0.kind == .receiveFailed || $0.kind == .receiveEnded } })
        #expect(events.contains { $0.connection == slot })
        let result = bench.send(pattern(10), to: slot)
        #expect(result.first?.kind == .sendIncomplete && (result.first?.value ?? 0) < 0)
        #expect(bench.close(slot) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a full Unix socket takes the rest when its peer reads`(_ variant: DriverVariant) throws {
        let place = try SocketPath()
        let bench = try DriverBench(variant, unix: UnixSocketFile(UnixSocketOptions(path: place.path)))
        let client = try Client(unix: place.path)
        let slot = bench.newSlot()
        try bench.adopt(as: slot)
        let bytes = pattern(4 << 20)
        var sent = 0
        var received: [UInt8] = []
        for _ in 0..<10_000 where sent < bytes.count {
            let result = bench.send(Array(bytes[sent...]), to: slot)
            guard let incomplete = result.first(where: { $0.kind == .sendIncomplete }) else {
                sent = bytes.count
                break
            }
            try #require(incomplete.value >= 0)
            sent += Int(incomplete.value)
            // The kernel tells only when most of the buffer is free.
            while let more = client.receive(waits: false), !more.isEmpty { received += more }
            let awaited = bench.turns([Submission(.awaitWritable, connection: slot)]) {
                $0.contains { $0.kind == .writable }
            }
            try #require(awaited != nil)
        }
        #expect(sent == bytes.count)
        received += try client.receive(exactly: bytes.count - received.count)
        #expect(areEqual(received, bytes))
    }

    @Test(arguments: DriverVariant.allCases)
    func `the peer of a Unix socket has credentials and no address, that of TCP the reverse`(
        _ variant: DriverVariant
    ) throws {
        let place = try SocketPath()
        let bench = try DriverBench(variant, unix: UnixSocketFile(UnixSocketOptions(path: place.path))) {
            $0.findsPeerAddress = true
        }
        let client = try Client(unix: place.path)
        let events = try #require(bench.turns { $0.contains { $0.kind == .accepted } })
        let accepted = try #require(events.first { $0.kind == .accepted })
        #expect(accepted.origin.address == 0)
        let expected = PeerCredentials(processID: getpid(), userID: getuid(), groupID: getgid())
        let isKnown = !variant.lacksPeerAddress || !bench.driver.hasDirectDescriptors
        #expect(bench.driver.peerCredentials(ofAccepted: accepted.value) == (isKnown ? expected : nil))
        #expect(bench.driver.peerAddress(ofAccepted: accepted.value) == nil)
        let slot = bench.newSlot()
        bench.turn([Submission(.adopt, connection: slot, value: accepted.value)], deadline: 0)
        #expect(bench.driver.peerCredentials(of: slot) == (isKnown ? expected : nil))
        #expect(bench.driver.peerAddress(of: slot) == nil)
        withExtendedLifetime(client) {}
        let tcp = try DriverBench(variant)
        let (_, other) = try tcp.connect()
        #expect(tcp.driver.peerCredentials(of: other) == nil)
    }

    /// The other worker goes on when one has stopped to accept, and both are woken: each closes what it accepts.
    @Test(arguments: DriverVariant.allCases)
    func `several workers share a Unix socket`(_ variant: DriverVariant) throws {
        let place = try SocketPath()
        let file = try UnixSocketFile(UnixSocketOptions(path: place.path))
        let peers = try WakeDirectory(workerCount: 2)
        let bench = try DriverBench(variant, peers: peers, worker: 0, unix: file)
        let isStopping = Atomic(false)
        let acceptedCount = Atomic(0)
        try withThread {
            let other = try DriverBench(variant, peers: peers, worker: 1, unix: file)
            peers[0].wake()
            // The turn that refuses one client may accept the next.
            var refusals: [Submission] = []
            while !isStopping.load(ordering: .acquiring) {
                let events = refusals.isEmpty ? other.turn() : other.turn(refusals, deadline: 0)
                refusals = events.filter { $0.kind == .accepted }.map { Submission(.refuse, value: $0.value) }
                acceptedCount.wrappingAdd(refusals.count, ordering: .relaxed)
            }
        } whileRunning: {
            defer {
                isStopping.store(true, ordering: .releasing)
                peers[1].wake()
            }
            while !bench.turn().contains(where: { $0.kind == .woken }) {}
            var ownCount = 0
            for count in 0..<60 {
                // The last ten come when this worker has stopped to accept. Its ACCEPT may still take one.
                if count == 50 { bench.turn([Submission(.stopAccepting)], deadline: 0) }
                let client = try Client(unix: place.path)
                // Whichever worker has it closes it.
                var end: [UInt8]?
                for _ in 0..<1000 where end == nil {
                    for event in bench.turn([], deadline: 0) where event.kind == .accepted {
                        ownCount += 1
                        bench.turn([Submission(.refuse, value: event.value)], deadline: 0)
                    }
                    var wanted = pollfd(fd: client.fd, events: Int16(POLLIN), revents: 0)
                    if poll(&wanted, 1, 5) == 1 { end = client.receive() }
                }
                #expect(end == [])
            }
            #expect(ownCount + acceptedCount.load(ordering: .relaxed) == 60)
            #expect(acceptedCount.load(ordering: .relaxed) >= 9)
        }
    }
}
