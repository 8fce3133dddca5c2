import IO
import Slabs

/// When an operation may begin, with regard to others of the same handle.
enum FileOrder {
    /// At once.
    case none
    /// Not before a sync that was submitted earlier.
    case change
    case afterChanges
    case afterEverything
}

/// What `OpenFiles` has to know of each kind of submission.
extension Submission {
    /// The handle in whose line it stands: of the directory, where a name is looked up.
    var ownerSlot: Slot {
        switch kind {
        case .createFile, .openFile: directory
        default: connection
        }
    }

    var owner: Int { Int(ownerSlot.index) }

    var order: FileOrder {
        switch kind {
        case .createFile, .deleteFile, .appendFile, .appendFileDurably, .allocateFile: .change
        case .syncFile: .afterChanges
        case .closeFile: .afterEverything
        default: .none
        }
    }

    /// Worthless where a sync has failed.
    var promisesDurability: Bool { kind == .syncFile || kind == .appendFileDurably }

    var kernelOperation: KernelOperation {
        switch kind {
        case .appendFile, .appendFileDurably: .writeFile
        case .readFile: .readFile
        case .allocateFile: .allocateFile
        case .syncFile: .syncFile
        case .deleteFile: .deleteFile
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
        case .closeFile: .fileClosed
        default: .fileOpened
        }
    }

    /// - Parameter value: as in the completion that answers it.
    func answered(_ value: Int32) -> Completion {
        Completion(
            answer, connection: connection, value: value, pointer: pointer,
            address: UInt64(bitPattern: Int64(byteCount)))
    }
}
