import Permissions
import Testing

@testable import Access

/// Who is checked next, and when a refusal is told.
@Suite("The queue of logins")
struct LoginQueueTests {
    private func login(_ ticket: Int, _ address: UInt64, deadline: UInt64 = 5_000) -> LoginQueue<Int>.Login {
        LoginQueue.Login(
            ticket: ticket, credentials: Credentials(login: nil, passcode: nil), address: address, deadline: deadline)
    }

    private func append(
        _ login: LoginQueue<Int>.Login, to queue: inout LoginQueue<Int>, isTaken expected: Bool = true
    ) {
        let lane = queue.append(login, now: 0)
        #expect((lane != nil) == expected)
    }

    @Test("Addresses take turns, whoever sends more")
    func fairness() {
        var queue = LoginQueue<Int>(delayMilliseconds: 0)
        for ticket in 0..<100 { append(login(ticket, 1), to: &queue) }
        for ticket in 100..<103 { append(login(ticket, 2), to: &queue) }
        append(login(200, 3), to: &queue)
        var order: [Int] = []
        for _ in 0..<8 { order.append(queue.next(now: 0)!.ticket) }
        #expect(order == [0, 100, 200, 1, 101, 2, 102, 3])
        var rest: [Int] = []
        while let next = queue.next(now: 0) { rest.append(next.ticket) }
        #expect(rest == Array(4..<100))
        #expect(queue.isEmpty)
    }

    @Test("An address has its bound, and all together have theirs")
    func bounds() {
        var queue = LoginQueue<Int>(delayMilliseconds: 0)
        for ticket in 0..<LoginQueue<Int>.waitingPerAddressMax { append(login(ticket, 1), to: &queue) }
        append(login(0, 1), to: &queue, isTaken: false)
        append(login(0, 2), to: &queue)
        var address: UInt64 = 3
        var count = LoginQueue<Int>.waitingPerAddressMax + 1
        while queue.append(login(0, address), now: 0) != nil {
            count += 1
            address += 1
        }
        #expect(count == LoginQueue<Int>.waitingMax)
        let next = queue.next(now: 0)
        #expect(next != nil)
        append(login(0, 1), to: &queue)
    }

    @Test("A login that has waited longer than its client may is passed over")
    func deadlines() {
        var queue = LoginQueue<Int>(delayMilliseconds: 0)
        for ticket in 0..<10 { append(login(ticket, 1, deadline: ticket < 5 ? 100 : 200), to: &queue) }
        let next = queue.next(now: 100)
        #expect(next?.ticket == 5)
        let last = queue.next(now: 200)
        #expect(last == nil)
        #expect(queue.isEmpty)
    }

    @Test("Refusals wait longer with each of an address, up to a bound, and a quiet minute forgives")
    func delays() {
        var queue = LoginQueue<Int>(delayMilliseconds: 250)
        var dues: [UInt64] = []
        for ticket in 0..<6 {
            queue.refuse(login(ticket, 1), .wrongLogin, now: 1_000)
            dues.append(queue.nextDue!)
            let due = queue.takeDue(now: .max)
            #expect(due.map(\.ticket) == [ticket])
        }
        #expect(dues == [1_250, 1_500, 2_000, 3_000, 3_000, 3_000])
        queue.refuse(login(0, 2), .wrongLogin, now: 1_000)
        #expect(queue.nextDue == 1_250)
        let early = queue.takeDue(now: 1_249)
        #expect(early.isEmpty)
        let due = queue.takeDue(now: 1_250)
        #expect(due.count == 1)
        queue.refuse(login(0, 1), .wrongLogin, now: 61_000)
        #expect(queue.nextDue == 61_250)
    }

    @Test("The time of a refusal counts from when the login was asked, whatever was done to find out")
    func time() throws {
        var queue = LoginQueue<Int>(delayMilliseconds: 250)
        append(login(0, 1), to: &queue)
        let asked = queue.next(now: 0)
        queue.refuse(try #require(asked), .badToken, told: .wrongLogin, now: 20)
        #expect(queue.nextDue == 250)
        let due = queue.takeDue(now: 250)
        #expect(due.map(\.refusal) == [.badToken] && due.map(\.told) == [.wrongLogin])
        append(login(1, 2), to: &queue)
        let late = queue.next(now: 0)
        queue.refuse(try #require(late), .wrongLogin, now: 4_000)
        #expect(queue.nextDue == 4_000)
    }

    /// An address with one wrong login has as many that wait as it may, and one more. Nobody waits for them any longer.
    private func fill(_ address: UInt64, _ queue: inout LoginQueue<Int>) {
        queue.refuse(login(0, address), .wrongLogin, now: 0)
        for _ in 0..<LoginQueue<Int>.waitingPerAddressMax {
            let lane = queue.append(login(0, address, deadline: 1), now: 0)
            #expect(lane == .prompt)
        }
        let lane = queue.append(login(0, address), now: 0)
        #expect(lane == nil)
        let next = queue.next(now: 1)
        #expect(next == nil)
    }

    @Test("Neither many wrong logins nor a full line is a flood")
    func noFlood() {
        var queue = LoginQueue<Int>(delayMilliseconds: 0)
        for _ in 0..<1000 { queue.refuse(login(0, 1), .wrongLogin, now: 0) }
        var lane = queue.append(login(1, 1), now: 0)
        #expect(lane == .prompt)
        let next = queue.next(now: 0)
        #expect(next?.ticket == 1)
        fill(2, &queue)
        for _ in 2..<LoginQueue<Int>.slowCountMin { queue.refuse(login(0, 2), .wrongLogin, now: 0) }
        lane = queue.append(login(2, 2), now: 0)
        #expect(lane == .prompt)
    }

    @Test("An address that floods keeps nobody else waiting, and right logins take it back")
    func lanes() {
        typealias Queue = LoginQueue<Int>
        var queue = Queue(delayMilliseconds: 0)
        func fail(_ count: UInt64, now: UInt64) {
            for _ in 0..<count { queue.refuse(login(0, 1), .wrongLogin, now: now) }
        }
        fill(1, &queue)
        // It waits while the wrong ones are counted: its turn is in the prompt lane still.
        fail(Queue.slowCountMin - 2, now: 0)
        var lane = queue.append(login(1, 1), now: 0)
        #expect(lane == .prompt)
        fail(1, now: 0)
        lane = queue.append(login(2, 1), now: 0)
        #expect(lane == .slow)
        lane = queue.append(login(3, 2), now: 0)
        #expect(lane == .prompt)
        #expect(!queue.hasSlow)
        var next = queue.next(now: 0)
        #expect(next?.ticket == 3)
        next = queue.next(now: 0)
        #expect(next == nil)
        #expect(queue.hasSlow)
        next = queue.next(now: 0, lane: .slow)
        #expect(next?.ticket == 1)
        next = queue.next(now: 0, lane: .slow)
        #expect(next?.ticket == 2)
        #expect(!queue.hasSlow)
        // However many were wrong, so many right ones suffice.
        fail(10_000, now: 0)
        for _ in 0..<(Queue.failureCountMax - Queue.slowCountMin) / Queue.forgivenCount { queue.accept(1) }
        lane = queue.append(login(4, 1), now: 0)
        #expect(lane == .slow)
        next = queue.next(now: 0, lane: .slow)
        #expect(next?.ticket == 4)
        queue.accept(1)
        lane = queue.append(login(5, 1), now: 0)
        #expect(lane == .prompt)
        next = queue.next(now: 0)
        #expect(next?.ticket == 5)
    }

    @Test("A quiet minute leads out of the slow lane")
    func slowEnds() {
        var queue = LoginQueue<Int>(delayMilliseconds: 0)
        fill(1, &queue)
        for _ in 0..<LoginQueue<Int>.slowCountMin { queue.refuse(login(0, 1), .wrongLogin, now: 0) }
        var lane = queue.append(login(1, 1, deadline: .max), now: 59_999)
        #expect(lane == .slow)
        let next = queue.next(now: 60_000, lane: .slow)
        #expect(next?.ticket == 1)
        lane = queue.append(login(2, 1, deadline: .max), now: 60_000)
        #expect(lane == .prompt)
    }

    @Test("Refusals are told in the order of their times")
    func order() {
        var queue = LoginQueue<Int>(delayMilliseconds: 100)
        var times: [Int: UInt64] = [:]
        for ticket in 0..<500 {
            let now = UInt64.random(in: 0...50)
            queue.refuse(login(ticket, UInt64.random(in: 1...40)), .wrongLogin, now: now)
            times[ticket] = now
        }
        var last: UInt64 = 0
        var count = 0
        while let due = queue.nextDue {
            #expect(due >= last)
            last = due
            count += queue.takeDue(now: due).count
        }
        #expect(count == 500)
    }

    @Test("The addresses that are counted are bounded")
    func failingAddresses() {
        var queue = LoginQueue<Int>(delayMilliseconds: 0)
        for address in 0..<UInt64(LoginQueue<Int>.failingAddressesMax * 2 + 5) {
            queue.refuse(login(0, address), .wrongLogin, now: 0)
            _ = queue.takeDue(now: 0)
        }
        #expect(queue.failingAddressCount <= LoginQueue<Int>.failingAddressesMax)
    }

    @Test("A login that was right is remembered for its time, and only that one")
    func remembered() {
        var logins = RememberedLogins(milliseconds: 1_000)
        let identity = AccessIdentity(user: [0x61], source: .user)
        func find(_ login: String, _ passcode: String, now: UInt64) -> AccessIdentity? {
            logins.find(Credentials(login: Array(login.utf8), passcode: Array(passcode.utf8)), now: now)
        }
        let right = Credentials(login: Array("a".utf8), passcode: Array("secret".utf8))
        #expect(find("a", "secret", now: 0) == nil)
        logins.remember(right, identity, now: 0)
        #expect(find("a", "secret", now: 999) === identity)
        for (login, passcode) in [("a", "secre"), ("a", "secrets"), ("as", "ecret"), ("b", "secret"), ("", "asecret")] {
            #expect(find(login, passcode, now: 0) == nil)
        }
        #expect(find("a", "secret", now: 1_000) == nil)
        #expect(logins.isEmpty)
        logins.remember(right, identity, now: 0)
        logins.forgetAll()
        #expect(find("a", "secret", now: 0) == nil)
        var off = RememberedLogins(milliseconds: 0)
        off.remember(right, identity, now: 0)
        #expect(off.isEmpty)
    }

    @Test("What is remembered is bounded")
    func rememberedBound() {
        var logins = RememberedLogins(milliseconds: 1_000)
        let identity = AccessIdentity(user: [0x61], source: .user)
        for number in 0..<RememberedLogins.countMax + 10 {
            logins.remember(Credentials(login: Array("\(number)".utf8), passcode: []), identity, now: 0)
        }
        #expect(logins.count <= RememberedLogins.countMax)
    }
}
