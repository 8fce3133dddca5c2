import CProcess
import Foundation
import Glibc

/// The speed of a cipher, as `openssl speed -evp` tells it: the yardstick of what TLS may cost.
final class OpenSSLSpeed {
    private let cipher: CipherSuite
    private let cpu: Int32?
    private var known: [Int: Double] = [:]
    private static let seconds = 1
    private static let program = "/usr/bin/openssl"

    /// - Parameter cpu: the CPU of the server. nil: any.
    init(_ cipher: CipherSuite, cpu: Int32?) {
        self.cipher = cipher
        self.cpu = cpu
    }

    /// Bytes a second with pieces of this size. Takes a second for each size.
    func bytesPerSecond(pieceByteCount: Double) throws -> Double {
        let byteCount = min(max(Int(pieceByteCount.rounded()), 16), 16_384)
        if let speed = known[byteCount] { return speed }
        guard let speed = Self.speed(in: run(byteCount)) else {
            throw RunningServer.StartError(
                description: "\(Self.program) speed -evp \(cipher.rawValue) tells no speed; is openssl installed?")
        }
        known[byteCount] = speed
        return speed
    }

    private func run(_ byteCount: Int) -> String {
        guard let file = tmpfile() else { return "" }
        defer { fclose(file) }
        let words = [
            Self.program, "speed", "-mr", "-seconds", "\(Self.seconds)", "-bytes", "\(byteCount)", "-evp",
            cipher.rawValue,
        ]
        var arguments = words.map { strdup($0) }
        arguments.append(nil)
        let identifier = process_start(Self.program, arguments, cpu ?? -1, fileno(file))
        for argument in arguments { free(argument) }
        guard identifier > 0 else { return "" }
        waitpid(identifier, nil, 0)
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        let count = bytes.withUnsafeMutableBytes { pread(fileno(file), $0.baseAddress!, $0.count, 0) }
        return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    }

    /// The speed in the output of `-mr`: the last field of a line such as
    ///
    ///     +F:25:AES-128-GCM:4088322580.65
    static func speed(in output: String) -> Double? {
        let line = output.split(separator: "\n").last { $0.hasPrefix("+F:") }
        guard let speed = line?.split(separator: ":").last.flatMap({ Double($0) }), speed > 0 else { return nil }
        return speed
    }
}
