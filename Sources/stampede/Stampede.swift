import ArgumentParser
import Broker
import Glibc

/// The command `stampede`.
@main
struct Stampede: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stampede",
        abstract: "A STOMP message broker on io_uring.",
        version: BrokerOptions().version,
        subcommands: [Serve.self, Config.self, Probe.self, Storage.self, Tap.self, Sink.self, User.self])

    /// Runs the command and ends the process. Exit code 0: success. 1: the machine, the network or a peer did not allow
    /// it. 2: the command line or the configuration is wrong.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            for line in failure.lines { Console.error(line) }
            Glibc.exit(failure.exitCode)
        } catch let code as ExitCode {
            Glibc.exit(code.rawValue)
        } catch {
            let code = exitCode(for: error)
            if code == .success {
                Console.write(fullMessage(for: error) + "\n", to: STDOUT_FILENO)
            } else {
                Console.error("\(hint(message(for: error))) (see \(commandInUse) --help)")
            }
            Glibc.exit(code == .validationFailure ? Failure.usage : code.rawValue)
        }
    }

    /// Replaces the suggestion for an option that other programs have by the option of the same meaning, instead of the
    /// one with the most similar name.
    private static func hint(_ message: String) -> String {
        let start = "Unknown option '"
        guard message.hasPrefix(start) else { return message }
        let option = message.dropFirst(start.count).prefix { $0 != "'" }
        let places = ["--port", "-p", "--address", "--bind", "--host", "--listen", "--broker", "--server"]
        guard places.contains(String(option)) else { return message }
        let isClient = commandInUse.hasSuffix(" tap") || commandInUse.hasSuffix(" sink")
        return "\(start)\(option)'; did you mean \(isClient ? "--host" : "--listen") HOST:PORT?"
    }

    /// "stampede serve", or "stampede" if the first argument is not a command.
    private static var commandInUse: String {
        let names = configuration.subcommands.map { $0._commandName }
        let named = CommandLine.arguments.dropFirst().first.flatMap { names.contains($0) ? $0 : nil }
        return ([_commandName] + [named].compactMap { $0 }).joined(separator: " ")
    }
}

/// The failure of a command.
struct Failure: Error {
    static let operation: Int32 = 1
    static let usage: Int32 = 2

    let exitCode: Int32
    /// What went wrong and what to change, one line each.
    let lines: [String]
    /// Of an ERROR of the broker: the receipt that the refused frame had asked for.
    var receiptID: String?

    /// The machine, the network or a peer did not allow it.
    static func operation(_ line: String) -> Failure { Failure(exitCode: operation, lines: [line]) }

    /// The command line or the configuration is wrong.
    static func usage(_ lines: [String]) -> Failure { Failure(exitCode: usage, lines: lines) }
}

/// Standard output and standard error, unbuffered.
enum Console {
    /// Prints one line. Line ends in `text` become spaces. Control characters become question marks, because `text` may
    /// quote bytes of a broker and must not move the cursor of a terminal.
    static func error(_ text: String) {
        let line = text.split(whereSeparator: \.isNewline).joined(separator: " ")
        let scalars = line.unicodeScalars.map { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) ? "?" : $0 }
        write("stampede: \(String(String.UnicodeScalarView(scalars)))\n", to: STDERR_FILENO)
    }

    static func write(_ text: String, to descriptor: Int32) {
        _ = write(Array(text.utf8), to: descriptor)
    }

    /// Returns false if the descriptor accepts no more bytes.
    static func write(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, rest.baseAddress!, rest.count)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { return false }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
            return true
        }
    }
}
