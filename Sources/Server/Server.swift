public import Configuration
public import Logging

/// The broker as a process.
public enum StampedeServer {
    /// Serves until a signal ends it. Returns the exit code of the process.
    public static func run(_ settings: Settings, logger: Logger) -> Int32 {
        0
    }
}
