import Glibc

/// Where the products of the build under test are: next to the test bundle.
public enum BuildDirectory {
    public static let path: String = {
        // The test bundle is an executable on Linux, so it is this process's program.
        let program = TemporaryFile.linkTarget(of: "/proc/self/exe")
        return String(program[..<program.lastIndex(of: "/")!])
    }()

    public static func path(of product: String) -> String { "\(path)/\(product)" }

    /// The top of the package: the directory that holds `Package.swift`.
    public static let package: String = {
        // This file is Tests/TestSupport/BuildDirectory.swift.
        #filePath.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/" + $1 }
    }()
}
