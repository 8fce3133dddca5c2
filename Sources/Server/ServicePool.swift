import Access
import Drivers
import Glibc
import Logging
import Permissions
import Slabs
import Transports

/// Asks the login service (`access.http`), on threads of its own, each with a connection of its own: so a service that
/// does not answer keeps nobody from being decided about who is known without it.
///
/// Addresses take turns, as they do where passwords are checked. What the service has allowed is remembered for a while.
final class ServicePool: @unchecked Sendable {
    typealias Login = LoginQueue<AccessTicket>.Login

    private struct State {
        var queue = LoginQueue<AccessTicket>(delayMilliseconds: 0)
        var remembered: RememberedLogins
        var context: TLSContext?
        /// Counts the contexts: connections of another one are closed.
        var contextNumber = 0
        var isStopping = false
        /// The second in which the log heard of a failure last, and how many it did not hear of since.
        var toldSecond: UInt64 = 0
        var untoldCount = 0
    }

    private var state: State
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let isChanged: UnsafeMutablePointer<pthread_cond_t>
    private let threadCount: Int
    private let timeoutMilliseconds: UInt64
    private let logger: Logger
    private var threads: [pthread_t] = []
    /// Takes what was decided, on a thread of this pool.
    private unowned let access: AccessPool

    init(_ access: AccessPool, _ settings: AccessSettings, _ context: TLSContext?, _ logger: Logger) {
        self.access = access
        self.logger = logger
        state = State(
            remembered: RememberedLogins(milliseconds: settings.serviceRememberMilliseconds), context: context)
        threadCount = settings.serviceConnectionCountMax
        timeoutMilliseconds = UInt64(settings.serviceMilliseconds)
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        isChanged = .allocate(capacity: 1)
        pthread_cond_init(isChanged, nil)
    }

    deinit {
        pthread_cond_destroy(isChanged)
        isChanged.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    private func withLock<Result>(_ body: (inout State) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&state)
    }

    private var isStopping: Bool { withLock { $0.isStopping } }

    private static var now: UInt64 { Clock.monotonicNanoseconds / 1_000_000 }

    // MARK: Questions

    /// Who the client is, if the service has said so a short while ago.
    func find(_ credentials: Credentials) -> AccessIdentity? {
        withLock { $0.remembered.find(Self.key(credentials), now: Self.now) }
    }

    /// The service may allow a client from one place, and at one virtual host, only.
    private static func key(_ credentials: Credentials) -> Credentials {
        let place = Array("\(credentials.address ?? "")\0\(credentials.host)".utf8)
        return Credentials(login: credentials.login, passcode: credentials.passcode + [0] + place)
    }

    /// Puts a login into the line. False: too many wait.
    func ask(_ login: Login) -> Bool {
        withLock { state in
            guard state.queue.append(login, now: Self.now) != nil else { return false }
            pthread_cond_signal(isChanged)
            return true
        }
    }

    /// The files were read again: nothing is remembered, and connections are made anew.
    func replace(_ context: TLSContext?) {
        withLock { state in
            state.remembered.forgetAll()
            state.context = context
            state.contextNumber += 1
        }
    }

    // MARK: Threads

    func start() {
        for _ in 0..<threadCount {
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<ServicePool>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            invariant(result == 0, "a thread that asks the login service can be started")
            threads.append(thread)
        }
    }

    /// Ends the threads, each when its question is answered or its time is over.
    func stop() {
        withLock { state in
            state.isStopping = true
            pthread_cond_broadcast(isChanged)
        }
        for thread in threads { pthread_join(thread, nil) }
    }

    private func run() {
        var connections: [String: ServiceConnection] = [:]
        var contextNumber = 0
        pthread_mutex_lock(mutex)
        while !state.isStopping {
            guard let login = state.queue.next(now: Self.now) else {
                pthread_cond_wait(isChanged, mutex)
                continue
            }
            if state.contextNumber != contextNumber { connections = [:] }
            contextNumber = state.contextNumber
            let context = state.context
            pthread_mutex_unlock(mutex)
            decide(login, &connections, context, number: contextNumber)
            pthread_mutex_lock(mutex)
        }
        pthread_mutex_unlock(mutex)
    }

    /// - Parameter number: that of `context`.
    private func decide(
        _ login: Login, _ connections: inout [String: ServiceConnection], _ context: TLSContext?, number: Int
    ) {
        let authenticator = access.authenticator
        let deadline = min(Self.now + timeoutMilliseconds, login.deadline)
        do throws(ServiceFailure) {
            let decision = try decide(login.credentials, authenticator) { url, request throws(ServiceFailure) in
                let name = "\(url.isTLS) \(url.authority)"
                let connection = connections[name] ?? ServiceConnection(url, context) { [unowned self] in isStopping }
                connections[name] = connection
                return try connection.exchange(request, deadline: deadline)
            }
            if case .allowed(let identity) = decision {
                withLock { state in
                    // What was asked for old files is not remembered.
                    guard state.contextNumber == number else { return }
                    state.remembered.remember(Self.key(login.credentials), identity, now: Self.now)
                }
            }
            access.finish(login, decision)
        } catch {
            if isStopping { return }
            tell(error)
            access.finish(login, .refused(.serviceFailed))
        }
    }

    private typealias Exchange = (ServiceURL, [UInt8]) throws(ServiceFailure) -> HTTPResponse

    private func decide(
        _ credentials: Credentials, _ authenticator: Authenticator, _ exchange: Exchange
    ) throws(ServiceFailure) -> Decision {
        // The configuration is read at the start only, so it is there.
        guard let service = authenticator.service else { return .refused(.wrongLogin) }
        func ask(_ url: ServiceURL, _ request: [UInt8]) throws(ServiceFailure) -> LoginService.Verdict {
            let reason: String
            do throws(ServiceFailure) {
                let response = try exchange(url, request)
                do throws(HTTPResponse.Failure) {
                    return try LoginService.verdict(response)
                } catch {
                    reason = error.reason
                }
            } catch {
                reason = error.reason
            }
            throw ServiceFailure("\(url): \(reason)")
        }
        guard case .allowed(let tags) = try ask(service.user, service.userRequest(credentials)) else {
            return .refused(.serviceDenied)
        }
        if let url = service.virtualHost {
            let request = service.virtualHostRequest(
                url, login: credentials.login, address: credentials.address, tags: tags, host: credentials.host)
            guard case .allowed = try ask(url, request) else { return .refused(.serviceDenied) }
        }
        return authenticator.decide(credentials, tags: tags)
    }

    /// Tells the log, at most once a second.
    private func tell(_ failure: ServiceFailure) {
        let second = Self.now / 1000
        let untoldCount: Int? = withLock { state in
            guard state.toldSecond != second else {
                state.untoldCount += 1
                return nil
            }
            state.toldSecond = second
            defer { state.untoldCount = 0 }
            return state.untoldCount
        }
        guard let untoldCount else { return }
        var metadata: Logger.Metadata = [:]
        if untoldCount > 0 { metadata["failures-not-logged"] = .stringConvertible(untoldCount) }
        logger.error("the login service fails, and its logins are refused: \(failure.reason)", metadata: metadata)
    }
}
