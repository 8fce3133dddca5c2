import TestSupport
import Testing

/// A program that uses an existing client library, one case each run: `clients/`.
enum ClientProgram: Sendable {
    case stompPy
    /// stomp.py with WebSockets, which Debian's is too old for.
    case stompPyWeb
    case rubyStomp
    case phpStomp
    /// php-stomp that was built with TLS. Debian's was not.
    case phpStompTLS
    case websockets
    case webSocketClient
    case nodeWS
    case browser

    private var interpreter: String {
        switch self {
        // Debian's interpreters, whose packages `Config/setup tests` installs, whatever else is in the path.
        case .stompPy, .stompPyWeb, .websockets, .webSocketClient, .browser: "/usr/bin/python3"
        case .rubyStomp: "/usr/bin/ruby"
        case .phpStomp, .phpStompTLS: "php"
        case .nodeWS: "node"
        }
    }

    private var file: String {
        switch self {
        case .stompPy, .stompPyWeb: "stomp_py.py"
        case .rubyStomp: "ruby_stomp.rb"
        case .phpStomp, .phpStompTLS: "php_stomp.php"
        case .websockets: "websocket_stomp.py"
        case .webSocketClient: "websocket_client.py"
        case .nodeWS: "node_ws.js"
        case .browser: "browser.py"
        }
    }

    /// A program that succeeds where the library is there, in a version that is supported.
    private var check: [String] {
        switch self {
        case .stompPy: ["-c", "import stomp, sys; sys.exit(stomp.__version__[0] not in (8, 9))"]
        case .stompPyWeb: ["-c", "import stomp.adapter.ws"]
        case .rubyStomp: ["-e", "gem 'stomp'; require 'stomp'"]
        case .phpStomp: ["-r", "exit(extension_loaded('stomp') ? 0 : 1);"]
        case .phpStompTLS:
            [
                "-r",
                """
                if (!extension_loaded('stomp')) exit(1);
                ob_start();
                (new ReflectionExtension('stomp'))->info();
                exit(preg_match('/SSL Support => enabled/', ob_get_clean()) ? 0 : 1);
                """,
            ]
        case .websockets: ["-c", "import websockets"]
        case .webSocketClient: ["-c", "import websocket; websocket.create_connection"]
        case .nodeWS: ["-e", "require('ws').WebSocket"]
        case .browser:
            ["-c", "import shutil, sys; sys.exit(not any(map(shutil.which, ['chromium-headless-shell', 'chromium'])))"]
        }
    }

    private var options: ChildProcess.Options {
        var options = ChildProcess.Options()
        switch self {
        // Where `Config/setup tests` puts stomp.py when Debian's is too old.
        case .stompPy: options.environment["PYTHONPATH"] = "\(BuildDirectory.package)/.build/python"
        case .stompPyWeb: options.environment["PYTHONPATH"] = "\(BuildDirectory.package)/.build/python-web"
        // Debian's libraries, which a Node.js of another origin does not look for.
        case .nodeWS: options.environment["NODE_PATH"] = "/usr/share/nodejs:/usr/lib/nodejs"
        case .rubyStomp, .phpStomp, .phpStompTLS, .websockets, .webSocketClient, .browser: break
        }
        return options
    }

    var isInstalled: Bool {
        let process = try? ChildProcess(interpreter, check, options)
        return (try? process?.waitForExit()) == .exited(0)
    }

    /// Runs the text of a program.
    func run(program: String, prints expected: [String]) throws {
        #expect(try output(of: ["-c", program], [:]) == expected)
    }

    /// Runs a case with a broker's port, a version and a prefix of destinations.
    func run(
        _ name: String, _ version: ProtocolVersion, on broker: BrokerProcess, environment: [String: String] = [:]
    ) throws {
        try run(name, version, port: broker.port, environment: environment)
    }

    func run(
        _ name: String, _ version: ProtocolVersion, port: UInt16, environment: [String: String] = [:]
    ) throws {
        _ = try output(of: [script, "\(port)", version.rawValue, unique("client"), name], environment)
    }

    /// Runs its script with these arguments, and returns the lines that it has written.
    @discardableResult
    func run(_ arguments: String..., environment: [String: String] = [:]) throws -> [String] {
        try output(of: [script] + arguments, environment)
    }

    private var script: String { "\(BuildDirectory.package)/Tests/Integration/clients/\(file)" }

    private func output(of arguments: [String], _ environment: [String: String]) throws -> [String] {
        var options = options
        options.environment.merge(environment) { $1 }
        let process = try ChildProcess(interpreter, arguments, options)
        let status = try process.waitForExit(within: 90)
        #expect(status == .exited(0), "\(process.errorLines.joined(separator: "\n"))")
        return process.outputLines
    }
}
