import Testing

@testable import Load

struct FlowTests {
    @Test func `a segment counts its subscribers until it is cleared`() {
        var publisher = Publisher()
        #expect(publisher.countSegment(0) == 1)
        #expect(publisher.countSegment(1) == 1)
        #expect(publisher.countSegment(0) == 2)
        publisher.clearSegment(0)
        // The fifth segment takes the place of the first.
        #expect(publisher.countSegment(4) == 1)
        #expect(publisher.countSegment(1) == 2)
    }

    @Test func `heart-beats reach every client once in each interval`() {
        for count in [1, 7, 100, 1001] {
            var beat = Beat()
            beat.begin(now: 0)
            var beats = [Int](repeating: 0, count: count + 1)
            let interval = Beat.stepNanoseconds * 10
            for _ in 0..<10 {
                for place in beat.step(count: count, interval: interval) { beats[place] += 1 }
            }
            #expect(beats[1...].allSatisfy { $0 >= 1 }, "\(count) clients")
        }
    }

    @Test func `an open loop is due at even intervals, and never when it is stopped`() {
        var pace = Pace()
        #expect(pace.deadline == .max)
        pace.begin(now: 1000, messagesPerSecond: 1_000_000)
        for message in 0..<10 as Range<UInt64> {
            #expect(pace.deadline == 1000 + message * 1000)
            pace.advance()
        }
        pace.stop()
        #expect(pace.deadline == .max)
    }

    @Test func `the threads' shares are all of the plan`() {
        var plan = Plan("")
        plan.subscribersPerDestination = 1001
        let shares = Share.of(plan, threadCount: 7)
        #expect(shares.map(\.subscribers.count).reduce(0, +) == 1001)
        #expect(shares.map(\.publishers.count).reduce(0, +) == 1)
        for (share, next) in zip(shares, shares.dropFirst()) {
            #expect(share.subscribers.upperBound == next.subscribers.lowerBound)
        }
    }

    @Test func `a client's record stays small`() {
        #expect(MemoryLayout<Client>.stride <= 40)
    }
}
