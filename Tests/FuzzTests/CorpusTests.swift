import FuzzBroker
import FuzzFrames
import FuzzJournal
import FuzzTransports
import Glibc
import Testing

/// The corpus through the functions that the fuzzer calls, without the fuzzer.
struct CorpusTests {
    static let targets =
        FuzzTarget.frames + FuzzTarget.broker + FuzzTarget.journal + FuzzTarget.transports
    static let folder = #filePath.split(separator: "/").dropLast(2).map { "/" + $0 }.joined() + "/Fuzz/corpus"

    /// The files of a folder, by name.
    static func files(in folder: String) -> [String] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    static func octets(of path: String) throws -> [UInt8] {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        try #require(fd >= 0)
        defer { close(fd) }
        return [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
            count = max(read(fd, buffer.baseAddress!, buffer.count), 0)
        }
    }

    @Test(arguments: targets.map(\.name))
    func `every input of the corpus leads to agreement`(_ name: String) throws {
        let target = try #require(Self.targets.first { $0.name == name })
        let folder = "\(Self.folder)/\(target.corpus)"
        let files = Self.files(in: folder)
        #expect(!files.isEmpty, "no corpus in \(folder)")
        let check = target.makeCheck()
        for file in files {
            let fault = try Self.octets(of: "\(folder)/\(file)").withUnsafeBytes { check($0) }
            #expect(fault == nil, "\(target.corpus)/\(file)")
        }
    }

    @Test(arguments: targets.map(\.name))
    func `no input and short inputs lead to agreement`(_ name: String) throws {
        let check = try #require(Self.targets.first { $0.name == name }).makeCheck()
        for count in 0..<12 {
            for octet in [UInt8(0), 0xFF, 0x0A] {
                let fault = [UInt8](repeating: octet, count: count).withUnsafeBytes { check($0) }
                #expect(fault == nil, "\(count) octets of \(octet)")
            }
        }
    }
}
