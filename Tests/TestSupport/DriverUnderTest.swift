/// The drivers that the tests of a real broker run on.
public enum DriverUnderTest: String, CaseIterable, Sendable, CustomStringConvertible {
    #if URing
        case uring
    #endif
    case epoll
    /// The driver that the broker itself chooses, and clients that reach it by WebSocket.
    case webSocket

    /// The argument of `--driver`.
    var argument: String { self == .webSocket ? "auto" : rawValue }

    public var description: String { rawValue }

    /// The drivers that this build and this kernel have: the arguments of every test of a real broker.
    public static let available: [DriverUnderTest] = allCases.filter {
        $0 != .webSocket && $0.absenceReason == nil
    }

    /// Why this kernel does not let the driver run; nil where it does.
    public var absenceReason: String? { Self.absenceReasons[self] }

    private static let absenceReasons: [DriverUnderTest: String] = {
        var reasons: [DriverUnderTest: String] = [:]
        for driver in allCases where driver != .epoll && driver != .webSocket {
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
