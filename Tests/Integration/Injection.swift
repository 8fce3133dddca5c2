import Glibc
import TestSupport
import Testing

/// System calls of the epoll driver that fail, by strace(1). (What io_uring's operations answer cannot be changed from
/// outside; the simulator and DriversTests have those.)
///
/// EAGAIN is not among them: injected, it says that a socket is empty or full which is not, and no edge follows. No
/// kernel does that.
extension Integration {
    @Suite("Injected errors", .enabled(if: Strace.isPermitted, "needs strace, and the permission to trace"))
    struct Injection {
        /// The clients of a test may still be there when its broker ends.
        private static let settings = BrokerProcess.Settings(.epoll, ["limits.linger-ms": "50"])

        /// A call that fails now and then, and what the broker may not let anybody notice.
        @Test(arguments: [
            ("recvfrom", "ENOMEM"), ("recvfrom", "ENOBUFS"), ("recvfrom", "EINTR"),
            ("sendto", "ENOMEM"), ("sendto", "ENOBUFS"), ("sendto", "EINTR"),
            ("sendmsg", "ENOMEM"), ("sendmsg", "ENOBUFS"), ("sendmsg", "EINTR"),
            ("epoll_pwait2", "EINTR"), ("shutdown", "ENOTCONN"), ("setsockopt", "EINVAL"),
        ])
        func `A call that fails for the moment is made again, and nobody notices`(
            _ fault: (call: String, error: String)
        ) throws {
            let broker = try BrokerProcess(Self.settings)
            let honest = try HonestClients(broker)
            let strace = try Strace.inject("\(fault.call):error=\(fault.error):when=2+3", into: broker)
            for _ in 0..<5 {
                try honest.exchange(10)
                try RawClient(broker, .v1_2).disconnect()
            }
            try Strace.end(strace)
            try honest.exchange(20)
            #expect(try broker.terminate() == .exited(0))
        }

        /// Newcomers wait, and then come in.
        @Test(arguments: ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ECONNABORTED", "EINTR", "EPERM"])
        func `When accepting fails, newcomers come in a little later`(_ error: String) throws {
            let broker = try BrokerProcess(Self.settings)
            let honest = try HonestClients(broker)
            let strace = try Strace.inject("accept4:error=\(error):when=1+2", into: broker)
            for _ in 0..<3 {
                let newcomer = try RawClient(broker, .v1_2)
                try honest.exchange(20)
                try newcomer.expectNothing()
            }
            try Strace.end(strace)
            #expect(try broker.terminate() == .exited(0))
        }

        /// Re-watching the listener is among what fails.
        @Test(arguments: ["ENOMEM", "ENOSPC"])
        func `Without memory to watch them, newcomers are cut or wait, and who is in stays`(_ error: String) throws {
            let broker = try BrokerProcess(Self.settings)
            let honest = try HonestClients(broker)
            let strace = try Strace.inject(
                "epoll_ctl:error=\(error):when=1+3", "accept4:error=EMFILE:when=2+3", into: broker)
            var takenCount = 0
            for _ in 0..<6 {
                if (try? RawClient(broker, .v1_2)) != nil { takenCount += 1 }
                try honest.exchange(20)
            }
            #expect(takenCount > 0)
            try Strace.end(strace)
            try honest.exchange(20)
            try RawClient(broker, .v1_2).expectNothing()
            #expect(try broker.terminate() == .exited(0))
        }

        /// Those who are hit are gone; the broker forgets them, and what they held goes to others.
        @Test(arguments: [
            ("recvfrom", "ECONNRESET"), ("recvfrom", "ETIMEDOUT"), ("recvfrom", "EHOSTUNREACH"),
            ("sendto", "EPIPE"), ("sendto", "ECONNRESET"), ("sendmsg", "EPIPE"), ("sendmsg", "ETIMEDOUT"),
        ])
        func `A connection that fails is forgotten, and nothing it held is lost`(
            _ fault: (call: String, error: String)
        ) throws {
            let broker = try BrokerProcess(Self.settings)
            let publisher = try RawClient(broker, .v1_2)
            for index in 0..<20 { try publisher.publish(to: "/queue/injected", "\(index)") }
            publisher.close()
            let strace = try Strace.inject("\(fault.call):error=\(fault.error):when=3+4", into: broker)
            for _ in 0..<8 {
                guard let victim = try? RawClient(broker, .v1_2) else { continue }
                try? victim.subscribe(to: "/queue/injected", ack: "client-individual")
                try? victim.subscribe(to: "/topic/injected", id: "topic")
                _ = try? victim.publish(to: "/topic/injected", "x")
            }
            try Strace.end(strace)
            let reader = try RawClient(broker, .v1_2)
            try reader.subscribe(to: "/queue/injected")
            var bodies: Set<String> = []
            while bodies.count < 20 { bodies.insert(try reader.expectMessage().text) }
            let deadline = Deadline()
            while try broker.counters()["connections-now"] != 1 {
                try #require(!deadline.isOver, "connections that failed stay")
            }
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
