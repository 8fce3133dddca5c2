import IO

/// The drivers that the tests of a real broker run on.
public enum DriverUnderTest: String, CaseIterable, Sendable, CustomStringConvertible {
    #if URing
        case uring
    #endif
    case epoll
    /// The driver that the broker itself chooses, and clients that reach it by WebSocket, by TLS, or by WebSocket over
    /// TLS.
    case webSocket
    case tls
    case secureWebSocket

    /// The argument of `--driver`.
    var argument: String { transport.isPlain ? rawValue : "auto" }

    /// How the clients' frames travel.
    var transport: TransportKind {
        switch self {
        case .webSocket: .ws
        case .tls: .stomps
        case .secureWebSocket: .wss
        default: .stomp
        }
    }

    public var description: String { rawValue }

    /// The drivers that this build and this kernel have: the arguments of every test of a real broker.
    public static let available: [DriverUnderTest] = allCases.filter {
        $0.transport.isPlain && $0.absenceReason == nil
    }

    /// Why this kernel does not let the driver run; nil where it does.
    public var absenceReason: String? { Self.absenceReasons[self] }

    private static let absenceReasons: [DriverUnderTest: String] = {
        var reasons: [DriverUnderTest: String] = [:]
        for driver in allCases where driver != .epoll && driver.transport.isPlain {
            // The broker itself is asked, since only it knows what it needs. A broker that cannot start with epoll
            // either is broken, not lacking io_uring: then both drivers stay in, and their tests fail.
            do {
                _ = try BrokerProcess.shared(BrokerProcess.Settings(driver))
            } catch {
                guard (try? BrokerProcess.shared(BrokerProcess.Settings(.epoll))) != nil else { continue }
                reasons[driver] = "\(error)"
            }
        }
        return reasons
    }()
}
