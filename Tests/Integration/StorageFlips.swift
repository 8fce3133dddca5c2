import Glibc
import Journal
import TestSupport
import Testing

/// Bits that change in what a broker has left.
extension Integration {
    @Suite("Bits that flip in the store")
    struct StorageFlips {
        private static let flipCount = 10_000

        /// The segments of a broker that was killed: messages, acknowledgements, transactions, a dead letter.
        private static func makeStore(in folder: TemporaryFolder) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    .epoll,
                    [
                        "storage.directory": folder.path, "storage.segment-bytes": "64KiB",
                        "limits.body-bytes": "4KiB", "limits.headers-bytes": "2KiB", "limits.header-bytes": "1KiB",
                        "limits.transaction-bytes": "16KiB", "limits.frames-per-transaction-max": "20",
                    ]))
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: "/queue/b", ack: "client-individual")
            for number in 0..<200 {
                let body = "\(number)-" + String(repeating: "x", count: number * 97 % 4000)
                try client.perform("SEND", ["destination": "/queue/a", "persistent": "true"], body: body)
                try client.send("BEGIN", ["transaction": "t"])
                try client.send(
                    "SEND", ["destination": "/queue/b", "persistent": "true", "transaction": "t"], body: "\(number)")
                try client.send(
                    "SEND", ["destination": "/queue/c", "persistent": "true", "transaction": "t"], body: "\(number)")
                try client.perform("COMMIT", ["transaction": "t"])
                let message = try client.expectMessage("\(number)")
                if number % 5 == 0 {
                    try client.perform("NACK", ["id": message["ack"] ?? "", "requeue": "false"])
                } else {
                    try client.acknowledge(message)
                }
            }
            broker.process.signal(SIGKILL)
            #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
        }

        private static func read(_ path: String) throws -> [UInt8] {
            guard let file = fopen(path, "r") else { throw Failure("\(path): \(errno)", at: Place(#fileID, #line)) }
            defer { fclose(file) }
            fseek(file, 0, SEEK_END)
            var bytes = [UInt8](repeating: 0, count: ftell(file))
            rewind(file)
            #expect(fread(&bytes, 1, bytes.count, file) == bytes.count)
            return bytes
        }

        private static func write(_ byte: UInt8, at offset: Int, of path: String) {
            let descriptor = open(path, O_WRONLY)
            #expect(withUnsafePointer(to: byte) { pwrite(descriptor, $0, 1, offset) } == 1)
            close(descriptor)
        }

        private static func recover(_ names: [SegmentName], _ contents: [[UInt8]]) -> RecoveredState {
            var recovery = Recovery()
            for (name, bytes) in zip(names, contents) { bytes.withUnsafeBytes { recovery.read(name, $0) } }
            return recovery.finish()
        }

        @Test func `Any bit of a closed segment that flips is found and told, or is of no use`() throws {
            let folder = try TemporaryFolder()
            try Self.makeStore(in: folder)
            let names = folder.names().compactMap(SegmentName.init(fileName:)).sorted()
            var contents = try names.map { try Self.read("\(folder.path)/\($0)") }
            let sound = Self.recover(names, contents)
            #expect(sound.findings.allSatisfy { !$0.isFatal })
            #expect(sound.messages.count > 100)
            // One is written, and one may be ahead.
            let closed = contents.indices.dropLast(2)
            try #require(closed.count >= 2, "\(names)")
            var random = SystemRandomNumberGenerator()
            var (foundCount, uselessCount) = (0, 0)
            for number in 0..<Self.flipCount {
                let place = closed.randomElement(using: &random)!
                let offset = Int.random(in: 0..<contents[place].count, using: &random)
                let former = contents[place][offset]
                contents[place][offset] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                let state = Self.recover(names, contents)
                let finding = state.findings.first(where: \.isFatal)
                if let finding {
                    foundCount += 1
                    let isThere = finding.segment == names[place] && finding.offset <= offset
                    #expect(isThere, "byte \(offset) of \(names[place]): \(finding.description)")
                } else {
                    uselessCount += 1
                    let isSame = state.messages.map(\.reference) == sound.messages.map(\.reference)
                    #expect(isSame, "byte \(offset) of \(names[place]) flipped, and nobody was told")
                }
                if number % 1000 == 0 {
                    // The command says the same.
                    Self.write(contents[place][offset], at: offset, of: "\(folder.path)/\(names[place])")
                    let verify = try ChildProcess(
                        BuildDirectory.path(of: "stampede"), ["storage", "verify", folder.path])
                    #expect(try verify.waitForExit() == .exited(finding == nil ? 0 : 1), "\(verify.outputLines)")
                    Self.write(former, at: offset, of: "\(folder.path)/\(names[place])")
                }
                contents[place][offset] = former
            }
            // Only the end of a segment behind its last record is of no use.
            #expect(foundCount > uselessCount, "\(foundCount), \(uselessCount)")
        }
    }
}
