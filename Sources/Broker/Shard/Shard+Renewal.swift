import Glibc
import Permissions
import STOMP
import Slabs

// A client whose session ends with its token brings a newer one, in time:
//
//     SEND
//     destination:/control/renew
//     authorization:Bearer eyJ...        (or without "Bearer ")
//     receipt:r
//
// The token is decided about as that of CONNECT was, and so the session waits as it did there. It has to be the same user's.
// What it allows holds from then on, for what the client has subscribed to as well. RECEIPT says that it is in force; a
// token that is no good is ERROR, and ends the session.
extension Shard {
    private static var renewalDestination: StaticString { "/control/renew" }

    /// The SEND under the parser, outside of a transaction, renews a token.
    @inline(never)
    mutating func isRenewal() -> Bool { equals(frame.rawValue(.destination)!, Self.renewalDestination) }

    mutating func renew(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        if session.pointee.flags.contains(.isRenewed) {
            session.pointee.flags.remove(.isRenewed)
            confirm(context)
            return .done
        }
        if session.pointee.flags.contains(.isRenewing) {
            // It had its turn for another reason.
            suspend(session)
            return .retry
        }
        guard gate.expiry(of: session.pointee.index) != nil else {
            failFrame(context, "No token to renew", "this session does not end with a token")
            return .done
        }
        guard let token = renewalToken() else {
            failFrame(
                context, "Missing header",
                "SEND to \(Self.renewalDestination) needs the header authorization with a token")
            return .done
        }
        var question = AuthenticationQuestion(
            connection: session.pointee.slot, clientID: gate.clientID(of: session.pointee.index),
            address: sessions.address(of: session.pointee.index), listener: session.pointee.listener)
        question.passcode = token
        if hosts.isOn { question.host = hosts.name(of: session.pointee.index) }
        question.isRenewal = true
        questions.append(question)
        hasQuestions = true
        session.pointee.flags.insert(.isRenewing)
        suspend(session)
        return .retry
    }

    /// RFC 6750, section 2.1. nil: there is none.
    private mutating func renewalToken() -> [UInt8]? {
        for index in 0..<frame.fieldCount {
            let field = frame.field(index)
            guard field.known == .other, equals(frame.rawName(of: field), "authorization") else { continue }
            let value = Array(frame.rawValue(of: field))
            let scheme = Array("bearer ".utf8)
            let hasScheme = value.count > scheme.count && zip(value, scheme).allSatisfy { $0 == $1 || $0 | 0x20 == $1 }
            let token = hasScheme ? Array(value.dropFirst(scheme.count)) : value
            return token.isEmpty ? nil : token
        }
        return nil
    }

    /// It was decided about the token.
    mutating func renewed(_ session: UnsafeMutablePointer<Session>, _ answer: AuthenticationAnswer) {
        session.pointee.flags.remove(.isRenewing)
        guard let identity = answer.identity else {
            return refuseLogin(session, "Access refused", "\(answer.explanation)")
        }
        guard identity.expiresAt != 0, identity.user == gate.user(of: session.pointee.index) else {
            return refuseLogin(
                session, "Access refused", "only a token of the same user renews the one of this session")
        }
        guard gate.renew(session.pointee.index, identity, at: session.pointee.listener, now: now) else {
            return refuseLogin(session, "Access refused", "this user may not be connected any more")
        }
        if hosts.isOn, !admitsHost(session) { return }
        updateRate(session)
        session.pointee.lastDestination = .none
        armTokenDeadline(session)
        recheckSubscriptions(session)
        if session.pointee.state == .connected { recheckTransactions(session) }
        guard session.pointee.state == .connected else { return }
        session.pointee.flags.insert(.isRenewed)
        resumeSoon(session)
    }
}
