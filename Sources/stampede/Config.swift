import ArgumentParser
import Configuration
import Glibc

/// `stampede config`: checks the configuration and prints the values in force.
struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check the configuration; print what is in force and where each value came from.",
        discussion:
            "The output can serve as a configuration file. Exit code 2, and a line for each error, if it is bad.")

    @OptionGroup var options: SettingsOptions

    @Flag(help: "Print the reference instead: every key with its default, its unit and a reason.")
    var reference = false

    func run() throws {
        if reference {
            Console.write(ConfigurationReference.yaml, to: STDOUT_FILENO)
        } else {
            let effective = try options.load()
            _ = try options.authenticator(effective)
            Console.write(effective.explanation, to: STDOUT_FILENO)
        }
    }
}
