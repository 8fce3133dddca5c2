import Glibc
import Transports

/// A server that echoes messages, made of the broker's parts for WebSocket, for suites that test servers from outside:
///
///     stampede-websocket-echo 9001 &
///     kosoku -m fuzzingclient 127.0.0.1:9001 -i '1.*'
///
/// A second argument switches compression on: `frugal` without contexts, `takeover` with them.
///
/// The broker itself cannot be tested so, because it passes messages on as a stream of STOMP and answers in its own
/// messages. Here each connection has a thread that blocks.
@main
struct Main {
    /// Set before the first connection.
    nonisolated(unsafe) private static var options = CompressionOptions()

    static func main() {
        signal(SIGPIPE, SIG_IGN)
        let port = CommandLine.arguments.dropFirst().first.flatMap { UInt16($0) } ?? 9001
        let compression = CommandLine.arguments.dropFirst(2).first ?? ""
        options.isOn = !compression.isEmpty
        options.takesOverContext = compression == "takeover"
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var yes: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0, listen(listener, 128) == 0 else { return perror("cannot listen on port \(port)") }
        print("echoing on 127.0.0.1:\(port)")
        while case let descriptor = accept(listener, nil, nil), descriptor >= 0 { start(descriptor) }
    }

    private static func start(_ descriptor: Int32) {
        var yes: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, 4)
        var thread = pthread_t()
        let argument = UnsafeMutableRawPointer(bitPattern: Int(descriptor) + 1)
        pthread_create(
            &thread, nil,
            { argument in
                let connection = EchoConnection(
                    descriptor: Int32(Int(bitPattern: argument) - 1), compression: Main.options)
                connection.run()
                return nil
            }, argument)
        pthread_detach(thread)
    }
}
