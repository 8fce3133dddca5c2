import Testing

@testable import Broker

@Suite("Limits of what a client may name")
struct LimitTests {
    @Test("A queue for which its worker has no room is refused in the right words", arguments: ["reject", "block"])
    func refusedDestination(policy: String) {
        let options = TestBroker.options {
            $0.limits.destinationCountMax = 4
            var blocking = DestinationPolicy(pattern: "/queue/#")
            blocking.overflow = policy == "block" ? .block : .reject
            $0.destinationPolicies = [blocking]
        }
        withBroker(shards: 2, queued: 4, options) { broker in
            // Four queues that the second worker holds, and a fifth.
            let names = (0..<200).map { "/queue/n\($0)" }.filter { name in
                var text = name
                return text.withUTF8 { broker.shard(0).pointee.ownerOfQueue(UnsafeRawBufferPointer($0)) } == 1
            }
            let local = broker.connect(on: 1)
            for name in names.prefix(4) { local.confirmed(.send, [("destination", name)], "x") }
            let sender = broker.connect(on: 0)
            sender.send(.send, [("destination", names[4]), ("receipt", "r")], "x")
            let error = sender.expectError("Too many destinations", receipt: "r")
            #expect(error?.text.contains("limits.destinations-max") == true)
            let committer = broker.connect(on: 0)
            committer.send(.begin, [("transaction", "t")])
            committer.send(.send, [("destination", names[4]), ("transaction", "t")], "x")
            committer.send(.commit, [("transaction", "t"), ("receipt", "c")])
            committer.expectError("Too many destinations", receipt: "c")
            let subscriber = broker.connect(on: 0)
            subscriber.subscribe(names[4])
            subscriber.expectError("Too many destinations")
        }
    }
}
