import ArgumentParser
import CProcess
import Foundation
import Glibc

/// The folder in which servers that are started here store what they store.
struct StorageFolder {
    let path: String

    /// - Parameter path: nil: beside the programs of this package.
    init(_ path: String?) throws {
        let path = path ?? (ServerKind.besideUs as NSString).deletingLastPathComponent + "/storage"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        guard !Self.isMemory(path) else {
            throw ValidationError(
                "--directory \(path): this is memory (tmpfs), which promises nothing; name a folder on a disk")
        }
        self.path = URL(fileURLWithPath: path).path
    }

    static func isMemory(_ path: String) -> Bool {
        var status = statfs()
        guard statfs(path, &status) == 0 else { return false }
        return memoryTypes.contains(UInt32(truncatingIfNeeded: status.f_type))
    }

    /// tmpfs and ramfs, statfs(2).
    private static let memoryTypes: Set<UInt32> = [0x0102_1994, 0x8584_58F6]

    /// The bytes that the files of a folder take on the disk.
    static func byteCount(_ path: String) -> Int {
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return names.map { name in
            var status = stat()
            return lstat("\(path)/\(name)", &status) == 0 ? Int(status.st_blocks) * 512 : 0
        }.reduce(0, +)
    }
}

extension ServerKind {
    /// With a store in a folder of its own, under `folder`.
    ///
    /// - Parameter store: the folder of the store. nil: one that is made and removed with the server.
    func storing(in folder: StorageFolder, store: String? = nil) -> ServerKind {
        var kind = self
        kind.folderParent = folder.path
        guard arguments.first == "serve" else { return kind }
        let settings = ["storage.enabled=true", "storage.directory=\(store ?? "FOLDER/store")"]
        kind.arguments += settings.flatMap { ["--set", $0] }
        return kind
    }

    /// The floor of durable queues, `Bench/floors`.
    static func durableFloor(_ path: String?) -> ServerKind {
        let beside = (besideUs as NSString).deletingLastPathComponent + "/floor_log"
        return ServerKind(name: "floor_log", path: path ?? beside, arguments: ["PORT", "FOLDER"])
    }
}
