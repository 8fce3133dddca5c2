import ArgumentParser
import Load

/// How the bytes of the load travel.
enum ClientTransport: String, CaseIterable, ExpressibleByArgument {
    case tcp, ws

    /// The beginning of the broker's listener.
    var scheme: String {
        switch self {
        case .tcp: ""
        case .ws: "ws://"
        }
    }

    /// The end of a server's name in tables.
    var suffix: String {
        switch self {
        case .tcp: ""
        case .ws: " ws"
        }
    }

    /// The path of the WebSocket. nil: none.
    var webSocketPath: String? {
        switch self {
        case .tcp: nil
        case .ws: "/ws"
        }
    }
}
