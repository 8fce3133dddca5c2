import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

/// A directory that lives as long as its owner, with everything in it.
final class TemporaryDirectory {
    let path: String

    init() throws {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/stampede-files-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil, "mkdtemp: errno \(errno)")
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// In order, without "." and "..".
    var names: [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// What a file holds, read without a driver.
    func contents(of name: String) throws -> [UInt8] {
        let fd = open("\(path)/\(name)", O_RDONLY | O_CLOEXEC)
        try #require(fd >= 0, "\(name): errno \(errno)")
        defer { close(fd) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = read(fd, &chunk, chunk.count), count > 0 { bytes += chunk[..<count] }
        return bytes
    }
}

/// A driver whose core uses files, and memory that outlives what is submitted.
final class FileBench {
    let bench: DriverBench
    let place: TemporaryDirectory
    let directory = Slot(index: 1, generation: 1)
    private var nextIndex: UInt32 = 2
    private var kept: [UnsafeMutableRawPointer] = []

    /// With the temporary directory, or `path`, open as `directory`.
    init(_ variant: DriverVariant, path: String? = nil, _ configure: (inout DriverOptions) -> Void = { _ in }) throws {
        place = try TemporaryDirectory()
        bench = try DriverBench(variant) {
            $0.usesFiles = true
            configure(&$0)
        }
        try #require(open(.openDirectory(text(path ?? place.path), as: directory)) == 0)
    }

    deinit {
        bench.driver.shutDown()
        for pointer in kept { pointer.deallocate() }
    }

    func newSlot() -> Slot {
        defer { nextIndex += 1 }
        return Slot(index: nextIndex, generation: 1)
    }

    // MARK: Memory

    func text(_ text: String) -> UnsafePointer<CChar> {
        let bytes = text.utf8CString
        let pointer = buffer(bytes.count)
        bytes.withUnsafeBytes { pointer.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        return UnsafePointer(pointer.assumingMemoryBound(to: CChar.self))
    }

    func buffer(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let pointer = UnsafeMutableRawPointer.allocate(
            byteCount: max(byteCount, 1), alignment: byteCount < 4096 ? 64 : 4096)
        kept.append(pointer)
        return pointer
    }

    func append(_ pieces: [[UInt8]], to file: Slot, at offset: Int, isDurable: Bool = false) -> Submission {
        let vectors = buffer(pieces.count * MemoryLayout<iovec>.stride).assumingMemoryBound(to: iovec.self)
        for (place, piece) in pieces.enumerated() {
            let bytes = buffer(piece.count)
            piece.withUnsafeBytes { if !piece.isEmpty { bytes.copyMemory(from: $0.baseAddress!, byteCount: $0.count) } }
            (vectors + place).initialize(to: iovec(iov_base: bytes, iov_len: piece.count))
        }
        return .append(
            vectors, vectorCount: pieces.count, byteCount: pieces.reduce(0) { $0 + $1.count }, to: file, at: offset,
            isDurable: isDurable)
    }

    // MARK: Operations

    /// The answers to all of them, in the order in which they came. Fewer where they do not come.
    func answers(_ requests: [Submission]) -> [Event] {
        let events = bench.turns(requests) { Self.files($0).count >= requests.count }
        return Self.files(events ?? [])
    }

    /// Files' answers among events.
    static func files(_ events: [Event]) -> [Event] { events.filter { $0.kind != .woken } }

    /// The value of the one answer, nil where it does not come.
    func value(_ request: Submission) -> Int32? { answers([request]).first?.value }

    func open(_ request: Submission) -> Int32? { value(request) }

    /// A new file.
    func create(_ name: String) throws -> Slot {
        let file = newSlot()
        try #require(open(.createFile(text(name), in: directory, as: file)) == 0)
        return file
    }

    /// At most `byteCount` bytes; nil where it fails.
    func read(_ byteCount: Int, of file: Slot, at offset: Int) -> [UInt8]? {
        let buffer = buffer(byteCount)
        guard let count = value(.read(byteCount, of: file, at: offset, into: buffer)), count >= 0 else { return nil }
        return Array(UnsafeRawBufferPointer(start: buffer, count: Int(count)))
    }
}
