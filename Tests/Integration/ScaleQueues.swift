import TestSupport
import Testing

extension Scale {
    @Test(
        "100 publishers and 100 consumers share 10 queues: every message goes to one consumer, and the order is kept",
        arguments: DriverUnderTest.available, workerCounts)
    func sharedQueues(driver: DriverUnderTest, workers: Int) throws {
        let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: workers))
        try Load(.queue, publishers: 100, subscribers: 100, destinations: 10, messagesPerPublisher: 1_000)
            .run(on: broker)
        #expect(try broker.terminate() == .exited(0))
    }
}
