import Access
import Broker
import Drivers
import IO
import Slabs
import Transports

// What a worker knows of clients beside what they say in CONNECT.
extension Worker {
    /// Brings the shard the table in force and the answers that lie ready. Returns the table's number.
    func bring(_ access: AccessPool, _ shard: inout Shard, _ number: Int) -> Int {
        let current = access.number
        if current != number { shard.replaceAccess(access.table) }
        if access.hasAnswers(worker: index) { shard.answer(access.takeAnswers(worker: index)) }
        return current
    }

    /// Asks about clients that have sent CONNECT. To be called before the next poll, while their connections are known.
    func ask<D: Driver & ~Copyable>(
        _ access: AccessPool, _ questions: [AuthenticationQuestion], _ driver: inout D, _ layer: inout TransportLayer?,
        _ tls: inout TLSLayer?
    ) {
        var asked: [LoginQuestion] = []
        for question in questions {
            var credentials = proven(of: question, &driver, &tls)
            if access.wantsAddresses { credentials.address = address(of: question.connection, &driver, &layer) }
            asked.append(LoginQuestion(question, credentials))
        }
        access.ask(asked, worker: index)
    }

    /// "192.0.2.1", of the client of a proxy where there is one. nil: it is not known.
    private func address<D: Driver & ~Copyable>(
        of connection: Slot, _ driver: inout D, _ layer: inout TransportLayer?
    ) -> String? {
        if layer != nil, let source = layer!.clientAddress(of: connection) { return source.host }
        return driver.peerAddress(of: connection).flatMap { ClientAddress($0)?.host }
    }

    /// What the connection says of its client.
    private func proven<D: Driver & ~Copyable>(
        of question: AuthenticationQuestion, _ driver: inout D, _ tls: inout TLSLayer?
    ) -> Credentials {
        var credentials = Credentials(login: question.login, passcode: question.passcode)
        let listener = Int(question.listener.rawValue)
        credentials.listener = listener
        credentials.host = question.host
        guard listener < broker.listeners.count else { return credentials }
        if broker.listeners[listener].transport.usesTLS, tls != nil {
            credentials.certificate = tls!.identity(of: question.connection)?.peer.map { CertificateNames($0) }
        }
        if broker.listeners[listener].isUnix {
            credentials.systemUser = driver.peerCredentials(of: question.connection)?.userID
        }
        return credentials
    }
}

/// A client that has sent CONNECT, and what it and its connection say of it.
struct LoginQuestion {
    var connection: Slot
    var clientID: [UInt8]?
    /// `ConnectionOrigin.address`.
    var address: UInt64
    /// It is connected, and waits for the answer as long as it takes.
    var isRenewal: Bool
    var credentials: Credentials

    init(_ question: AuthenticationQuestion, _ credentials: Credentials) {
        connection = question.connection
        clientID = question.clientID
        address = question.address
        isRenewal = question.isRenewal
        self.credentials = credentials
    }
}

extension CertificateNames {
    fileprivate init(_ peer: TLSIdentity.Peer) {
        self.init(
            commonName: peer.commonName, subject: peer.subject, dnsNames: peer.dnsNames, emails: peer.emails,
            uris: peer.uris)
    }
}
