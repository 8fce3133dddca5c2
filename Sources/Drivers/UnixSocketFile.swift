internal import CURing
import Glibc
import IO

/// What to make of a Unix socket.
public struct UnixSocketOptions: Sendable, Equatable {
    /// Absolute, at most 107 bytes (unix(7)).
    public var path: String
    /// Permission bits. Whoever may write may connect.
    public var mode: UInt32
    /// A name or a number. Empty: the broker's own.
    public var owner: String
    public var group: String

    public init(path: String, mode: UInt32 = 0o660, owner: String = "", group: String = "") {
        self.path = path
        self.mode = mode
        self.owner = owner
        self.group = group
    }
}

/// A listening Unix socket and its file, which goes with the last reference.
///
/// The socket is bound to a name of its own, gets its owner and mode, listens, and is then renamed to its path. So no
/// client ever finds it with wrong permissions, or is refused because it does not listen yet. A file that is there is
/// replaced only if it is a socket on which nobody listens: one that a broker left behind when it was killed. The file
/// is removed at the end unless another process has replaced it.
public final class UnixSocketFile: Sendable {
    public let options: UnixSocketOptions
    private let fd: Int32
    private let device: dev_t
    private let node: ino_t

    public init(_ options: UnixSocketOptions) throws(DriverError) {
        self.options = options
        let path = options.path
        try Self.requireFree(path)
        // In the same directory, because rename(2) does not cross file systems.
        let temporary = "\(path).\(getpid())"
        guard let address = UnixAddress(temporary) ?? UnixAddress(path) else {
            throw Self.failure(path, ENAMETOOLONG, "its path is longer than \(UnixAddress.byteCountMax) bytes")
        }
        let isRenamed = UnixAddress(temporary) != nil
        let bound = isRenamed ? temporary : path
        // The name holds this process's number: only a process that had the same number can have left it behind.
        unlink(bound)
        let fd = try Self.bind(address, path)
        do throws(DriverError) {
            try Self.setPermissions(options, at: bound)
            guard listen(fd, Endpoint.backlog) == 0 else { throw Self.failure(path, errno) }
            var status = stat()
            guard lstat(bound, &status) == 0 else { throw Self.failure(path, errno) }
            guard !isRenamed || rename(bound, path) == 0 else { throw Self.failure(path, errno) }
            self.fd = fd
            device = status.st_dev
            node = status.st_ino
        } catch {
            unlink(bound)
            close(fd)
            throw error
        }
    }

    deinit {
        close(fd)
        var status = stat()
        guard lstat(options.path, &status) == 0, status.st_dev == device, status.st_ino == node else { return }
        unlink(options.path)
    }

    /// Descriptors of the listening socket, which the caller owns.
    func listeners(count: Int) throws(DriverError) -> [Int32] {
        var fds: [Int32] = []
        for _ in 0..<count {
            let copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)
            guard copy >= 0 else {
                let errorNumber = errno
                for fd in fds { close(fd) }
                throw Self.failure(options.path, errorNumber)
            }
            fds.append(copy)
        }
        return fds
    }

    // MARK: Steps

    /// Throws if there is something at `path` that must not be replaced.
    private static func requireFree(_ path: String) throws(DriverError) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw failure(path, errno)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw failure(path, EEXIST, "there is a file that is no socket; remove it or choose another path")
        }
        switch connectResult(path) {
        case ECONNREFUSED, ENOENT: return
        case 0, EAGAIN:
            // EAGAIN: its queue of connections is full.
            throw failure(path, EADDRINUSE, "another process listens there; stop it or choose another path")
        case let errorNumber: throw failure(path, errorNumber)
        }
    }

    /// Connects and closes again. 0, or an errno.
    private static func connectResult(_ path: String) -> Int32 {
        guard let address = UnixAddress(path) else { return ENAMETOOLONG }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return errno }
        defer { close(fd) }
        return address.withPointer { connect(fd, $0, $1) } == 0 ? 0 : errno
    }

    private static func bind(_ address: UnixAddress, _ path: String) throws(DriverError) -> Int32 {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw failure(path, errno) }
        guard address.withPointer({ Glibc.bind(fd, $0, $1) }) == 0 else {
            let errorNumber = errno
            close(fd)
            throw failure(path, errorNumber)
        }
        return fd
    }

    /// lchown(2) is refused, and what helps.
    static func ownerRefused(_ path: String, _ number: Int32, owner: UInt32?, group: UInt32?) -> DriverError {
        var remedy = "both are the broker's own, so a filter of system calls forbids lchown(2): SystemCallFilter=@chown"
        let isForeign = owner.map { $0 != geteuid() } ?? false
        if isForeign || group.map({ !Accounts.isOwn($0) }) ?? false {
            remedy = "the group must be one of the broker's (SupplementaryGroups=), and another owner needs CAP_CHOWN"
        }
        return failure(path, number, "its owner and group cannot be set: \(errorText(number)); \(remedy)")
    }

    private static func setPermissions(_ options: UnixSocketOptions, at bound: String) throws(DriverError) {
        let owner = try id(of: options.owner, "owner", options.path, Accounts.user)
        let group = try id(of: options.group, "group", options.path, Accounts.group)
        let unchanged = UInt32.max
        if owner != nil || group != nil {
            guard lchown(bound, owner ?? unchanged, group ?? unchanged) == 0 else {
                throw ownerRefused(options.path, errno, owner: owner, group: group)
            }
        }
        // The process's umask(2) does not apply to chmod(2).
        guard chmod(bound, options.mode) == 0 else { throw failure(options.path, errno) }
    }

    /// nil: the name is empty.
    private static func id(
        of name: String, _ option: String, _ path: String, _ find: (String) -> UInt32?
    ) throws(DriverError) -> UInt32? {
        if name.isEmpty { return nil }
        if let number = find(name) { return number }
        throw failure(path, ENOENT, "its \(option) \"\(name)\" is not known; see `getent passwd` and `getent group`")
    }

    private static func failure(_ path: String, _ errorNumber: Int32, _ reason: String? = nil) -> DriverError {
        let (kind, text): (DriverError.Reason, String) =
            switch errorNumber {
            case EADDRINUSE: (.portTaken, "another process has just made it")
            case EACCES, EPERM:
                (.noPermission, "no permission; the broker must be able to write to the directory and to the socket")
            case EROFS: (.noPermission, "its file system is read-only; choose a path below /run")
            case ENOENT, ENOTDIR:
                (.addressNotAvailable, "its directory does not exist; make it (RuntimeDirectory= of systemd)")
            case EMFILE, ENFILE: (.noDescriptors, "the process has no descriptors left; raise `ulimit -n`")
            case ENAMETOOLONG, EEXIST: (.addressMalformed, errorText(errorNumber))
            default: (.other, errorText(errorNumber))
            }
        return DriverError(kind, errorNumber: errorNumber, "cannot listen on unix:\(path): \(reason ?? text)")
    }
}

/// The address of a Unix socket with a path.
struct UnixAddress {
    /// unix(7): `sun_path` has 108 bytes, of which a NUL takes one.
    static let byteCountMax = 107

    private var storage = sockaddr_un()

    /// nil: the path is empty or too long.
    init?(_ path: String) {
        let count = path.utf8.count
        guard count > 0, count <= Self.byteCountMax else { return nil }
        storage.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &storage.sun_path) { $0.copyBytes(from: path.utf8) }
    }

    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafePointer(to: storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

/// The numbers of users and groups, from names or numbers in text.
private enum Accounts {
    static func user(_ name: String) -> UInt32? {
        if let number = UInt32(name) { return number }
        return getpwnam(name)?.pointee.pw_uid
    }

    static func group(_ name: String) -> UInt32? {
        if let number = UInt32(name) { return number }
        return getgrnam(name)?.pointee.gr_gid
    }

    /// Whether it is a group of this process: getgroups(2).
    static func isOwn(_ group: UInt32) -> Bool {
        if group == getegid() { return true }
        var groups = [gid_t](repeating: 0, count: max(0, Int(getgroups(0, nil))))
        let count = getgroups(Int32(groups.count), &groups)
        return groups.prefix(max(0, Int(count))).contains(group)
    }
}

/// The process at the other end of a Unix socket. nil: `fd` is another socket.
func peerCredentials(of fd: Int32) -> PeerCredentials? {
    var peer = socket_peer()
    guard socket_peer_credentials(fd, &peer) == 0 else { return nil }
    return PeerCredentials(peer)
}

extension PeerCredentials {
    /// nil: they are those that the kernel returns for sockets without credentials.
    init?(_ peer: socket_peer) {
        guard peer.user != .max else { return nil }
        self.init(processID: peer.process, userID: peer.user, groupID: peer.group)
    }
}
