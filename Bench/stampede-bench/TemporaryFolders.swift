import Foundation
import Synchronization

/// Folders for files of servers. They are removed when the server ends or this program is interrupted.
enum TemporaryFolders {
    private static let paths = Mutex<Set<String>>([])

    static func make(in parent: String? = nil) throws -> String {
        _ = interruption
        let folder = (parent ?? FileManager.default.temporaryDirectory.path) + "/stampede-bench-\(UUID())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        paths.withLock { _ = $0.insert(folder) }
        return folder
    }

    static func remove(_ folder: String) {
        paths.withLock { _ = $0.remove(folder) }
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// Servers end with this process, because they are started with a parent-death signal.
    nonisolated(unsafe) private static let interruption: [any DispatchSourceSignal] = [SIGINT, SIGTERM].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler {
            for folder in paths.withLock({ $0 }) { try? FileManager.default.removeItem(atPath: folder) }
            exit(128 + number)
        }
        source.resume()
        return source
    }
}
