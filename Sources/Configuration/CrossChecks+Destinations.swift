import Broker
import Permissions

/// The rules between the entries of `destinations`, and between the keys of one.
extension EffectiveSettings {
    mutating func checkDestinations() {
        let policies = settings.broker.destinationPolicies
        if policies.isEmpty && !settings.broker.clientsCreateDestinations {
            report(
                origin(of: "clients-create-destinations"), "clients-create-destinations",
                "found false without any entry of destinations, so no client could send; allowed: true, or entries")
        }
        var firstIndex: [String: Int] = [:]
        for (index, policy) in policies.enumerated() {
            let path = "\(Schema.destinations)[\(index)]"
            if let first = firstIndex[policy.pattern] {
                report(
                    origin(of: "\(path).match"), "\(path).match",
                    "found \(quoted(policy.pattern)) again: \(Schema.destinations)[\(first)] always applies before it")
            } else {
                firstIndex[policy.pattern] = index
            }
            checkNameLength(policy.pattern, "\(path).match")
            checkEffect(of: policy, at: path)
            warnOfShadow(over: index)
            checkNameLength(policy.deadLetterDestination, "\(path).dead-letter")
            if policy.overflow == .block && policy.queueByteCountMax < frameByteCountMax {
                report(
                    blamed(["\(path).bytes-max", "\(path).overflow", "limits.body-bytes", "limits.headers-bytes"]),
                    "\(path).bytes-max",
                    "found \(Unit.bytes.format(policy.queueByteCountMax)): with overflow: block a larger message would "
                        + "stop its publisher for ever; allowed: at least \(frameNote)")
            }
        }
    }

    /// A key that its destinations would ignore is an error.
    private mutating func checkEffect(of policy: DestinationPolicy, at path: String) {
        let isTopic = policy.pattern.hasPrefix("/topic/")
        let logKeys = ["log-messages-max", "log-bytes-max", "log-age-max-ms"]
        let (unused, reason): ([String], String) =
            switch (isTopic, policy.logMessageCountMax) {
            case (false, _):
                (
                    logKeys + ["durable-subscription-expires-ms"],
                    "\(policy.pattern) is no topic; allowed: only with /topic/"
                )
            case (true, 0): (logKeys, "the topic keeps no log; allowed: with log-messages-max")
            case (true, _): ([], "")
            }
        refuse(unused, of: policy, at: path, reason)
        if isTopic {
            refuse(
                ["deduplication-window-ms", "deduplication-count-max"], of: policy, at: path,
                "\(policy.pattern) is no queue; allowed: only with /queue/")
        }
    }

    private mutating func refuse(_ keys: [String], of policy: DestinationPolicy, at path: String, _ reason: String) {
        let defaults = DestinationPolicy(pattern: "")
        for key in keys.compactMap({ Schema.destinationKey(at: $0) }) where key.get(policy) != key.get(defaults) {
            report(origin(of: "\(path).\(key.path)"), "\(path).\(key.path)", "has no effect: \(reason)")
        }
    }

    /// Warns of an entry that never applies, because an earlier one matches all that it does.
    private mutating func warnOfShadow(over index: Int) {
        let policies = settings.broker.destinationPolicies
        func template(_ index: Int) -> PatternTemplate? {
            try? settings.patternLimits.template(policies[index].pattern, .publish)
        }
        guard let pattern = template(index),
            let wider = policies[..<index].indices.first(where: { template($0).map(pattern.isWithin) ?? false }),
            policies[wider].pattern != policies[index].pattern
        else { return }
        let path = "\(Schema.destinations)[\(index)].match"
        warnings.append(
            ConfigurationProblem(
                place: origin(of: path).place, path: path,
                text: "\(quoted(policies[index].pattern)) never applies, because \(Schema.destinations)[\(wider)] "
                    + "(\(quoted(policies[wider].pattern))) comes first and matches it; put it before that one"))
    }

    private mutating func checkNameLength(_ name: String, _ path: String) {
        let byteCountMax = settings.broker.limits.destinationNameByteCountMax
        if name.utf8.count > byteCountMax {
            report(
                origin(of: path), path,
                "found \(name.utf8.count) bytes; allowed: limits.destination-name-bytes = \(byteCountMax)")
        }
        let levelCountMax = settings.broker.limits.destinationLevelCountMax
        // The prefix, /queue/ or /topic/, has two separators. Between the levels there is one less than there are
        // levels.
        let levelCount = name.utf8.count { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "/") } - 1
        if levelCount > levelCountMax {
            report(
                origin(of: path), path,
                "found \(levelCount) levels; allowed: limits.destination-levels-max = \(levelCountMax)")
        }
    }
}
