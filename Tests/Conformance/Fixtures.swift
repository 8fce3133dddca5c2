import TestSupport
import Testing

/// The first argument of every case: it runs once on each driver that this build and this kernel have, and once with
/// clients that reach the broker by WebSocket.
let drivers = DriverUnderTest.available + [.webSocket, .tls, .secureWebSocket]

extension DriverUnderTest {
    /// The broker with default settings and one worker that the cases share. One worker, so that a RECEIPT to a
    /// publisher also says that subscribers' MESSAGEs are under way, and "nothing came" can be tested without waiting.
    func broker() throws -> BrokerProcess { try .shared(BrokerProcess.Settings(self)) }

    /// A broker with other settings, shared by the cases that ask for the same.
    func broker(_ values: [String: String], file: String = "") throws -> BrokerProcess {
        try .shared(BrokerProcess.Settings(self, values, file: file))
    }

    /// A connection without a session.
    func connection() throws -> RawClient { try RawClient(broker()) }

    /// A connection with a session.
    func client(
        _ version: ProtocolVersion = .v1_2, _ headers: KeyValuePairs<String, String> = [:],
        _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> RawClient {
        try RawClient(broker(), version, headers, fileID, line)
    }
}

extension RawClient {
    /// Sends bytes that are not to be processed, and a good SEND right behind them: it must have no effect either.
    func sendFaulty(_ text: String) throws {
        try send(text + "SEND\ndestination:/topic/behind-a-fault\nreceipt:behind\n\nno\0")
    }
}

/// Every pair of one of each: the testing library itself combines no more than two collections, and one is the drivers.
func pairs<First: Sendable, Second: Sendable>(_ first: [First], _ second: [Second]) -> [(First, Second)] {
    first.flatMap { one in second.map { (one, $0) } }
}

/// A malformed or otherwise refused input, named by what is wrong with it.
struct Fault: Sendable, CustomTestStringConvertible {
    var name: String
    var text: String

    init(_ name: String, _ text: String) {
        self.name = name
        self.text = text
    }

    var testDescription: String { name }
}

@Suite("The drivers")
struct Drivers {
    #if URing
        @Test(
            .enabled(
                if: DriverUnderTest.uring.absenceReason == nil,
                Comment(rawValue: DriverUnderTest.uring.absenceReason ?? "")))
        func `io_uring works here, so every case runs on it too`() {
            #expect(drivers.contains(.uring))
        }
    #endif

    @Test func `epoll works everywhere`() {
        #expect(drivers.contains(.epoll))
    }
}
