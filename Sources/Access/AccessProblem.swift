import Glibc

/// One problem of the files of access in one line: "users.yaml:12: users.alice.roles: unknown role ...".
public struct AccessProblem: Sendable, Equatable, CustomStringConvertible {
    /// The file, with the line if there is one; or the key of the configuration.
    public let place: String
    /// "users.alice.hash". Empty: none.
    public let path: String
    public let text: String

    init(_ place: String, line: Int? = nil, path: String = "", _ text: String) {
        self.place = line.map { "\(place):\($0)" } ?? place
        self.path = path
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
    /// Others than its owner may read it.
    var isReadableByOthers: Bool

    static let byteCountMax = 64 << 20

    static func read(_ path: String) -> Result<AccessFile, KeyFailure> {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else {
            return .failure("cannot be read: \(String(cString: strerror(errno))); allowed: a file of this user")
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
                return .success(AccessFile(bytes: bytes, isReadableByOthers: status.st_mode & 0o077 != 0))
            }
        }
        return .failure("cannot be read: it is larger than \(byteCountMax >> 20) MiB")
    }

    /// The file as a secret: without the line end that editors put behind it.
    var secret: [UInt8] {
        var secret = bytes
        if secret.last == UInt8(ascii: "\n") { secret.removeLast() }
        if secret.last == UInt8(ascii: "\r") { secret.removeLast() }
        return secret
    }
}

/// `text` in quotes, cut to 80 characters, without characters that a terminal would take as commands.
func quoted(_ text: String) -> String {
    let shown = text.unicodeScalars.prefix(80).map { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) ? "?" : $0 }
    return "\"\(String(String.UnicodeScalarView(shown)))\"" + (text.unicodeScalars.count > 80 ? "..." : "")
}
