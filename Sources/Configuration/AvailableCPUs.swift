import Glibc

/// The number of CPUs that this process may use at the same time.
public enum AvailableCPUs {
    /// The number of CPUs in the scheduler's affinity mask, or fewer if a control group limits the CPU time: a
    /// container that may use 1.5 of 64 CPUs counts 2.
    public static var count: Int {
        let quota = ConfigurationFile.text(at: "/sys/fs/cgroup/cpu.max")
        guard case .success(let text) = quota, let granted = count(cgroupQuota: text) else { return affinityCount }
        return min(affinityCount, granted)
    }

    /// Reads cgroup v2's `cpu.max`: "QUOTA PERIOD" in microseconds, or "max PERIOD" (nil: unlimited).
    static func count(cgroupQuota text: String) -> Int? {
        let parts = text.split { $0 == " " || $0 == "\n" }.map { Int($0) }
        guard parts.count == 2, let quota = parts[0], let period = parts[1], quota > 0, period > 0 else { return nil }
        return (quota - 1) / period + 1
    }

    /// Read from /proc, because Glibc's module does not have sched_getaffinity(2). If /proc cannot be read, all online
    /// CPUs count.
    private static var affinityCount: Int {
        if case .success(let text) = ConfigurationFile.text(at: "/proc/self/status"), let allowed = count(status: text)
        {
            return allowed
        }
        return max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    }

    /// Reads the line "Cpus_allowed:\tffffffff,00000003" of /proc/self/status: one bit for each CPU.
    static func count(status text: String) -> Int? {
        let name = "Cpus_allowed:"
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }) else { return nil }
        let digits = line.dropFirst(name.count).compactMap(\.hexDigitValue)
        let count = digits.reduce(0) { $0 + $1.nonzeroBitCount }
        return count > 0 ? count : nil
    }
}
