import IO
import Permissions
import Slabs

/// Who the sessions of a worker are, and what they may do.
///
/// Off, it holds nothing and is asked nothing. On, each session that is connected has a set of permissions, which sessions
/// of the same name share, and an answer is remembered by set and destination: to ask again costs a comparison. A session
/// without a set may do nothing.
///
/// A new table makes all sets and all that is remembered old: a set is made again when a session of it acts, and the shard
/// walks all sessions, for what they have done already may be allowed no more. Until the walk has passed a session
/// (`hasPassed`), what it has begun must not be finished.
struct AccessGate: ~Copyable {
    /// Sessions have permissions.
    let isOn: Bool
    /// Sessions have names that were proved, so nobody may pretend to have another one's.
    let knowsUsers: Bool
    private var table: AccessTable
    /// Sets that sessions have, and free places among them.
    private var sets: [SharedSet] = []
    private var freePlaces: [Int] = []
    private var placesByKey: [SharedSet.Key: Int] = [:]
    /// By session: the place of its set, counted from 1. 0: none.
    private var places: [UInt32] = []
    private var clientIDs: [Index<Session>: [UInt8]] = [:]
    private var expiries: [Index<Session>: UInt64] = [:]
    /// When sessions are read again that have sent too much, in monotonic nanoseconds. Each stays, for the log is told once.
    private var slownessEnds: [Index<Session>: UInt64] = [:]
    private let usages: UserUsages
    private var lastSerial: UInt64 = 0
    private var remembered: [Remembered]
    /// The last session that the walk has passed. `Index(.max)`: there is no walk.
    private var passed = Index<Session>(.max)

    /// What sessions of the same name may do.
    private struct SharedSet {
        struct Key: Hashable {
            var source: AccessIdentity.Source
            var user: [UInt8]
            var clientID: [UInt8]?
            /// A token that says by itself what it allows is like no other.
            var token: ObjectIdentifier?
            /// Where its clients came in, if that listener restricts them. nil: it does not.
            var listener: ListenerID?
            /// Where somebody else has decided that its clients may be.
            var host: String?
        }

        var key: Key
        var identity: AccessIdentity
        /// nil: a client of this name may not be connected any more.
        var permissions: PermissionSet?
        /// What they were made from. Kept, for an address alone could be that of a later table.
        var table: AccessTable
        /// Never used again, so that what is remembered of another set is not taken for this one's.
        var serial: UInt64
        var sessionCount: Int
        /// nil: its sessions are not counted. Each of them is a connection of it.
        var usage: UserUsage?
    }

    /// What a set says of a destination.
    private struct Remembered {
        var serial: UInt64 = 0
        var destination = Handle<Destination>.none
        /// A bit for each action: it is known, and it is allowed.
        var known: UInt8 = 0
        var allowed: UInt8 = 0
    }

    private static var rememberedCount: Int { 4096 }

    /// - Parameter table: nil: sessions have no permissions, and may do anything.
    init(_ table: AccessTable?, _ usages: UserUsages = UserUsages()) {
        self.usages = usages
        isOn = table != nil
        knowsUsers = table?.isForAnybody == false
        self.table = table ?? .empty
        remembered = table == nil ? [] : Array(repeating: Remembered(), count: Self.rememberedCount)
    }

    // MARK: Sessions

    /// Whether a client may be connected.
    enum Entrance: Equatable {
        case entered
        case refused
        /// Its user has as many connections already.
        case tooManyConnections(max: Int)
    }

    /// The session belongs to a client from now on, if that one may be connected.
    ///
    /// - Parameter listener: where it came in.
    mutating func enter(
        _ session: Index<Session>, _ identity: AccessIdentity, clientID: [UInt8]?, at listener: ListenerID, now: UInt64
    ) -> Entrance {
        invariant(place(of: session) == nil, "a session has one identity")
        if let clientID { clientIDs[session] = clientID }
        if identity.expiresAt != 0 { expiries[session] = identity.expiresAt }
        let connectionCount = join(session, identity, at: listener, now: now)
        guard let permissions = place(of: session).flatMap({ sets[$0].permissions }) else {
            leave(session)
            return .refused
        }
        let most = permissions.limits.connectionCountMax
        guard most == 0 || connectionCount <= most else {
            leave(session)
            return .tooManyConnections(max: most)
        }
        return .entered
    }

    /// The session's client is the same, with a newer token. False: it may not be connected any more.
    mutating func renew(
        _ session: Index<Session>, _ identity: AccessIdentity, at listener: ListenerID, now: UInt64
    ) -> Bool {
        guard let place = place(of: session) else { return false }
        part(session, place)
        expiries[session] = identity.expiresAt
        join(session, identity, at: listener, now: now)
        return self.place(of: session).map { sets[$0].permissions != nil } == true
    }

    /// As CONNECT named it. nil: it did not.
    mutating func clientID(of session: Index<Session>) -> [UInt8]? { clientIDs[session] }

    /// The session is gone.
    mutating func leave(_ session: Index<Session>) {
        guard let place = place(of: session) else { return }
        part(session, place)
        clientIDs[session] = nil
        expiries[session] = nil
        slownessEnds[session] = nil
    }

    /// The name that its client has proved. nil: none, or the empty one of a client without a login.
    func user(of session: Index<Session>) -> [UInt8]? { place(of: session).map { sets[$0].identity.user } }

    /// When it ends, in milliseconds since the epoch. nil: never.
    func expiry(of session: Index<Session>) -> UInt64? { expiries[session] }

    /// Sessions that have an identity, and sets that they share: for audits.
    var counts: (sessions: Int, sets: Int) {
        (places.count { $0 != 0 }, sets.count - freePlaces.count)
    }

    private func place(of session: Index<Session>) -> Int? {
        let index = Int(session.rawValue)
        guard index < places.count, places[index] != 0 else { return nil }
        return Int(places[index]) - 1
    }

    /// Returns the connections that the user has then, if they are counted.
    @discardableResult
    private mutating func join(
        _ session: Index<Session>, _ identity: AccessIdentity, at listener: ListenerID?, now: UInt64
    ) -> Int {
        // What listeners restrict is read at the start only: one that does not, will not.
        let listener = listener.flatMap { table.restricts(listener: Int($0.rawValue)) ? $0 : nil }
        let key = SharedSet.Key(
            source: identity.source, user: identity.user,
            clientID: table.dependsOnClientID(identity) ? clientIDs[session] : nil,
            token: identity.rules == nil && identity.roles.isEmpty ? nil : ObjectIdentifier(identity),
            listener: listener, host: identity.host)
        let index = Int(session.rawValue)
        while places.count <= index { places.append(0) }
        if let place = placesByKey[key], sets[place].table === table {
            sets[place].sessionCount += 1
            places[index] = UInt32(place + 1)
            return sets[place].usage == nil ? 0 : usages.enter(identity.user, now: now).connectionCount
        }
        lastSerial += 1
        var set = SharedSet(
            key: key, identity: identity,
            permissions: table.permissions(
                of: identity, clientID: clientIDs[session], listener: listener.map { Int($0.rawValue) }),
            table: table, serial: lastSerial, sessionCount: 1)
        var connectionCount = 0
        if set.permissions?.limits.isCounted == true {
            let (usage, count) = usages.enter(identity.user, now: now)
            set.usage = usage
            connectionCount = count
        }
        let place = freePlaces.popLast() ?? sets.count
        if place == sets.count { sets.append(set) } else { sets[place] = set }
        // Where there is one of the same name from an older table, its sessions leave it one by one.
        placesByKey[key] = place
        places[index] = UInt32(place + 1)
        return connectionCount
    }

    private mutating func part(_ session: Index<Session>, _ place: Int) {
        places[Int(session.rawValue)] = 0
        sets[place].usage?.leave()
        sets[place].sessionCount -= 1
        guard sets[place].sessionCount == 0 else { return }
        if placesByKey[sets[place].key] == place { placesByKey[sets[place].key] = nil }
        sets[place].permissions = nil
        sets[place].usage = nil
        freePlaces.append(place)
    }

    // MARK: Questions

    /// Whether the session may do it with a destination, if it was asked before. nil: it is not known.
    mutating func answer(
        _ session: Index<Session>, _ action: AccessAction, _ destination: Handle<Destination>
    ) -> Bool? {
        guard let place = currentPlace(of: session) else { return false }
        let entry = remembered[Self.place(sets[place].serial, destination)]
        let bit: UInt8 = 1 << action.rawValue
        guard entry.serial == sets[place].serial, entry.destination == destination, entry.known & bit != 0 else {
            return nil
        }
        return entry.allowed & bit != 0
    }

    mutating func remember(
        _ isAllowed: Bool, _ session: Index<Session>, _ action: AccessAction, _ destination: Handle<Destination>
    ) {
        guard let place = place(of: session) else { return }
        let serial = sets[place].serial
        let bit: UInt8 = 1 << action.rawValue
        let slot = Self.place(serial, destination)
        if remembered[slot].serial != serial || remembered[slot].destination != destination {
            remembered[slot] = Remembered(serial: serial, destination: destination)
        }
        remembered[slot].known |= bit
        if isAllowed { remembered[slot].allowed |= bit }
    }

    private static func place(_ serial: UInt64, _ destination: Handle<Destination>) -> Int {
        let mixed = (serial &* 0x9E37_79B9_7F4A_7C15) ^ UInt64(destination.index.rawValue) &* 0xC2B2_AE3D_27D4_EB4F
        return Int(mixed >> 52)
    }

    /// Whether the session may do it with what has that canonical name.
    mutating func allows(
        _ session: Index<Session>, _ action: AccessAction, _ name: UnsafeRawBufferPointer, isPattern: Bool
    ) -> Bool {
        guard let place = currentPlace(of: session), let permissions = sets[place].permissions else { return false }
        return isPattern ? permissions.allows(action, pattern: name) : permissions.allows(action, name)
    }

    /// The place of the session's set, made from the table in force.
    private mutating func currentPlace(of session: Index<Session>) -> Int? {
        guard let place = place(of: session) else { return nil }
        if sets[place].table === table { return place }
        let (identity, listener) = (sets[place].identity, sets[place].key.listener)
        part(session, place)
        // It is in already, whatever its user may have now.
        join(session, identity, at: listener, now: 0)
        return self.place(of: session)
    }

    // MARK: Virtual hosts

    /// Whether the session's user may use a host.
    ///
    /// - Parameter isDefault: clients that name no host are there.
    mutating func mayUse(host: String, isDefault: Bool, _ session: Index<Session>) -> Bool {
        guard let place = currentPlace(of: session), let permissions = sets[place].permissions else { return false }
        return sets[place].identity.host == host || permissions.allows(host: host, isDefault: isDefault)
    }

    // MARK: Limits of users

    /// Those of the session's user.
    mutating func limits(of session: Index<Session>) -> UserLimits {
        place(of: session).flatMap { sets[$0].permissions?.limits } ?? UserLimits()
    }

    /// Returns nanoseconds for which the session is not to be read. 0: none.
    mutating func spendFrame(_ session: Index<Session>, now: UInt64) -> UInt64 {
        guard let place = place(of: session), let usage = sets[place].usage,
            let most = sets[place].permissions?.limits.framesPerSecondMax, most > 0
        else { return 0 }
        return usage.frames.spend(1, perSecondMax: most, now: now)
    }

    mutating func spendBytes(_ session: Index<Session>, _ count: Int, now: UInt64) -> UInt64 {
        guard let place = place(of: session), let usage = sets[place].usage,
            let most = sets[place].permissions?.limits.bytesPerSecondMax, most > 0
        else { return 0 }
        return usage.bytes.spend(count, perSecondMax: most, now: now)
    }

    /// Returns whether it is the first time.
    mutating func slowDown(_ session: Index<Session>, until time: UInt64) -> Bool {
        slownessEnds.updateValue(time, forKey: session) == nil
    }

    /// 0: it was never slowed down.
    mutating func slownessEnd(of session: Index<Session>) -> UInt64 { slownessEnds[session] ?? 0 }

    // MARK: Another table

    /// Another table is in force. The walk over all sessions begins.
    mutating func replace(_ table: AccessTable) {
        guard isOn, table !== self.table else { return }
        self.table = table
        passed = .none
    }

    var isWalking: Bool { passed.rawValue != .max }

    /// What the session has begun may be finished.
    func hasPassed(_ session: Index<Session>) -> Bool { session.rawValue <= passed.rawValue }

    /// The last session that the walk has passed; none at its beginning.
    var lastPassed: Index<Session> { passed }

    /// Returns whether the session's client may be connected still.
    mutating func pass(_ session: Index<Session>) -> Bool {
        passed = session
        guard let place = currentPlace(of: session) else { return true }
        return sets[place].permissions != nil
    }

    mutating func endWalk() { passed = Index(.max) }
}
