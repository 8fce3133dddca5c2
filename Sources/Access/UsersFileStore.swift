import Glibc

/// The users file on disk, read and rewritten as a whole.
public enum UsersFileStore {
    public struct Failure: Error, Sendable {
        public let reason: String
    }

    /// The text at `path`. nil: there is no such file.
    public static func read(_ path: String) throws(Failure) -> String? {
        if access(path, F_OK) != 0, errno == ENOENT { return nil }
        switch AccessFile.read(path) {
        case .success(let file):
            guard let text = String(validating: file.bytes, as: UTF8.self) else {
                throw Failure(reason: "\(path): is not UTF-8 text")
            }
            return text
        case .failure(let failure): throw Failure(reason: "\(path): \(failure.reason)")
        }
    }

    /// Puts another text in its place, at once: a reader sees the old file or the new one. It is the owner's alone
    /// (mode 0600), and keeps its owner where this user may give it away.
    ///
    /// - Parameter old: what was read. nil: there was no file. A file that somebody else has changed since is left alone.
    public static func replace(_ path: String, _ old: String?, with text: String) throws(Failure) {
        // A link stays a link.
        let target = resolved(path)
        let temporary = "\(target).\(getpid())~"
        let fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard fd >= 0 else { throw failure(path, "cannot be written (its directory has to take another file)") }
        var isWritten = false
        defer {
            close(fd)
            if !isWritten { unlink(temporary) }
        }
        var status = stat()
        if stat(target, &status) == 0, status.st_uid != geteuid() || status.st_gid != getegid() {
            guard fchown(fd, status.st_uid, status.st_gid) == 0 else {
                throw failure(path, "belongs to another user (uid \(status.st_uid)); run this as that user, or as root")
            }
        }
        guard fchmod(fd, 0o600) == 0, write(text, to: fd), fsync(fd) == 0 else {
            throw failure(path, "cannot be written")
        }
        guard try read(path) == old else {
            throw Failure(reason: "\(path): was changed by somebody else meanwhile; run the command again")
        }
        guard rename(temporary, target) == 0 else { throw failure(path, "cannot be replaced") }
        isWritten = true
        let folder = open(parent(of: target), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder >= 0 {
            fsync(folder)
            close(folder)
        }
    }

    private static func failure(_ path: String, _ what: String) -> Failure {
        Failure(reason: "\(path): \(what): \(String(cString: strerror(errno)))")
    }

    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func write(_ text: String, to fd: Int32) -> Bool {
        var text = text
        return text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let count = Glibc.write(fd, rest.baseAddress!, rest.count)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { return false }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
            return true
        }
    }
}
