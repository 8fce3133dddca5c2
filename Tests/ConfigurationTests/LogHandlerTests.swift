import Configuration
import Foundation
import Glibc
import Logging
import Server
import Testing

/// The handlers write to one end of a pipe; the other end is what a terminal or a collector would get.
@Suite("Log handlers")
struct LogHandlerTests {
    @Test("A text line has time, level, message and sorted fields")
    func text() throws {
        let line = try logged {
            TextLogHandler(level: .info, descriptor: $0)
        } by: {
            $0.warning("slow consumer", metadata: ["session": "s-1", "bytes": "12", "who": "a b", "empty": ""])
        }
        #expect(try #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /#.prefixMatch(in: line) != nil, "\(line)")
        #expect(line.dropFirst(25) == "warning  slow consumer bytes=12 empty=\"\" session=s-1 who=\"a b\"\n")
    }

    @Test("A message is not in quotes, so quotes in it stay as they are; names are escaped once")
    func quotes() throws {
        let line = try logged {
            TextLogHandler(level: .info, descriptor: $0)
        } by: {
            $0.warning("said \"no\"\n", metadata: ["login": "DOM\\jürgen", "other": "jürgen"])
        }
        #expect(line.dropFirst(25) == "warning  said \"no\"\\n login=\"DOM\\\\jürgen\" other=\"jürgen\"\n")
    }

    @Test("A JSON line is one object")
    func json() throws {
        let line = try logged {
            JSONLogHandler(label: "stampede", level: .info, descriptor: $0)
        } by: {
            $0.error(
                "said \"no\"",
                metadata: [
                    "list": ["a", "b\n"], "map": ["k": "v\\"], "number": .stringConvertible(UInt64(17)), "level": "x",
                ])
        }
        #expect(line.hasSuffix("}\n") && line.split(separator: "\n").count == 1)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect(object["level"] as? String == "error")
        #expect(object["logger"] as? String == "stampede")
        #expect(object["message"] as? String == "said \"no\"")
        let metadata = try #require(object["metadata"] as? [String: Any])
        #expect(metadata["list"] as? [String] == ["a", "b\n"])
        #expect(metadata["map"] as? [String: String] == ["k": "v\\"])
        #expect(metadata["number"] as? Int == 17)
        #expect(line.contains("\"number\":17"))
        // A collector that flattens the line would take it for the line's own level.
        #expect(metadata["level"] == nil && metadata["level_"] as? String == "x")
    }

    @Test("What a client sent cannot end a line, move the cursor or reorder what is shown")
    func escaping() throws {
        let hostile = "a\n2026-01-01 error forged\r\u{1B}[2J\u{7F}\u{85}\u{202E}\u{2066}\u{2028}\0\"\\"
        let expected = "a\\n2026-01-01 error forged\\r\\u001b[2J\\u007f\\u0085\\u202e\\u2066\\u2028\\u0000\\\"\\\\"
        let text = try logged {
            TextLogHandler(level: .info, descriptor: $0)
        } by: {
            $0.info("m", metadata: ["k": "\(hostile)"])
        }
        #expect(text.hasSuffix("m k=\"\(expected)\"\n"))
        let json = try logged {
            JSONLogHandler(label: "l", level: .info, descriptor: $0)
        } by: {
            $0.info("m", metadata: ["k": "\(hostile)"])
        }
        #expect(json.contains("\"k\":\"\(expected)\""))
        let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        #expect((object?["metadata"] as? [String: String])?["k"] == hostile)
    }

    @Test("A value ends after 256 bytes, between characters")
    func cut() throws {
        let line = try logged {
            TextLogHandler(level: .info, descriptor: $0)
        } by: {
            $0.info("m", metadata: ["k": "x\(String(repeating: "é", count: 1000))"])
        }
        #expect(line.hasSuffix(" m k=\"x\(String(repeating: "é", count: 127))...\"\n"))
    }

    @Test("An event's fields beat the provider's, which beat the logger's")
    func fields() throws {
        let line = try logged {
            var handler = TextLogHandler(level: .info, descriptor: $0)
            handler.metadataProvider = Logger.MetadataProvider { ["a": "2", "b": "2"] }
            handler[metadataKey: "a"] = "1"
            handler[metadataKey: "b"] = "1"
            handler[metadataKey: "c"] = "1"
            return handler
        } by: {
            $0.info("m", metadata: ["a": "3"])
        }
        #expect(line.hasSuffix(" m a=3 b=2 c=1\n"))
    }

    @Test("What is below the level is not written")
    func level() throws {
        let line = try logged {
            TextLogHandler(level: .warning, descriptor: $0)
        } by: {
            $0.info("no")
            $0.warning("yes")
        }
        #expect(line.hasSuffix("warning  yes\n") && !line.contains("no"))
    }

    @Test("The levels of the configuration are those of swift-log", arguments: LogLevel.allCases)
    func levels(level: LogLevel) {
        #expect(Logger.Level(level).rawValue == level.rawValue)
    }

    @Test("A pipe that is full or closed costs the line, not the process")
    func lostLines() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
        let logger = Logger(label: "l") { [end = ends[1]] _ in TextLogHandler(level: .info, descriptor: end) }
        for _ in 0..<2000 { logger.info("\(String(repeating: "x", count: 100))") }
        close(ends[0])
        close(ends[1])
        logger.info("nowhere")
    }

    @Test("A reader that hangs costs lines, and is told how many when it reads on", arguments: LogFormat.allCases)
    func hangingReader(format: LogFormat) throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let logger = Logger(label: "l") { [end = ends[1]] _ -> any LogHandler in
            switch format {
            case .text: TextLogHandler(level: .info, descriptor: end)
            case .json: JSONLogHandler(label: "l", level: .info, descriptor: end)
            }
        }
        // The pipe blocks who writes to it while it is full, and holds 64 KiB.
        let lineCount = 2000
        for index in 0..<lineCount { logger.info("line \(index) \(String(repeating: "x", count: 100))") }
        let written = lines(readFrom: ends[0])
        try #require(!written.isEmpty && written.count < lineCount)
        #expect(written.enumerated().allSatisfy { $1.contains("line \($0) ") })
        logger.info("the next")
        logger.info("the last")
        let later = lines(readFrom: ends[0])
        try #require(later.count == 3)
        #expect(later[0].contains("lines were lost"))
        #expect(try #/lines"?[=:]"?(\d+)/#.firstMatch(in: later[0])?.1 == "\(lineCount - written.count)")
        #expect(later[1].contains("the next") && later[2].contains("the last"))
    }

    @Test("A line longer than what a pipe takes at once is written whole, or ends before the next")
    func longLines() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let logger = Logger(label: "l") { [end = ends[1]] _ in TextLogHandler(level: .info, descriptor: end) }
        let long = String(repeating: "x", count: 10_000)
        logger.info("\(long)")
        let whole = lines(readFrom: ends[0])
        #expect(whole.count == 1 && whole[0].hasSuffix(" " + long))
        for _ in 0..<10 { logger.info("\(long)") }
        let some = lines(readFrom: ends[0])
        #expect(some.dropLast().allSatisfy { $0.hasSuffix(" " + long) })
        #expect(!some.last!.hasSuffix(" " + long))
        logger.info("the last")
        let later = lines(readFrom: ends[0])
        // The end of the torn line.
        #expect(later.count == 3 && later[0].isEmpty)
        #expect(later[1].hasSuffix(" lines=\(10 - some.count + 1)") && later[2].hasSuffix(" the last"))
    }

    /// What is in the pipe now. The text after the last end of a line counts as one.
    private func lines(readFrom descriptor: Int32) -> [String] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 17)
        var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        while poll(&event, 1, 0) == 1 {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        var lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    /// What the logger that `body` is given writes.
    private func logged(
        _ handler: @escaping @Sendable (Int32) -> any LogHandler, by body: (Logger) -> Void
    ) throws -> String {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let end = ends[1]
        body(Logger(label: "test") { _ in handler(end) })
        close(end)
        defer { close(ends[0]) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(ends[0], &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
