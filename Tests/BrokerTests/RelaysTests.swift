import Slabs
import Testing

@testable import Broker

/// Which barriers wait for which holders, without a worker.
@Suite("Relays")
struct RelaysTests {
    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Bench {
        var relays = Relays()
        private var barrierCount: UInt32 = 0

        /// Returns the number of the barrier.
        @discardableResult
        func wait(_ holders: [Int], position: LogPosition = 0, deferral: UInt64 = 0) -> UInt32 {
            barrierCount += 1
            relays.wait(
                RelayedBarrier(
                    asker: 0, pending: Handle(index: Index(barrierCount), generation: 1), holders: Self.set(holders),
                    position: position, deferral: deferral))
            return barrierCount
        }
        func pass(_ holders: [Int]) { relays.pass(to: Self.set(holders)) }
        /// Whom the round that begins asks; nil: none begins.
        func begin() -> [Int]? {
            relays.beginRound().map { begun in (0..<128).filter { begun.holders.contains($0) } }
        }
        func answer(_ round: UInt64, _ peer: Int, _ refusal: Refusal? = nil, now: UInt64 = 0) {
            relays.answered(round, from: peer, refusal: refusal, now: now)
        }
        func refuse(beyond position: LogPosition) { relays.refuse(beyond: position, .storageFailed) }
        func refusal(_ holders: [Int], now: UInt64) -> Refusal? { relays.refusal(of: Self.set(holders), now: now) }
        func undefer(before oldest: UInt64, gathered: LogPosition) {
            relays.undefer(before: oldest, gathered: gathered)
        }
        func placeGathered(at position: LogPosition) { relays.placeGathered(at: position) }
        /// Barriers that wait no more; negative: refused.
        func ready(_ position: LogPosition = 0) -> [Int] {
            var cursor = 0
            var numbers: [Int] = []
            while let barrier = relays.popReady(&cursor, durable: position) {
                let number = Int(barrier.pending.index.rawValue)
                numbers.append(barrier.refusal == nil ? number : -number)
            }
            return numbers.sorted()
        }
        func hold(_ position: LogPosition, _ peer: Int) {
            relays.hold(HeldRelay(position: position, peer: UInt16(peer), round: 1))
        }
        func held(_ position: LogPosition) -> Int? { relays.popHeld(durable: position).map { Int($0.peer) } }
        var isIdle: Bool { relays.isIdle }
        func lost(from peer: Int) { relays.lost(from: peer) }
        func takeLoss(from peer: Int) -> Bool { relays.takeLoss(from: peer) }

        private static func set(_ peers: [Int]) -> PeerSet {
            var set = PeerSet()
            for peer in peers { set.set(peer, true) }
            return set
        }
    }

    @Test("Nobody is asked before a barrier wants to know")
    func lazy() {
        let bench = Bench()
        bench.pass([1, 100])
        #expect(bench.begin() == nil && bench.isIdle)
        bench.wait([2])
        #expect(bench.begin() == nil, "what it waits for was passed to another")
        #expect(bench.ready() == [1] && bench.isIdle)
        bench.wait([100])
        #expect(bench.ready() == [] && !bench.isIdle)
        #expect(bench.begin() == [1, 100])
        #expect(bench.begin() == nil)
        #expect(bench.ready() == [])
        bench.answer(1, 100)
        #expect(bench.ready() == [2], "the other one is none of its holders")
    }

    @Test("A barrier waits for the log of the owner, and for each of its holders")
    func conditions() {
        let bench = Bench()
        bench.pass([1, 2])
        bench.wait([1, 2], position: 10)
        bench.wait([], position: 5)
        #expect(bench.begin() == [1, 2])
        #expect(bench.ready(4) == [])
        #expect(bench.ready(5) == [2])
        bench.answer(1, 1)
        #expect(bench.ready(10) == [])
        bench.answer(1, 2)
        #expect(bench.ready(9) == [])
        #expect(bench.ready(10) == [1])
    }

    @Test("Rounds that are answered out of order hold a barrier until all up to its own are over")
    func order() {
        let bench = Bench()
        bench.pass([1])
        bench.wait([1])
        #expect(bench.begin() == [1])
        bench.pass([2])
        bench.wait([1, 2])
        #expect(bench.begin() == [2])
        bench.pass([1])
        bench.wait([2])
        #expect(bench.begin() == nil, "what was passed since concerns another holder")
        bench.answer(2, 2)
        #expect(bench.ready() == [3])
        bench.answer(1, 1)
        #expect(bench.ready() == [1, 2])
        bench.wait([1])
        #expect(bench.begin() == [1])
    }

    @Test("A barrier that waits for the end of the turn has its place then")
    func placed() {
        let bench = Bench()
        bench.wait([1], position: .max)
        #expect(bench.ready(100) == [])
        bench.placeGathered(at: 7)
        #expect(bench.ready(6) == [])
        #expect(bench.ready(7) == [1])
    }

    @Test("A deferred barrier depends on what is published later")
    func deferred() {
        let bench = Bench()
        bench.wait([1], position: 5, deferral: 3)
        #expect(bench.ready(10) == [])
        bench.undefer(before: 3, gathered: 8)
        #expect(bench.ready(10) == [], "its deferral lasts")
        bench.pass([1])
        bench.undefer(before: 4, gathered: 12)
        #expect(bench.ready(20) == [])
        #expect(bench.begin() == [1])
        bench.answer(1, 1)
        #expect(bench.ready(11) == [])
        #expect(bench.ready(12) == [1])
    }

    @Test("A refusal concerns those who have the holder, for a second; a failed log for ever")
    func refusals() {
        let bench = Bench()
        bench.pass([1, 2])
        bench.wait([1])
        bench.wait([2])
        #expect(bench.begin() == [1, 2])
        bench.answer(1, 1, .memory, now: 100)
        #expect(bench.ready() == [-1])
        bench.answer(1, 2)
        #expect(bench.ready() == [2])
        #expect(bench.refusal([1], now: 1_000_000_000) == .memory, "a barrier may come late")
        #expect(bench.refusal([2], now: 1_000_000_000) == nil)
        #expect(bench.refusal([1], now: 1_000_000_200) == nil)
        bench.pass([1])
        bench.wait([1])
        #expect(bench.begin() == [1])
        bench.answer(2, 1, .storageFailed, now: 100)
        #expect(bench.ready() == [-3])
        #expect(bench.refusal([1], now: .max - 1) == .storageFailed)
    }

    @Test("Where the owner's log fails, those who wait for it are refused, deferred or not")
    func ownFailure() {
        let bench = Bench()
        bench.wait([], position: 5)
        bench.wait([], position: 6)
        bench.wait([], position: 1, deferral: 1)
        bench.refuse(beyond: 5)
        #expect(bench.ready(5) == [-3, -2, 1])
    }

    @Test("A holder answers owners in order, and tells a loss once")
    func holder() {
        let bench = Bench()
        bench.hold(5, 1)
        bench.hold(7, 2)
        #expect(!bench.isIdle)
        #expect(bench.held(4) == nil)
        #expect(bench.held(7) == 1)
        #expect(bench.held(7) == 2)
        #expect(bench.held(.max) == nil && bench.isIdle)
        bench.lost(from: 70)
        #expect(!bench.takeLoss(from: 6))
        #expect(bench.takeLoss(from: 70))
        #expect(!bench.takeLoss(from: 70))
    }
}
