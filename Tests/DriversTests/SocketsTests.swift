import Glibc
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
            for (level, option) in [(Int32(IPPROTO_TCP), TCP_NODELAY), (SOL_SOCKET, SO_KEEPALIVE)] {
                var value: Int32 = 0
                var byteCount = socklen_t(MemoryLayout<Int32>.size)
                getsockopt(fd, level, option, &value, &byteCount)
                #expect(value != 0)
            }
            close(fd)
        }
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
