import Glibc

/// Small text files of the kernel.
public enum ProcFile {
    /// The text of a file. Empty: there is no such file.
    public static func text(_ path: String) -> String {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return "" }
        defer { close(fd) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while case let count = read(fd, &chunk, chunk.count), count > 0 { text += chunk[..<count] }
        return String(decoding: text, as: UTF8.self)
    }

    static func write(_ text: String, to path: String) -> Bool {
        let fd = open(path, O_WRONLY | O_CLOEXEC)
        guard fd >= 0 else { return false }
        defer { close(fd) }
        return Glibc.write(fd, text, text.utf8.count) == text.utf8.count
    }

    static func number(_ path: String) -> Int? { Int(text(path).split(whereSeparator: \.isWhitespace).first ?? "") }

    /// The number after a word at the start of a line.
    public static func field(_ name: String, in path: String) -> Int? {
        for line in text(path).split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            if words.count > 1, words[0] == name { return Int(words[1]) }
        }
        return nil
    }

    /// VmRSS, in bytes. 0: there is no such process.
    public static func residentByteCount(of process: Int32) -> Int {
        (field("VmRSS:", in: "/proc/\(process)/status") ?? 0) << 10
    }

    /// VmHWM, in bytes. 0: there is no such process.
    public static func residentPeakByteCount(of process: Int32) -> Int {
        (field("VmHWM:", in: "/proc/\(process)/status") ?? 0) << 10
    }

    /// Open descriptors. 0: there is no such process.
    public static func descriptorCount(of process: Int32) -> Int {
        guard let directory = opendir("/proc/\(process)/fd") else { return 0 }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // Without "." and "..".
        return max(0, count - 2)
    }

    static var mounts: [(path: String, type: String, options: [Substring])] {
        text("/proc/self/mounts").split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count > 3 else { return nil }
            return (String(words[1]), String(words[2]), words[3].split(separator: ","))
        }
    }

    /// The path of this process's group in the hierarchy of the given controllers, without a trailing slash.
    static func ownGroup(_ hasControllers: ([Substring]) -> Bool) -> String? {
        for line in text("/proc/self/cgroup").split(separator: "\n") {
            // 4:memory:/path
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, hasControllers(parts[1].split(separator: ",")) else { continue }
            return parts[2] == "/" ? "" : String(parts[2])
        }
        return nil
    }
}
