/// The process at the other end of a Unix socket when it connected, as the kernel knows it (unix(7), SO_PEERCRED). The
/// client cannot forge it.
@frozen
public struct PeerCredentials: Equatable, BitwiseCopyable, Sendable, CustomStringConvertible {
    /// The process may have ended since, and its number may be another one's.
    public var processID: Int32
    public var userID: UInt32
    public var groupID: UInt32

    @inlinable
    public init(processID: Int32, userID: UInt32, groupID: UInt32) {
        self.processID = processID
        self.userID = userID
        self.groupID = groupID
    }

    /// As it is logged: "uid 1000, gid 1000, pid 4242".
    public var description: String { "uid \(userID), gid \(groupID), pid \(processID)" }
}
