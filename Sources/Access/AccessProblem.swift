import Glibc

/// One problem of the files of access in one line: "users.yaml:12: users.alice.roles: unknown role ...".
public struct AccessProblem: Sendable, Equatable, CustomStringConvertible {
    /// The key of the configuration that is to blame, or that names the file. nil: `place` says where to look.
    public let key: String?
    /// The file, with the line if there is one; or the key of the configuration.
    public let place: String
    /// "users.alice.hash". Empty: none.
    public let path: String
    public let text: String

    init(_ place: String, line: Int? = nil, path: String = "", _ text: String) {
        key = nil
        self.place = line.map { "\(place):\($0)" } ?? place
        self.path = path
        self.text = text
    }

    init(key: String, _ text: String) {
        self.key = key
        place = key
        path = ""
        self.text = text
    }

    public var description: String { path.isEmpty ? "\(place): \(text)" : "\(place): \(path): \(text)" }
}

/// All problems that were found. Never empty.
public struct AccessError: Error, Sendable, CustomStringConvertible {
    public let problems: [AccessProblem]

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// The bytes of a file that access needs.
struct AccessFile {
    var bytes: [UInt8]
    /// Who need not can read or write it: how that is ended. nil: nobody can.
    var exposure: String?

    static let byteCountMax = 64 << 20

    static func read(_ path: String) -> Result<AccessFile, KeyFailure> {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else {
            return .failure(
                "cannot be read: \(String(cString: strerror(errno))); allowed: a file that this user may read")
        }
        defer { close(fd) }
        var status = stat()
        guard fstat(fd, &status) == 0, status.st_mode & S_IFMT == S_IFREG || status.st_mode & S_IFMT == S_IFIFO else {
            return .failure("cannot be read: it is no file")
        }
        var bytes: [UInt8] = []
        while bytes.count <= byteCountMax {
            let start = bytes.count
            bytes.append(contentsOf: repeatElement(0, count: max(64 << 10, start / 2)))
            let count = bytes.withUnsafeMutableBytes { Glibc.read(fd, $0.baseAddress! + start, $0.count - start) }
            bytes.removeLast(bytes.count - start - max(count, 0))
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return .failure("cannot be read: \(String(cString: strerror(errno)))") }
            if count == 0 {
                return .success(AccessFile(bytes: bytes, exposure: exposure(status, path)))
            }
        }
        return .failure("cannot be read: it is larger than \(byteCountMax >> 20) MiB")
    }

    /// A file of somebody else can be read by a group of this process alone, so that is in order (systemd, DynamicUser=).
    fileprivate static func exposure(_ status: stat, _ path: String) -> String? {
        if status.st_uid == geteuid() {
            return status.st_mode & 0o077 == 0 ? nil : "others than its owner can read or write it; chmod 600 \(path)"
        }
        if status.st_mode & 0o037 == 0 { return nil }
        return "others than its owner and its group can read or write it; make a group of the broker's user its group, "
            + "and chmod 640 \(path)"
    }

    /// The file as a secret: without the line end that editors put behind it.
    var secret: [UInt8] {
        var secret = bytes
        if secret.last == UInt8(ascii: "\n") { secret.removeLast() }
        if secret.last == UInt8(ascii: "\r") { secret.removeLast() }
        return secret
    }
}

/// A file with a private key, which somebody else reads.
public enum KeyFile {
    /// Who need not can read or write it: how that is ended. nil: nobody can, or there is no such file.
    public static func exposure(of path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return AccessFile.exposure(status, path)
    }
}

/// `text` in quotes, cut to 80 characters, without characters that a terminal would take as commands.
func quoted(_ text: String) -> String {
    let shown = text.unicodeScalars.prefix(80).map { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) ? "?" : $0 }
    return "\"\(String(String.UnicodeScalarView(shown)))\"" + (text.unicodeScalars.count > 80 ? "..." : "")
}
