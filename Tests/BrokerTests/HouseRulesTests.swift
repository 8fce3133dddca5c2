import Foundation
import Testing

/// What the compiler does not check of how the core is built: which part knows which, and how long a file or function may be.
///
/// A part is a type of the core that keeps its records to itself, takes values and returns effects. It knows the parts below
/// it and never `Shard`, which puts them together:
///
///     Shard
///       AccessGate
///       HostTable
///       PeerLink        Fabric
///       Output            MemoryBudget
///       TopicRouter       DestinationDirectory  MemoryBudget
///       DestinationDirectory  MemoryBudget
///       DurableSubscriptions
///       ReceiptOrder      MemoryBudget
///       Relays
///       TransactionTable  MemoryBudget
///       TopicLogs
///       SubscriptionTable  TopicRouter  MemoryBudget
///         DeliveryTable
///       QueueEngine       MemoryBudget  TimerWheel
///         QueueHolders
///       DelayTable          MemoryBudget
///       DeduplicationTable  MemoryBudget
///       MessageStore
///         LogStaging  SegmentFiles
///       ColdMessages      SegmentFiles
///       SessionTable      MemoryBudget
///         PartialInputs  LoginTable  AddressTable
@Suite("House rules of the core")
struct HouseRulesTests {
    /// The files of each part, and the parts that it may know.
    private static let parts: [(name: String, files: [String], knows: Set<String>)] = [
        ("AccessGate", ["AccessGate/"], []),
        ("HostTable", ["Hosts/"], []),
        ("PeerLink", ["PeerLink/"], ["Fabric", "QueueHolders"]),
        ("Output", ["Output/"], ["MemoryBudget"]),
        ("TopicRouter", ["TopicRouter/"], ["DestinationDirectory", "MemoryBudget"]),
        ("DestinationDirectory", ["DestinationDirectory/"], ["MemoryBudget"]),
        ("QueueEngine", ["QueueEngine/"], ["QueueHolders", "MemoryBudget"]),
        ("QueueHolders", ["QueueEngine/QueueHolders.swift"], []),
        ("SubscriptionTable", ["SubscriptionTable/"], ["TopicRouter", "MemoryBudget"]),
        ("DurableSubscriptions", ["DurableSubscriptions/"], []),
        ("ReceiptOrder", ["ReceiptOrder/"], ["MemoryBudget"]),
        ("Relays", ["Relays/"], []),
        ("TransactionTable", ["TransactionTable/"], ["MemoryBudget"]),
        ("TopicLogs", ["TopicLogs/"], []),
        ("DelayTable", ["Delays/"], ["MemoryBudget"]),
        ("DeduplicationTable", ["Deduplication/"], ["MemoryBudget"]),
        ("MessageStore", ["MessageStore/"], ["LogStaging", "SegmentFiles"]),
        ("ColdMessages", ["ColdMessages/"], ["SegmentFiles"]),
        ("LogStaging", ["MessageStore/LogStaging.swift"], []),
        ("SegmentFiles", ["MessageStore/SegmentFiles.swift"], []),
        ("MemoryBudget", ["MemoryBudget.swift"], []),
        ("SessionTable", ["SessionTable/"], ["PartialInputs", "LoginTable", "AddressTable", "MemoryBudget"]),
        ("PartialInputs", ["SessionTable/PartialInputs.swift"], ["MemoryBudget"]),
        ("LoginTable", ["SessionTable/LoginTable.swift"], ["MemoryBudget"]),
        ("AddressTable", ["SessionTable/AddressTable.swift"], []),
        ("Fabric", ["Fabric.swift"], []),
    ]

    /// What a part of several files keeps to these, for Swift knows no such boundary: the names of its slabs, and its folder.
    private static let storage: [(names: [String], folder: String)] = [
        (["queueRecords", "entryRecords", "consumerRecords", "cursorRecords"], "QueueEngine/"),
        (["subscriptionRecords", "deliveryRecords"], "SubscriptionTable/"),
        (["logRecords", "readerRecords", "intakeRecords", "retainedRecords"], "TopicLogs/"),
        (["coldQueueRecords", "chunkRecords"], "ColdMessages/"),
    ]

    private static let lineCountMax = 400
    private static let functionLineCountMax = 60

    private struct Source {
        var path: String
        var lines: [Substring]
        /// Without comments.
        var code: String
    }

    private static let sources: [Source] = {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources/Broker")
        let files = FileManager.default.enumerator(at: root, includingPropertiesForKeys: nil)
        var sources: [Source] = []
        while let file = files?.nextObject() as? URL {
            guard file.pathExtension == "swift", let text = try? String(contentsOf: file, encoding: .utf8) else {
                continue
            }
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            let code = lines.map { $0.prefix { $0 != "/" } }.joined(separator: "\n")
            sources.append(Source(path: String(file.path().dropFirst(root.path().count + 1)), lines: lines, code: code))
        }
        return sources
    }()

    @Test("A part knows the parts below it, and not the shard")
    func arrows() {
        let names = Set(Self.parts.map(\.name))
        for part in Self.parts {
            let files = Self.sources.filter { source in part.files.contains { source.path.hasPrefix($0) } }
            #expect(!files.isEmpty, "\(part.name)")
            for file in files {
                let words = Set(file.code.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.map(String.init))
                #expect(!words.contains("Shard"), "\(file.path) knows the shard")
                let known = words.intersection(names).subtracting(part.knows).subtracting([part.name])
                #expect(known.isEmpty, "\(file.path) knows \(known)")
            }
        }
    }

    @Test("The records of a part are changed by the part alone")
    func storage() {
        for (names, folder) in Self.storage {
            for source in Self.sources where !source.path.hasPrefix(folder) {
                let words = source.code.split { !$0.isLetter && !$0.isNumber && $0 != "_" }
                #expect(!words.contains { names.contains(String($0)) }, "\(source.path) reaches into \(folder)")
            }
            #expect(Self.sources.contains { $0.path.hasPrefix(folder) && $0.code.contains(names[0]) })
        }
    }

    @Test("No file and no function is longer than a reader can hold")
    func lengths() {
        #expect(Self.sources.count > 20)
        var longFiles: Set<String> = []
        var longFunctions: Set<String> = []
        for source in Self.sources {
            if source.lines.count - 1 > Self.lineCountMax { longFiles.insert(source.path) }
            for function in Self.functions(source.lines) where function.lineCount > Self.functionLineCountMax {
                longFunctions.insert(function.name)
            }
        }
        #expect(longFiles == [])
        #expect(longFunctions == [])
    }

    /// Functions and initialisers by the indentation of their first line and closing brace.
    private static func functions(_ lines: [Substring]) -> [(name: String, lineCount: Int)] {
        var functions: [(String, Int)] = []
        let first = /^( *)(?:@[^ ]+ )*(?:[a-z]+(?:\(set\))? )*(?:func ([A-Za-z]+)|(init)\b)/
        for (start, line) in lines.enumerated() {
            guard let match = line.firstMatch(of: first), !line.hasSuffix("}") else { continue }
            let closing = match.1 + "}"
            guard let end = lines[start...].firstIndex(where: { $0 == closing }) else { continue }
            functions.append((String(match.2 ?? match.3 ?? ""), end - start + 1))
        }
        return functions
    }
}
