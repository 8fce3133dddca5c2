import Access
import Broker
import Drivers
import Glibc
import Logging
import Permissions
import Slabs
import Synchronization
import Transports

/// Decides about clients, on threads of its own: to hash a password takes milliseconds, in which a worker would serve nobody.
///
/// Workers ask and go on. An answer lies ready for its worker, which is woken. A password that was right a short while ago
/// is answered at once.
final class AccessPool: @unchecked Sendable {
    typealias Ticket = AccessTicket

    private struct State {
        var queue: LoginQueue<Ticket>
        var remembered: RememberedLogins
        var authenticator: Authenticator
        var isStopping = false
    }

    /// The answers for one worker.
    private final class Desk: Sendable {
        let answers = Guarded<[AuthenticationAnswer]>([])
        let hasAnswers = Atomic<Bool>(false)
    }

    private var state: State
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let isChanged: UnsafeMutablePointer<pthread_cond_t>
    /// There is a login in the slow lane.
    private let hasSlow: UnsafeMutablePointer<pthread_cond_t>
    private let desks: [Desk]
    private let peers: WakeDirectory
    private let threadCount: Int
    private let patienceMilliseconds: UInt64
    private var threads: [pthread_t] = []
    /// nil: no service is asked about logins.
    private var service: ServicePool?
    private let tableNumber = Atomic<Int>(0)
    /// Somebody is told where clients are.
    let wantsAddresses: Bool

    /// - Parameters:
    ///   - patienceMilliseconds: from accept to CONNECTED.
    ///   - serviceContext: whom to trust where the login service has TLS.
    init(
        _ authenticator: Authenticator, _ settings: AccessSettings, patienceMilliseconds: Int, peers: WakeDirectory,
        _ serviceContext: TLSContext?, _ logger: Logger
    ) {
        state = State(
            queue: LoginQueue(delayMilliseconds: settings.failureDelayMilliseconds),
            remembered: RememberedLogins(milliseconds: settings.rememberMilliseconds), authenticator: authenticator)
        self.peers = peers
        threadCount = settings.threadCount
        self.patienceMilliseconds = UInt64(patienceMilliseconds)
        wantsAddresses = !settings.serviceVirtualHostURL.isEmpty
        desks = (0..<peers.count).map { _ in Desk() }
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        isChanged = .allocate(capacity: 1)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(isChanged, &attributes)
        hasSlow = .allocate(capacity: 1)
        pthread_cond_init(hasSlow, &attributes)
        pthread_condattr_destroy(&attributes)
        if settings.usesService { service = ServicePool(self, settings, serviceContext, logger) }
    }

    deinit {
        pthread_cond_destroy(isChanged)
        isChanged.deallocate()
        pthread_cond_destroy(hasSlow)
        hasSlow.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    private func withLock<Result>(_ body: (inout State) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&state)
    }

    private static var now: UInt64 { Clock.monotonicNanoseconds / 1_000_000 }

    // MARK: Workers

    /// A worker asks about clients.
    func ask(_ questions: [LoginQuestion], worker: Int) {
        let now = Self.now
        var answers: [AuthenticationAnswer] = []
        withLock { state in
            for question in questions {
                if (question.clientID?.count ?? 0) > Self.clientIDByteCountMax {
                    answers.append(
                        AuthenticationAnswer(
                            refusing: question.connection, because: LoginRefusal.clientIDTooLong.explanation))
                } else if state.authenticator.usesHash(question.credentials),
                    let identity = state.remembered.find(question.credentials, now: now)
                {
                    answers.append(
                        AuthenticationAnswer(
                            allowing: question.connection, as: identity, clientID: question.clientID))
                } else if state.authenticator.asksService(question.credentials),
                    let identity = service?.find(question.credentials)
                {
                    answers.append(
                        AuthenticationAnswer(
                            allowing: question.connection, as: identity, clientID: question.clientID))
                } else {
                    let ticket = Ticket(worker: worker, connection: question.connection, clientID: question.clientID)
                    let login = LoginQueue<Ticket>.Login(
                        ticket: ticket, credentials: question.credentials, address: question.address,
                        deadline: question.isRenewal ? .max : now + patienceMilliseconds)
                    switch state.queue.append(login, now: now) {
                    case .prompt: pthread_cond_signal(isChanged)
                    case .slow: pthread_cond_signal(hasSlow)
                    case nil:
                        answers.append(
                            AuthenticationAnswer(
                                refusing: question.connection, because: LoginRefusal.tooManyWaiting.explanation))
                    }
                }
            }
        }
        give(answers, to: worker)
    }

    private static let clientIDByteCountMax = 256

    func hasAnswers(worker: Int) -> Bool { desks[worker].hasAnswers.load(ordering: .acquiring) }

    func takeAnswers(worker: Int) -> [AuthenticationAnswer] {
        desks[worker].answers.withLock { answers in
            desks[worker].hasAnswers.store(false, ordering: .releasing)
            defer { answers.removeAll() }
            return answers
        }
    }

    private func give(_ more: [AuthenticationAnswer], to worker: Int) {
        if more.isEmpty { return }
        desks[worker].answers.withLock { answers in
            answers += more
            desks[worker].hasAnswers.store(true, ordering: .releasing)
        }
    }

    // MARK: Another table

    /// Counts the tables: a worker that has seen another number takes `table`.
    var number: Int { tableNumber.load(ordering: .acquiring) }

    var table: AccessTable { authenticator.table }

    /// The one in force.
    var authenticator: Authenticator { withLock { $0.authenticator } }

    /// The files were read again.
    ///
    /// - Parameter serviceContext: as at first.
    func replace(_ authenticator: Authenticator, _ serviceContext: TLSContext?) {
        withLock { state in
            state.authenticator = authenticator
            state.remembered.forgetAll()
        }
        service?.replace(serviceContext)
        tableNumber.add(1, ordering: .releasing)
        for worker in 0..<peers.count { peers[worker].wake() }
    }

    // MARK: Threads

    func start() {
        for _ in 0..<threadCount { start { $0.run() } }
        start { $0.runSlowly() }
        service?.start()
    }

    /// What a thread is started with.
    private final class Beginning {
        let pool: AccessPool
        let run: (AccessPool) -> Void

        init(_ pool: AccessPool, _ run: @escaping (AccessPool) -> Void) {
            self.pool = pool
            self.run = run
        }
    }

    private func start(_ run: @escaping (AccessPool) -> Void) {
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                let beginning = Unmanaged<Beginning>.fromOpaque(argument!).takeRetainedValue()
                // Workers come first. On Linux, this is about the thread alone.
                _ = nice(AccessPool.threadNiceness)
                beginning.run(beginning.pool)
                return nil
            }, Unmanaged.passRetained(Beginning(self, run)).toOpaque())
        invariant(result == 0, "a thread that checks logins can be started")
        threads.append(thread)
    }

    /// A busy worker gets three times the time of such a thread.
    private static let threadNiceness: Int32 = 5

    /// Ends the threads, each when it has done what it has in hand.
    func stop() {
        withLock { state in
            state.isStopping = true
            pthread_cond_broadcast(isChanged)
            pthread_cond_broadcast(hasSlow)
        }
        for thread in threads { pthread_join(thread, nil) }
        service?.stop()
    }

    private func run() {
        let scratch = CryptScratch()
        pthread_mutex_lock(mutex)
        while !state.isStopping {
            let now = Self.now
            let due = state.queue.takeDue(now: now)
            if !due.isEmpty {
                pthread_mutex_unlock(mutex)
                for refused in due {
                    answer(
                        AuthenticationAnswer(
                            refusing: refused.ticket.connection, because: refused.refusal.explanation,
                            told: refused.told.explanation), refused.ticket)
                }
                pthread_mutex_lock(mutex)
                continue
            }
            let login = state.queue.next(now: now)
            // Looking for it may have found an address for the slow lane.
            if state.queue.hasSlow { pthread_cond_signal(hasSlow) }
            guard let login else {
                wait()
                continue
            }
            let authenticator = state.authenticator
            pthread_mutex_unlock(mutex)
            conclude(login, authenticator, Self.decide(login, authenticator, scratch))
            pthread_mutex_lock(mutex)
        }
        pthread_mutex_unlock(mutex)
    }

    /// The thread of the slow lane. It leaves the long work to a thread of the lowest priority. That one never holds the
    /// lock, or all others would wait for a thread that gets no time.
    private func runSlowly() {
        let idler = IdleThread()
        defer { idler.stop() }
        pthread_mutex_lock(mutex)
        while !state.isStopping {
            let start = Self.now
            guard let login = state.queue.next(now: start, lane: .slow) else {
                pthread_cond_wait(hasSlow, mutex)
                continue
            }
            let authenticator = state.authenticator
            pthread_mutex_unlock(mutex)
            let decision = idler.run { Self.decide(login, authenticator, CryptScratch()) }
            conclude(login, authenticator, decision)
            pthread_mutex_lock(mutex)
            while !state.isStopping, Self.now < start + Self.slowMilliseconds {
                wait(hasSlow, until: start + Self.slowMilliseconds)
            }
        }
        pthread_mutex_unlock(mutex)
    }

    /// From one check of the slow lane to the next. The kernel takes back the 16 MiB of a hash in one go, some milliseconds in
    /// which a kernel without preemption gives the CPU to nobody else, whatever the priority.
    private static let slowMilliseconds: UInt64 = 1000

    private func wait(_ condition: UnsafeMutablePointer<pthread_cond_t>, until due: UInt64) {
        var time = timespec(tv_sec: Int(due / 1000), tv_nsec: Int(due % 1000) * 1_000_000)
        pthread_cond_timedwait(condition, mutex, &time)
    }

    /// Until there is a login, or a refusal is due. The lock is held.
    private func wait() {
        guard let due = state.queue.nextDue else {
            pthread_cond_wait(isChanged, mutex)
            return
        }
        wait(isChanged, until: due)
    }

    private static func decide(
        _ login: LoginQueue<Ticket>.Login, _ authenticator: Authenticator, _ scratch: borrowing CryptScratch
    ) -> Decision {
        authenticator.decide(login.credentials, wallMilliseconds: Clock.wallMilliseconds, scratch)
    }

    private func conclude(
        _ login: LoginQueue<Ticket>.Login, _ authenticator: Authenticator, _ decision: Decision
    ) {
        if case .allowed(let identity) = decision {
            withLock { state in
                state.queue.accept(login.address)
                // What an old file allowed is not remembered.
                guard state.authenticator === authenticator, authenticator.usesHash(login.credentials) else { return }
                state.remembered.remember(login.credentials, identity, now: Self.now)
            }
        }
        finish(login, decision)
    }

    /// Tells what was decided about a login, at once or, if it is wrong, later. Any thread may call it.
    func finish(_ login: LoginQueue<Ticket>.Login, _ decision: Decision) {
        switch decision {
        case .allowed(let identity):
            answer(
                AuthenticationAnswer(
                    allowing: login.ticket.connection, as: identity, clientID: login.ticket.clientID), login.ticket)
        case .unknown:
            guard let service, service.ask(login) else { return finish(login, .refused(.tooManyWaiting)) }
        case .refused(let refusal) where !refusal.isClientsFault:
            answer(
                AuthenticationAnswer(refusing: login.ticket.connection, because: refusal.explanation), login.ticket)
        case .refused(let refusal):
            withLock { state in
                let told = state.authenticator.told(refusal, login.credentials)
                state.queue.refuse(login, refusal, told: told, now: Self.now)
                // Another thread may wait for something later.
                pthread_cond_signal(isChanged)
            }
        }
    }

    private func answer(_ answer: AuthenticationAnswer, _ ticket: Ticket) {
        give([answer], to: ticket.worker)
        peers[ticket.worker].wake()
    }
}

/// What an answer about a client has to name.
struct AccessTicket: Sendable {
    var worker: Int
    var connection: Slot
    var clientID: [UInt8]?
}
