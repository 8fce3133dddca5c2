import Glibc

/// A time as "2026-11-29 16:55 UTC", for messages to the operator.
struct UTCDate: CustomStringConvertible {
    let seconds: Int64

    init(_ seconds: Int64) { self.seconds = seconds }

    var description: String {
        var time = time_t(seconds)
        var parts = tm()
        guard gmtime_r(&time, &parts) != nil else { return "\(seconds) seconds after 1970" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)) UTC"
    }

    private func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
