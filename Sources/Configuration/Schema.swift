import Broker

/// The table of every key, in the order of the configuration file.
enum Schema {
    /// All keys except those of `hosts` and `destinations`.
    static let settings: [Setting<Settings>] =
        listeners + tls + access + io + limits + storage + destinationDefaults + defaultHost + log

    /// The key whose value is a list of `destinationKeys` mappings.
    static let destinations = "destinations"

    static let destinationsWhy =
        "Limits and policies of the destinations that match a name or pattern; the first that matches applies."

    private static let log: [Setting<Settings>] = [
        .choice(
            "log.level", \.logLevel,
            "The least severe level that is logged. info: also errors of clients. debug: also the choice of driver."),
        .choice("log.format", \.logFormat, "text for people, json (one object a line) for log collectors."),
    ]

    private static let destinationDefaults: [Setting<Settings>] = [
        .flag(
            "clients-create-destinations", \.broker.clientsCreateDestinations,
            "true: clients may use destinations that match no entry of `destinations`. false: ERROR."),
        .choice(
            "bare-names", \.broker.bareNamePrefix, [("topic", "/topic/"), ("queue", "/queue/"), ("reject", "")],
            "What `orders`, without a leading slash, means: /topic/orders, /queue/orders (ActiveMQ), or ERROR."),
    ]

    /// The keys of one entry of `destinations`.
    static let destinationKeys: [Setting<DestinationPolicy>] = [
        .text(
            "match", \.pattern, allowed: DestinationPattern.allowed,
            "Which destinations: a name, or a pattern with * for one level and # for any number of levels.",
            accepts: DestinationPattern.accepts),
        .count(
            "messages-max", \.queueMessageCountMax, 1...1_000_000_000,
            "Messages that a queue holds. At the limit: `overflow`."),
        .bytes(
            "bytes-max", \.queueByteCountMax, 1024...1 << 40,
            "Bytes that a queue holds. At the limit: `overflow`."),
        .choice(
            "overflow", \.overflow, [("reject", .reject), ("drop-oldest", .dropOldest), ("block", .block)],
            "A full queue: answers ERROR, drops (dead-letters) the oldest, or lets the publisher wait."),
        .milliseconds(
            "message-ttl-ms", \.messageMillisecondsMax, 1...10 * 365 * 86_400_000, zero: "for ever",
            "Time to live of a message that has no expiry of its own."),
        .count(
            "deliveries-max", \.deliveryCountMax, 1...1_000_000, zero: "no limit",
            "Failed deliveries of a message (NACK, lost connection) before it goes to `dead-letter`."),
        .text(
            "dead-letter", \.deadLetterDestination, allowed: "\"\" (drop them), or a \(DestinationPattern.allowedName)",
            "For messages that failed too often or were rejected. \"\", or the queue itself: no limit of failures, and "
                + "rejected messages are dropped and counted.",
            accepts: { $0.isEmpty || DestinationPattern.acceptsName($0) }),
        .milliseconds(
            "deduplication-window-ms", \.deduplicationMilliseconds, 1000...7 * 86_400_000, zero: "off",
            "How long the x-deduplication-id of a message is known: another with the same is confirmed and dropped."),
        .count(
            "deduplication-count-max", \.deduplicationCountMax, 1...100_000_000,
            "Ids of a queue that are known. Beyond them the oldest is forgotten before its time."),
        .flag(
            "dead-letter-expired", \.deadLettersExpired,
            "Expired messages go to `dead-letter` too, instead of being dropped."),
        .milliseconds(
            "idle-expires-ms", \.idleMillisecondsMax, 10...604_800_000, zero: "never",
            "A queue without messages and consumers is removed, with its x- arguments, after this time."),
        .milliseconds(
            "idle-expires-with-messages-ms", \.idleWithMessagesMillisecondsMax, 10...604_800_000, zero: "never",
            "A queue with messages that nobody uses for this long is removed; its messages are dropped."),
        .milliseconds(
            "durable-subscription-expires-ms", \.durableMillisecondsMax, 1000...10 * 365 * 86_400_000, zero: "never",
            "A durable subscription to such a topic that nobody uses for this long ends, with its messages."),
        .choice(
            "storage", \.storage, [("by-header", .byHeader), ("always", .always), ("never", .never)],
            "Which messages of a queue, or kept by a topic, are stored: those with persistent:true, all, or none."),
        .count(
            "log-messages-max", \.logMessageCountMax, 1...100_000_000, zero: "no log",
            "Messages that a topic keeps in its log (SUBSCRIBE x-stream-offset). At the limit: the oldest goes."),
        .bytes(
            "log-bytes-max", \.logByteCountMax, 1024...1 << 40,
            "Memory that the log of a topic takes; those of a worker take half of message-memory-bytes at most."),
        .milliseconds(
            "log-age-max-ms", \.logMillisecondsMax, 1000...10 * 365 * 86_400_000, zero: "any age",
            "How long the log of a topic keeps a message."),
    ]

    static func setting(at path: String) -> Setting<Settings>? { byPath[path] }

    static func destinationKey(at path: String) -> Setting<DestinationPolicy>? {
        destinationKeys.first { $0.path == path }
    }

    private static let byPath = Dictionary(uniqueKeysWithValues: settings.map { ($0.path, $0) })

    /// All sections: "io", "io.uring" and so on, that is, every proper prefix of the path of a key.
    static let sections: Set<String> = {
        var sections: Set<String> = []
        for setting in settings {
            var parts = setting.path.split(separator: ".").dropLast()
            while !parts.isEmpty {
                sections.insert(parts.joined(separator: "."))
                parts.removeLast()
            }
        }
        return sections
    }()
}

/// The notation of destinations in the configuration.
enum DestinationPattern {
    static let allowedName = "name that begins with /queue/ or /topic/, without wildcards"
    static let allowed = "text that begins with /queue/ or /topic/; the wildcards * and # stand for whole levels"

    /// Whether `text` is a name or a pattern. Levels are separated by `.` and `/`. A wildcard must be a whole level,
    /// because brokers and clients disagree about what `a*` would match.
    static func accepts(_ text: String) -> Bool {
        guard let levels = levels(of: text) else { return false }
        return levels.allSatisfy { isWildcard($0) || !$0.contains(where: wildcardCharacters.contains) }
    }

    /// Whether `text` is the name of one destination.
    static func acceptsName(_ text: String) -> Bool {
        guard let levels = levels(of: text) else { return false }
        return levels.allSatisfy { !$0.contains(where: wildcardCharacters.contains) }
    }

    private static let wildcardCharacters: Set<Character> = ["*", "#", ">"]

    private static func isWildcard(_ level: Substring) -> Bool {
        level == "*" || level == "#" || level == ">" || level == "**"
    }

    private static func levels(of text: String) -> [Substring]? {
        guard text.hasPrefix("/queue/") || text.hasPrefix("/topic/") else { return nil }
        let name = text.dropFirst(7)
        let hasControls = name.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }
        guard !name.isEmpty, !hasControls else { return nil }
        return name.split(omittingEmptySubsequences: false) { $0 == "." || $0 == "/" }
    }
}
