import IO
import Slabs

/// When an operation may begin, relative to other operations of the same handle.
enum FileOrder {
    /// At once.
    case none
    /// Not before a sync that was submitted earlier.
    case change
    /// When all changes that were submitted earlier are answered.
    case afterChanges
    /// When all operations that were submitted earlier are answered.
    case afterEverything
}

/// The properties of each kind of submission that `OpenFiles` needs.
extension Submission {
    /// The handle in whose queue the operation is. For the opening of a file in a directory: the directory.
    var ownerSlot: Slot {
        switch kind {
        case .createFile, .openFile: directory
        default: connection
        }
    }

    var owner: Int { Int(ownerSlot.index) }

    var order: FileOrder {
        switch kind {
        case .createFile, .deleteFile, .renameFile, .appendFile, .appendFileDurably, .allocateFile: .change
        case .syncFile: .afterChanges
        case .closeFile: .afterEverything
        default: .none
        }
    }

    /// Whether the answer promises that bytes are durable. Such an operation fails after a failed sync of the handle.
    var promisesDurability: Bool { kind == .syncFile || kind == .appendFileDurably }

    var kernelOperation: KernelOperation {
        switch kind {
        case .appendFile, .appendFileDurably: .writeFile
        case .readFile: .readFile
        case .allocateFile: .allocateFile
        case .syncFile: .syncFile
        case .deleteFile: .deleteFile
        case .renameFile: .renameFile
        case .closeFile: .close
        default: .openFile
        }
    }

    var answer: Completion.Kind {
        switch kind {
        case .appendFile, .appendFileDurably: .fileAppended
        case .readFile: .fileRead
        case .allocateFile: .fileAllocated
        case .syncFile: .fileSynced
        case .deleteFile: .fileDeleted
        case .renameFile: .fileRenamed
        case .closeFile: .fileClosed
        default: .fileOpened
        }
    }

    /// The completion that answers this submission.
    func answered(_ value: Int32) -> Completion {
        Completion(
            answer, connection: connection, value: value, pointer: pointer,
            address: UInt64(bitPattern: Int64(byteCount)))
    }
}
