import Broker
import FakeKernel
import IO
import STOMP
import Slabs
import Testing

/// One or several shards above a `FakeKernel`, with clients that speak STOMP.
///
/// Nothing happens between calls of `run`: a test writes to its clients, runs, and reads what they got.
final class TestBroker {
    let kernel: FakeKernel
    let options: BrokerOptions
    private(set) var notices: [Notice] = []
    private(set) var clients: [Client] = []

    /// - Parameters:
    ///   - connectionCountMax: what the driver's table holds, of each shard.
    ///   - disk: the directory of `BrokerOptions.storage`.
    init(
        shards shardCount: Int = 1, connectionCountMax: Int = 256, disk: FakeDisk? = nil, _ options: BrokerOptions
    ) {
        self.options = options
        kernel = FakeKernel(
            shardCount: shardCount, options: options, connectionCountMax: connectionCountMax, disk: disk)
        kernel.didTurn = { [unowned self] index in notices += shard(index).pointee.takeNotices() }
    }

    func shard(_ index: Int) -> UnsafeMutablePointer<Shard> { kernel.shard(index) }

    func audit(_ index: Int = 0) -> ShardAudit { shard(index).pointee.audit() }

    /// The worker that holds a queue.
    func owner(ofQueue name: String) -> Int { shard(0).pointee.owner(ofQueue: name) }

    /// Some names of queues that this worker would hold.
    func queueNames(ownedBy shard: Int) -> [String] {
        (0..<200).map { "/queue/n\($0)" }.filter { owner(ofQueue: $0) == shard }
    }

    var counters: Counters {
        var sum = Counters()
        for index in 0..<kernel.shardCount { sum.add(shard(index).pointee.counters) }
        return sum
    }

    /// Limits small enough that tables are quick to make.
    static func options(_ change: (inout BrokerOptions) -> Void = { _ in }) -> BrokerOptions {
        var options = BrokerOptions()
        options.limits.queuedMessageCountMax = 100_000
        options.limits.subscriptionCountMax = 10_000
        options.limits.messageMemoryByteCountMax = 64 << 20
        change(&options)
        return options
    }

    // MARK: Connections

    /// A client's new connection, accepted by `shard`.
    func accept(on shard: Int = 0, address: UInt64 = 0, name: String = "client") -> Client {
        let client = Client(self, kernel.accept(on: shard, from: ConnectionOrigin(packed: address)), name)
        clients.append(client)
        return client
    }

    /// A client that is CONNECTED.
    func connect(
        _ version: Version = .v1_2, on shard: Int = 0, heartBeat: String? = nil, name: String = "client"
    ) -> Client {
        let client = accept(on: shard, name: name)
        client.connect(version, heartBeat: heartBeat)
        return client
    }

    // MARK: Turns and time

    /// Runs turns until no shard has anything to do at this time.
    func run(sourceLocation: SourceLocation = #_sourceLocation) {
        kernel.run()
        recordFault(sourceLocation)
    }

    /// One poll and one turn of a shard.
    func turn(_ index: Int, sourceLocation: SourceLocation = #_sourceLocation) {
        kernel.turn(index)
        recordFault(sourceLocation)
    }

    /// Lets time pass, with a turn for each deadline on the way.
    func advance(milliseconds: Int, sourceLocation: SourceLocation = #_sourceLocation) {
        kernel.advance(milliseconds: milliseconds)
        recordFault(sourceLocation)
    }

    private func recordFault(_ sourceLocation: SourceLocation) {
        if let fault = kernel.takeFault() { Issue.record("\(fault)", sourceLocation: sourceLocation) }
    }

    /// Moves the wall clock alone, as an operator or NTP does.
    func stepWallClock(milliseconds: Int) {
        kernel.wallMilliseconds = UInt64(Int(kernel.wallMilliseconds) + milliseconds)
    }

    // MARK: What is left

    /// Ends all clients and checks that nothing of them remains but idle destinations, and `queued` messages.
    func finish(queued: Int = 0, sourceLocation: SourceLocation = #_sourceLocation) {
        run(sourceLocation: sourceLocation)
        for client in clients where !client.socket.isClosed {
            client.socket.room = .max
            client.hangUp()
        }
        advance(milliseconds: 100, sourceLocation: sourceLocation)
        for client in clients where !client.socket.isClosed { client.reset() }
        // Longer than any timer that a session, a transaction or a wait for memory leaves.
        advance(milliseconds: 70_000, sourceLocation: sourceLocation)
        for index in 0..<kernel.shardCount { checkNothingIsLeft(index, sourceLocation) }
        let entryCount = (0..<kernel.shardCount).reduce(0) { $0 + audit($1).entries }
        #expect(entryCount == queued, "queued messages", sourceLocation: sourceLocation)
    }

    private func checkNothingIsLeft(_ index: Int, _ location: SourceLocation) {
        let shard = shard(index)
        #expect(shard.pointee.audit() == shard.pointee.auditOfReadyMessages(), "leaks", sourceLocation: location)
        #expect(shard.pointee.auditQueues() == nil, sourceLocation: location)
        #expect(shard.pointee.auditDestinations() == nil, sourceLocation: location)
    }
}

/// Runs a test on a broker, and checks afterwards that nothing is left behind.
func withBroker(
    shards: Int = 1, connectionCountMax: Int = 256, queued: Int = 0, _ options: BrokerOptions = TestBroker.options(),
    sourceLocation: SourceLocation = #_sourceLocation, _ body: (TestBroker) throws -> Void
) rethrows {
    let broker = TestBroker(shards: shards, connectionCountMax: connectionCountMax, options)
    try body(broker)
    broker.finish(queued: queued, sourceLocation: sourceLocation)
}
