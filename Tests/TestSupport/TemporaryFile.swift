import Glibc

/// A directory for files of a test, such as Unix sockets, that lives as long as its owner.
public final class TemporaryDirectory: Sendable {
    public let path: String

    public init() throws {
        // Not in TMPDIR, which may be too long for the path of a Unix socket.
        var template = Array("/tmp/stampede-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failure("mkdtemp: errno \(errno)", at: Place(#fileID, #line)) }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Removes the directory and the files in it.
    deinit {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                unlink("\(path)/\(name)")
            }
            closedir(directory)
        }
        rmdir(path)
    }

    /// Whether there is a file with this name.
    public func contains(_ name: String) -> Bool { access("\(path)/\(name)", F_OK) == 0 }
}

/// A file that lives as long as its owner.
public final class TemporaryFile: Sendable {
    public let path: String

    public init(holding text: String, suffix: String = "") throws {
        let directory = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(directory)/stampede-test-XXXXXX\(suffix)".utf8CString)
        let file = mkstemps(&template, Int32(suffix.utf8.count))
        guard file >= 0 else { throw Failure("mkstemps: errno \(errno)", at: Place(#fileID, #line)) }
        defer { close(file) }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        guard write(file, text, text.utf8.count) == text.utf8.count else {
            throw Failure("write: errno \(errno)", at: Place(#fileID, #line))
        }
    }

    deinit { unlink(path) }

    /// Puts another text in its place, at once.
    public func replace(with text: String) throws {
        let other = try TemporaryFile(holding: text)
        guard rename(other.path, path) == 0 else { throw Failure("rename: errno \(errno)", at: Place(#fileID, #line)) }
    }

    public static func contents(of path: String) throws -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Failure("\(path): errno \(errno)", at: Place(#fileID, #line)) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while case let count = read(file, &chunk, chunk.count), count > 0 { bytes += chunk[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func linkTarget(of path: String) -> String {
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = target.withUnsafeMutableBytes {
            readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        return String(decoding: target[..<max(0, count)], as: UTF8.self)
    }
}
