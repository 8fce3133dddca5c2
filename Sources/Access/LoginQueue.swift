public import Permissions

/// Logins that wait to be checked, and refusals that wait to be told. A plain value: whoever owns it brings time and threads.
///
/// - Addresses take turns, one login at a time: whoever floods the broker with logins delays others by one check of his.
/// - An address may have `waitingPerAddressMax` logins that wait, and all together `waitingMax`. Beyond, logins are refused.
/// - A wrong login is told after a delay, which doubles with each of its address, up to eight times. A minute without one
///   makes it the first again.
/// - An address that floods takes the slow lane, which has a thread of its own: so it never keeps others waiting. It floods if
///   its line was full, and `slowCountMin` of its logins were wrong, within a minute. A right login takes back as much as
///   `forgivenCount` wrong ones did: a proxy whose clients all come back at once does not flood.
/// - A login that has waited longer than its client may is dropped, unchecked.
public struct LoginQueue<Ticket: Sendable>: Sendable {
    /// Who checks a login.
    public enum Lane: Sendable {
        case prompt
        /// For addresses that flood.
        case slow
    }

    /// Times in milliseconds of any clock that only goes forward.
    public struct Login: Sendable {
        public var ticket: Ticket
        public var credentials: Credentials
        /// Of the client. 0: not known; those share their turns.
        public var address: UInt64
        public var deadline: UInt64
        /// When it was asked. nil: it was not in the queue.
        fileprivate(set) var since: UInt64?

        public init(ticket: Ticket, credentials: Credentials, address: UInt64, deadline: UInt64) {
            self.ticket = ticket
            self.credentials = credentials
            self.address = address
            self.deadline = deadline
        }
    }

    /// A refusal whose time has come.
    public struct Refused: Sendable {
        public var ticket: Ticket
        public var refusal: LoginRefusal
        /// What the client is told: `Authenticator.told`.
        public var told: LoginRefusal
    }

    public static var waitingMax: Int { 16_384 }
    public static var waitingPerAddressMax: Int { 512 }
    static var failingAddressesMax: Int { 16_384 }
    private static var forgetMilliseconds: UInt64 { 60_000 }
    private static var delayMillisecondsMax: UInt64 { 2_000 }
    static var slowCountMin: UInt64 { 16 }
    /// More wrong logins than that count as so many.
    static var failureCountMax: UInt64 { 64 }
    static var forgivenCount: UInt64 { 4 }

    private struct Line {
        var logins: [Login] = []
        var takenCount = 0

        var isEmpty: Bool { takenCount == logins.count }
        var count: Int { logins.count - takenCount }

        mutating func popFirst() -> Login? {
            guard takenCount < logins.count else { return nil }
            takenCount += 1
            let login = logins[takenCount - 1]
            if takenCount == logins.count {
                logins.removeAll(keepingCapacity: takenCount <= 64)
                takenCount = 0
            } else if takenCount >= 64 {
                logins.removeFirst(takenCount)
                takenCount = 0
            }
            return login
        }
    }

    /// Addresses in the order of their turns.
    private struct Turns {
        private var addresses: [UInt64] = []
        private var takenCount = 0

        var isEmpty: Bool { takenCount == addresses.count }

        mutating func append(_ address: UInt64) { addresses.append(address) }

        mutating func popFirst() -> UInt64? {
            guard takenCount < addresses.count else {
                addresses.removeAll(keepingCapacity: true)
                takenCount = 0
                return nil
            }
            takenCount += 1
            let address = addresses[takenCount - 1]
            if takenCount >= 64, takenCount * 2 >= addresses.count {
                addresses.removeFirst(takenCount)
                takenCount = 0
            }
            return address
        }
    }

    private struct Failures {
        var count: UInt64
        var last: UInt64
        /// When its line was full. nil: never, since the first of these.
        var fullAt: UInt64?
    }

    private struct Delayed {
        var refused: Refused
        var due: UInt64
    }

    private var lines: [UInt64: Line] = [:]
    /// Addresses with logins that wait: each is in one of the two.
    private var promptTurns = Turns()
    private var slowTurns = Turns()
    private var waitingCount = 0
    private var failures: [UInt64: Failures] = [:]
    /// A heap: each is due no later than the two at twice its place and one, or two, further on.
    private var delayed: [Delayed] = []
    private let delayMilliseconds: UInt64

    public init(delayMilliseconds: Int) { self.delayMilliseconds = UInt64(delayMilliseconds) }

    public var isEmpty: Bool { waitingCount == 0 && delayed.isEmpty }
    /// Addresses with wrong logins within the last minute, and some that are older.
    public var failingAddressCount: Int { failures.count }

    // MARK: Waiting

    /// Logins wait in the slow lane.
    public var hasSlow: Bool { !slowTurns.isEmpty }

    /// Puts a login at the end of its address's line, and returns who will check it. nil: too many wait.
    public mutating func append(_ login: Login, now: UInt64) -> Lane? {
        guard waitingCount < Self.waitingMax else { return nil }
        var line = lines.removeValue(forKey: login.address) ?? Line()
        defer { lines[login.address] = line }
        guard line.count < Self.waitingPerAddressMax else {
            failures[login.address]?.fullAt = now
            return nil
        }
        let lane = isSlow(login.address, now: now) ? Lane.slow : .prompt
        if line.isEmpty {
            if lane == .slow { slowTurns.append(login.address) } else { promptTurns.append(login.address) }
        }
        var login = login
        // Another queue may have had it before: that of those who wait for a thread.
        if login.since == nil { login.since = now }
        line.logins.append(login)
        waitingCount += 1
        return lane
    }

    /// Takes the login whose turn it is. nil: none waits.
    public mutating func next(now: UInt64, lane: Lane = .prompt) -> Login? {
        while let address = lane == .slow ? slowTurns.popFirst() : promptTurns.popFirst() {
            if lane == .prompt, isSlow(address, now: now) {
                // Since its last turn, too many were wrong.
                slowTurns.append(address)
                continue
            }
            guard var line = lines.removeValue(forKey: address) else { continue }
            var found: Login?
            while found == nil, let login = line.popFirst() {
                waitingCount -= 1
                if login.deadline > now { found = login }
            }
            if !line.isEmpty {
                lines[address] = line
                if lane == .slow { slowTurns.append(address) } else { promptTurns.append(address) }
            }
            if let found { return found }
        }
        return nil
    }

    private func isSlow(_ address: UInt64, now: UInt64) -> Bool {
        guard let known = failures[address], let fullAt = known.fullAt else { return false }
        return known.count >= Self.slowCountMin && now < min(known.last, fullAt) + Self.forgetMilliseconds
    }

    // MARK: Right logins

    /// A login of that address was right.
    public mutating func accept(_ address: UInt64) {
        guard let known = failures[address] else { return }
        failures[address]!.count = known.count - min(known.count, Self.forgivenCount)
    }

    // MARK: Refusals

    /// A login is wrong: its client hears of it later.
    public mutating func refuse(_ login: Login, _ refusal: LoginRefusal, told: LoginRefusal? = nil, now: UInt64) {
        let delay = countFailure(of: login.address, now: now)
        // From when it was asked, so that the time does not tell what was done to find out.
        let refused = Refused(ticket: login.ticket, refusal: refusal, told: told ?? refusal)
        delayed.append(Delayed(refused: refused, due: max(now, (login.since ?? now) + delay)))
        var place = delayed.count - 1
        while place > 0, delayed[place].due < delayed[(place - 1) / 2].due {
            delayed.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    private mutating func popDelayed() -> Refused {
        delayed.swapAt(0, delayed.count - 1)
        let popped = delayed.removeLast()
        var place = 0
        while true {
            var least = place
            for child in [place * 2 + 1, place * 2 + 2]
            where child < delayed.count && delayed[child].due < delayed[least].due { least = child }
            if least == place { return popped.refused }
            delayed.swapAt(place, least)
            place = least
        }
    }

    /// Returns how long the answer waits.
    private mutating func countFailure(of address: UInt64, now: UInt64) -> UInt64 {
        var known = failures[address] ?? Failures(count: 0, last: now)
        // Threads read the clock before they get here, so one may come with an earlier time than the last.
        let now = max(now, known.last)
        if now - known.last >= Self.forgetMilliseconds { known.count = 0 }
        known.count = min(known.count + 1, Self.failureCountMax)
        known.last = now
        if failures[address] == nil, failures.count >= Self.failingAddressesMax {
            failures = failures.filter { $0.value.last + Self.forgetMilliseconds > now }
            if failures.count >= Self.failingAddressesMax { failures.removeAll() }
        }
        failures[address] = known
        let delay = delayMilliseconds << min(known.count - 1, 3)
        return min(delay, max(Self.delayMillisecondsMax, delayMilliseconds))
    }

    /// Takes the refusals that are due.
    public mutating func takeDue(now: UInt64) -> [Refused] {
        var due: [Refused] = []
        while let first = delayed.first, first.due <= now { due.append(popDelayed()) }
        return due
    }

    /// When the next refusal is due. nil: none waits.
    public var nextDue: UInt64? { delayed.first?.due }
}

/// Passwords that were right a short while ago, so that who connects again is not hashed again: not the passwords, but a
/// keyed hash of each with its login, whose key is made at start and never leaves the process.
public struct RememberedLogins: Sendable {
    private struct Entry {
        var digest: [UInt8]
        var identity: AccessIdentity
        var until: UInt64
    }

    static let countMax = 65_536

    private let key: [UInt8]
    private let milliseconds: UInt64
    private var entries: [[UInt8]: Entry] = [:]

    /// - Parameter milliseconds: how long each is remembered. 0: not at all.
    public init(milliseconds: Int) {
        self.milliseconds = UInt64(milliseconds)
        key = (0..<32).map { _ in .random(in: 0...255) }
    }

    public var isEmpty: Bool { entries.isEmpty }
    public var count: Int { entries.count }

    private func digest(_ credentials: Credentials) -> [UInt8] {
        var bytes = credentials.login
        // Where the login ends is part of it.
        withUnsafeBytes(of: UInt64(credentials.login.count)) { bytes += $0 }
        return Digest.hmacSHA256(bytes + credentials.passcode, key: key)
    }

    /// Who the client is, if just this login and passcode were right.
    public mutating func find(_ credentials: Credentials, now: UInt64) -> AccessIdentity? {
        guard let entry = entries[credentials.login] else { return nil }
        guard entry.until > now else {
            entries[credentials.login] = nil
            return nil
        }
        return Digest.areEqual(digest(credentials), entry.digest) ? entry.identity : nil
    }

    public mutating func remember(_ credentials: Credentials, _ identity: AccessIdentity, now: UInt64) {
        guard milliseconds > 0 else { return }
        if entries[credentials.login] == nil, entries.count >= Self.countMax {
            entries = entries.filter { $0.value.until > now }
            if entries.count >= Self.countMax { entries.removeAll() }
        }
        entries[credentials.login] = Entry(digest: digest(credentials), identity: identity, until: now + milliseconds)
    }

    /// The users file has changed.
    public mutating func forgetAll() { entries.removeAll() }
}
