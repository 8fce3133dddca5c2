import Glibc
import IO
import Testing

@testable import Drivers

struct SocketsTests {
    @Test func `the workers of a listener share one free port`() throws {
        var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 3)
        #expect(group.port != 0)
        #expect(group.boundAddress == "127.0.0.1:\(group.port)")
        let fds = (0..<3).map { group.take(worker: $0) }
        #expect(Set(fds).count == 3)
        for fd in fds {
            #expect(Endpoint(boundTo: fd, named: "").port == group.port)
            #expect(Self.value(fd, Int32(IPPROTO_TCP), TCP_NODELAY) != 0)
            #expect(Self.value(fd, SOL_SOCKET, SO_KEEPALIVE) != 0)
            close(fd)
        }
    }

    @Test func `an accepted socket looks after its peer as the options say`() throws {
        for milliseconds in [0, 90_500] {
            var options = DriverOptions()
            options.keepaliveMilliseconds = milliseconds
            options.userTimeoutMilliseconds = 300_000
            options.unsentByteCountMax = 123_456
            var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1, options: options)
            let listener = group.take(worker: 0)
            defer { close(listener) }
            let client = try Client(port: group.port)
            defer { client.close() }
            let fd = accept(listener, nil, nil)
            defer { close(fd) }
            #expect((Self.value(fd, SOL_SOCKET, SO_KEEPALIVE) != 0) == (milliseconds > 0))
            if milliseconds > 0 {
                #expect(Self.value(fd, Int32(IPPROTO_TCP), TCP_KEEPIDLE) == 90)
                #expect(Self.value(fd, Int32(IPPROTO_TCP), TCP_KEEPINTVL) == 10)
            }
            #expect(Self.value(fd, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT) == 300_000)
            #expect(Self.value(fd, Int32(IPPROTO_TCP), TCP_NOTSENT_LOWAT) == 123_456)
        }
    }

    private static func value(_ fd: Int32, _ level: Int32, _ option: Int32) -> Int32 {
        var value: Int32 = 0
        var byteCount = socklen_t(MemoryLayout<Int32>.size)
        #expect(getsockopt(fd, level, option, &value, &byteCount) == 0)
        return value
    }

    @Test func `a second broker on the port is refused`() throws {
        let first = try ListenerGroup(address: "127.0.0.1:0", workerCount: 2)
        let error = #expect(throws: DriverError.self) {
            _ = try ListenerGroup(address: first.boundAddress, workerCount: 1, patienceMilliseconds: 40)
        }
        #expect(error?.reason == .portTaken)
        #expect(error?.description.contains("taken") == true)
    }

    @Test func `an IPv6 address is bound and written in brackets`() throws {
        let group = try ListenerGroup(address: "[::1]:0", workerCount: 1)
        #expect(group.boundAddress == "[::1]:\(group.port)")
    }

    @Test func `no host means every address, and a name is looked up`() throws {
        #expect(try ListenerGroup(address: ":0", workerCount: 1).boundAddress.hasPrefix("0.0.0.0:"))
        #expect(try ListenerGroup(address: "localhost:0", workerCount: 1).port != 0)
    }

    @Test(arguments: [
        "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1", "::1:61613", "[::1]", "[]:1",
        "[::1:1", "127.0.0.1:+1", "no.such.host.invalid:1",
    ])
    func `a malformed address is explained`(_ address: String) {
        let error = #expect(throws: DriverError.self) { _ = try ListenerGroup(address: address, workerCount: 1) }
        #expect(error?.reason == .addressMalformed)
    }

    @Test func `an address of another machine is refused`() {
        let error = #expect(throws: DriverError.self) { _ = try ListenerGroup(address: "192.0.2.1:0", workerCount: 1) }
        #expect(error?.reason == .addressNotAvailable)
        #expect(error?.errorNumber == EADDRNOTAVAIL)
    }

    @Test(arguments: [
        (EADDRINUSE, DriverError.Reason.portTaken), (EACCES, .noPermission), (EADDRNOTAVAIL, .addressNotAvailable),
        (EAFNOSUPPORT, .addressNotAvailable), (EMFILE, .noDescriptors), (ENFILE, .noDescriptors), (EIO, .other),
    ])
    func `an errno of binding has its reason and names the address`(
        _ errorNumber: Int32, _ reason: DriverError.Reason
    ) throws {
        let error = try Endpoint("127.0.0.1:80").error(errorNumber)
        #expect(error.reason == reason)
        #expect(error.errorNumber == errorNumber)
        #expect(error.description.contains("127.0.0.1:80"))
    }
}
