import IO
import STOMP
import Slabs

// What the layer of transports finds out about a client, before its first frame.
extension Shard {
    mutating func identified(_ session: UnsafeMutablePointer<Session>, _ completion: Completion) {
        guard session.pointee.state == .fresh else {
            counters.staleCompletions &+= 1
            return
        }
        if completion.value != 0 {
            session.pointee.versions = VersionSet(rawValue: UInt8(truncatingIfNeeded: completion.value))
        }
        let address = completion.origin.address
        guard address != 0, !sessions.learnAddress(address, of: session.pointee.index) else { return }
        counters.limits.count(.connectionsPerAddress)
        counters.connectionsRefused &+= 1
        notice(.connectionRefused, session: session.pointee.index, reasonToRefuse(.connectionsPerAddress))
        close(session)
    }

    /// CONNECT lists none of the versions that may be spoken on this connection.
    mutating func refuseVersions(_ session: UnsafeMutablePointer<Session>) {
        let versions = session.pointee.versions
        let list = frame.rawValue(.acceptVersion).map { printable($0) } ?? "1.0 (no accept-version)"
        notice(.protocolError, session: session.pointee.index, "no common version in \(list)")
        writeError(
            session, Self.message(for: versions),
            versions == .all
                ? "accept-version lists none of the versions that this broker speaks"
                : "accept-version does not list the version that the WebSocket's subprotocol names",
            receipt: nil, versions: versions)
        end(session)
    }

    private static func message(for versions: VersionSet) -> StaticString {
        switch versions.rawValue {
        case 0b001: "Supported versions are 1.0"
        case 0b010: "Supported versions are 1.1"
        case 0b100: "Supported versions are 1.2"
        default: "Supported versions are 1.0,1.1,1.2"
        }
    }
}
