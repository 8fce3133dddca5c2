/// The destination policies of the configuration, looked up once per destination, when it is created.
struct PolicyTable: Sendable {
    private let policies: [DestinationPolicy]
    private let fallback = DestinationPolicy(pattern: "")
    /// Some topics keep a log.
    let hasLogs: Bool

    init(_ policies: [DestinationPolicy]) {
        self.policies = policies
        hasLogs = policies.contains { $0.logMessageCountMax > 0 }
    }

    /// The first policy whose pattern matches a canonical name, counted from 1, whatever its host. 0: none does, the
    /// defaults apply.
    func index(of canonical: UnsafeRawBufferPointer) -> Int {
        if policies.isEmpty { return 0 }
        let name = visible(canonical)
        var middle = Wildcard.Middle()
        var levelCount = 0
        for (index, policy) in policies.enumerated() {
            var pattern = policy.pattern
            middle.reset()
            let isMatch = pattern.withUTF8 {
                Wildcard.matches(UnsafeRawBufferPointer($0), name, &middle, levelCount: &levelCount)
            }
            if isMatch { return index + 1 }
        }
        return 0
    }

    subscript(index: UInt32) -> DestinationPolicy { index == 0 ? fallback : policies[Int(index) - 1] }
}
