import Access
import ArgumentParser
import Glibc

/// `stampede user`: changes the users file.
struct User: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change the users file: who may connect to the broker.",
        discussion: """
            The file is rewritten as a whole (mode 0600), and its comments stay. A broker that runs reads it again at \
            SIGHUP. Roles, and what they allow, are written into the file by hand.
            """,
        subcommands: [Add.self, Passwd.self, List.self, Remove.self])
}

/// The users file of a command.
struct UsersFileOption: ParsableArguments {
    @Option(help: ArgumentHelp("The users file (access.users of the configuration).", valueName: "file"))
    var file: String

    func validate() throws {
        if file.isEmpty { throw ValidationError("--file: found \"\"; allowed: the name of a file") }
    }

    /// The most that a configuration may allow: which one the broker has is not known here.
    private var limits: PatternLimits { PatternLimits(nameByteCountMax: 1024, levelCountMax: 124) }

    /// What is in the file; `text` is nil if there is none, and what is read then is `new`.
    func read(new: String? = nil) throws -> (text: String?, users: UsersFileText) {
        do {
            let text = try UsersFileStore.read(file)
            guard let content = text ?? new else {
                throw Failure.operation("\(file): there is no such file; stampede user add makes it")
            }
            return (text, try UsersFileText(content, name: file, limits))
        } catch let error as AccessError {
            throw Failure.usage(error.problems.map(\.description))
        } catch let error as UsersFileStore.Failure {
            throw Failure.operation(error.reason)
        }
    }

    func replace(_ text: String?, with users: UsersFileText) throws {
        do throws(UsersFileStore.Failure) {
            try UsersFileStore.replace(file, text, with: users.text)
        } catch {
            throw Failure.operation(error.reason)
        }
    }

    /// Changes the users, and says in one line why that is not possible.
    func change(_ body: () throws(UsersFileText.Failure) -> Void) throws {
        do throws(UsersFileText.Failure) { try body() } catch { throw Failure.operation(error.reason) }
    }
}

/// Where a command gets a password from.
struct PasswordOptions: ParsableArguments {
    @Flag(name: .customLong("password-stdin"), help: "Read the password from the first line of standard input.")
    var readsStandardInput = false

    /// The password of that user, hashed.
    func hash(for user: String) throws -> PasswordHash {
        let password = readsStandardInput ? firstLine() : try ask(user)
        guard !password.isEmpty else { throw Failure.operation("the password is empty; nothing was changed") }
        guard password.count <= 511, !password.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw Failure.operation(
                "the password has \(password.count) bytes or control characters; allowed: at most 511 bytes without any"
            )
        }
        guard let hash = PasswordHash.make(for: password) else {
            throw Failure.operation("crypt(3) could not hash the password: \(String(cString: strerror(errno)))")
        }
        return hash
    }

    private func firstLine() -> [UInt8] {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while line.count < 4096, read(STDIN_FILENO, &byte, 1) == 1, byte != UInt8(ascii: "\n") { line.append(byte) }
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        return line
    }

    private func ask(_ user: String) throws -> [UInt8] {
        guard isatty(STDIN_FILENO) == 1 else {
            throw Failure.usage(["standard input is no terminal to ask for the password on; use --password-stdin"])
        }
        let password = withoutEcho { prompt("Password of \(user): ") }
        guard withoutEcho({ prompt("The same again: ") }) == password else {
            throw Failure.operation("the passwords differ; nothing was changed")
        }
        return password
    }

    private func prompt(_ text: String) -> [UInt8] {
        Console.write(text, to: STDERR_FILENO)
        defer { Console.write("\n", to: STDERR_FILENO) }
        return firstLine()
    }

    private func withoutEcho(_ body: () -> [UInt8]) -> [UInt8] {
        var attributes = termios()
        tcgetattr(STDIN_FILENO, &attributes)
        var silent = attributes
        silent.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
        defer { tcsetattr(STDIN_FILENO, TCSAFLUSH, &attributes) }
        return body()
    }
}

extension User {
    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a user; make the file if there is none.")

        @Argument(help: "The user's name: what clients send as login.") var name: String
        @Option(help: ArgumentHelp("A role of the user; may be repeated.", valueName: "role")) var role: [String] = []
        @OptionGroup var file: UsersFileOption
        @OptionGroup var password: PasswordOptions

        func run() throws {
            let read = try file.read(new: UsersFileText.new(roles: role))
            var users = read.users
            // Before the password is asked for.
            if users.file.roles(ofUser: name) != nil {
                throw Failure.operation(
                    "\(file.file): there is a user \"\(name)\" already; stampede user passwd changes the password")
            }
            if let problem = UsersFile.problem(ofUserName: name) {
                throw Failure.operation("the user's name \(problem)")
            }
            let hash = try password.hash(for: name)
            try file.change { () throws(UsersFileText.Failure) in try users.add(name, hash, roles: role) }
            try file.replace(read.text, with: users)
            if read.text == nil, !role.isEmpty {
                Console.error("\(file.file) is new: its roles allow nothing until patterns are written into it")
            }
        }
    }

    struct Passwd: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Change a user's password.")

        @Argument(help: "The user's name.") var name: String
        @OptionGroup var file: UsersFileOption
        @OptionGroup var password: PasswordOptions

        func run() throws {
            let read = try file.read()
            var users = read.users
            guard users.file.roles(ofUser: name) != nil else {
                throw Failure.operation("\(file.file): there is no user \"\(name)\"; stampede user list shows all")
            }
            let hash = try password.hash(for: name)
            try file.change { () throws(UsersFileText.Failure) in try users.setHash(hash, of: name) }
            try file.replace(read.text, with: users)
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the users, one on a line: name, method of the password's hash, roles.")

        @OptionGroup var file: UsersFileOption

        func run() throws {
            let users = try file.read().users.file
            for name in users.userNames {
                let roles = users.roles(ofUser: name) ?? []
                Console.write(
                    "\(name)\t\(users.method(ofUser: name) ?? "none")\t\(roles.joined(separator: ","))\n",
                    to: STDOUT_FILENO)
            }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a user. After SIGHUP the broker ends the user's connections.")

        @Argument(help: "The user's name.") var name: String
        @OptionGroup var file: UsersFileOption

        func run() throws {
            let read = try file.read()
            var users = read.users
            try file.change { () throws(UsersFileText.Failure) in try users.remove(name) }
            try file.replace(read.text, with: users)
        }
    }
}
