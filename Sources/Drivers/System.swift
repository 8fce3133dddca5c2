internal import CURing
import Glibc

/// The soft limit of RLIMIT_NOFILE: how many descriptors this process may have open.
func descriptorLimit() -> Int {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_cur)
}

func kernelRelease() -> String {
    var name = utsname()
    uname(&name)
    return withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// The number of descriptors that this process has open, inherited ones included. 0 if /proc is not mounted.
func openDescriptorCount() -> Int {
    guard let directory = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    // Minus ".", ".." and the descriptor of the directory itself.
    return max(count - 3, 0)
}
