import ArgumentParser
import Foundation
import Journal
import Server

/// `stampede storage`: looks at the directory of a store, and mends it.
struct Storage: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at what a broker stored, and mend it.",
        discussion: """
            Each command refuses a directory that a broker or another command uses. Exit code 0: a broker would start \
            with it. 1: it is damaged, or cannot be read or written. 2: the command line is wrong.
            """,
        subcommands: [Verify.self, Dump.self, Mend.self])

    /// The directory that a command is about.
    struct Place: ParsableArguments {
        @Argument(help: "The directory of the store (storage.directory).")
        var directory: String

        func open(_ use: StorageDirectory.Use) throws -> StorageDirectory {
            do {
                return try StorageDirectory.open(directory, for: use)
            } catch {
                throw Failure.operation(error.description)
            }
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read everything, as a broker does when it starts; print what lives and what is damaged.",
            discussion: "Nothing is changed. Exit code 1 if a broker would not start.")

        @OptionGroup var place: Place
        @Flag(help: "Print it as JSON.")
        var json = false

        func run() throws {
            let directory = try place.open(.inspection)
            let report = try Storage.operation { try directory.verify() }
            if json {
                Console.write(try Storage.text(report, .prettyPrinted) + "\n", to: STDOUT_FILENO)
            } else {
                for line in Storage.lines(report) { Console.write(Storage.printable(line) + "\n", to: STDOUT_FILENO) }
            }
            if !report.isUsable { throw ExitCode(Failure.operation) }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print each record, one a line, damaged places included.",
            discussion: """
                A record's name, LIFE:OFFSET@WORKER, is how acknowledgements speak of it. With --contents and --json, \
                a message's body is an array of its octets: what is behind a damaged place can be taken out so.
                """)

        @OptionGroup var place: Place
        @Option(help: ArgumentHelp("This segment alone (a file's name).", valueName: "name"))
        var segment: String?
        @Flag(help: "With the messages' headers and bodies; goes with --json.")
        var contents = false
        @Flag(help: "Print each record as a JSON object.")
        var json = false

        func validate() throws {
            if contents, !json { throw ValidationError("--contents goes with --json") }
            if let segment, SegmentName(fileName: segment) == nil {
                throw ValidationError(
                    "--segment: found \"\(segment)\"; allowed: a name such as 00000001-0000-00000000.log")
            }
        }

        func run() throws {
            let directory = try place.open(.inspection)
            try Storage.operation {
                try directory.dump(segment: segment.flatMap { SegmentName(fileName: $0) }, contents: contents) {
                    let line = json ? (try? Storage.text($0)) ?? "" : Storage.printable(Storage.line($0))
                    return Console.write(Array("\(line)\n".utf8), to: STDOUT_FILENO)
                }
            }
        }
    }

    struct Mend: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "repair",
            abstract: "Give up what is damaged, so that a broker starts and uses what is intact.",
            discussion: """
                Damaged bytes are kept in files damaged-SEGMENT-BYTE beside the segments. A message whose record is \
                given up is lost; one whose acknowledgement is given up is delivered again. Copy the directory before.
                """)

        @OptionGroup var place: Place

        func run() throws {
            // A directory that is no store is refused before anything is made in it.
            _ = try place.open(.inspection)
            let directory = try place.open(.repair)
            let count = try Storage.operation {
                try directory.repair { Console.write(Storage.printable($0) + "\n", to: STDOUT_FILENO) }
            }
            Console.write(
                count == 0 ? "nothing to mend\n" : "mended in \(count) \(count == 1 ? "place" : "places")\n",
                to: STDOUT_FILENO)
        }
    }
}

// MARK: - Text

extension Storage {
    static func operation<Result>(_ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let error as StorageError { throw Failure.operation(error.description) }
    }

    static func text(_ value: some Encodable, _ formatting: JSONEncoder.OutputFormatting = []) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, formatting]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    /// Names of queues are clients' bytes, and must not move the cursor of a terminal.
    static func printable(_ line: String) -> String {
        let scalars = line.unicodeScalars.map { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) ? "?" : $0 }
        return String(String.UnicodeScalarView(scalars))
    }

    static func lines(_ report: StorageReport) -> [String] {
        var lines = [
            "\(report.directory): \(report.messages) messages, \(report.segments.count) segments"
        ]
        lines += report.queues.map { "  \($0.name): \($0.messages) messages" + ($0.hasArguments ? ", arguments" : "") }
        lines += report.subscriptions.map { "  \($0.name) to \($0.topic): \($0.messages) messages" }
        lines += report.findings.map { ($0.isFatal ? "damaged: " : "note: ") + $0.text }
        lines.append(
            report.isUsable
                ? "a broker would start with it"
                : "a broker would not start with it; `stampede storage repair \(report.directory)` gives up what is "
                    + "damaged")
        return lines
    }

    static func line(_ record: DumpedRecord) -> String {
        var line = "\(record.segment) \(record.byte) \(record.type)"
        func add<Value>(_ name: String, _ value: Value?) {
            if let value { line += " \(name)=\(value)" }
        }
        add("name", record.name)
        add("bytes", record.bytes)
        add("queue", record.queue)
        add("host", record.host)
        add("topic", record.topic)
        add("last-used", record.lastUsed)
        add("identity", record.identity)
        add("body-bytes", record.bodyBytes)
        add("expires", record.expires)
        add("failures", record.failures)
        add("redelivered", record.isRedelivered)
        add("replaces", record.replaces)
        add("kept-as", record.keptAs)
        add("logged", record.logged)
        add("offset-end", record.offsetEnd)
        add("of", record.of?.joined(separator: ","))
        add("transaction", record.transaction)
        add("parts", record.parts)
        add("conditions", record.conditions?.map(String.init).joined(separator: ","))
        add("durable", record.durable)
        add("first-segment", record.firstSegment)
        add("workers", record.workers)
        add("version", record.version)
        if let damage = record.damage { line += " (\(damage))" }
        return line
    }
}
