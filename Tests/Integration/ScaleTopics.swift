import TestSupport
import Testing

extension Scale {
    @Test(
        "1,000,000 messages from 100 publishers to 100 subscribers: none is lost or doubled, and the order is kept",
        arguments: DriverUnderTest.available, workerCounts)
    func millionMessages(driver: DriverUnderTest, workers: Int) throws {
        let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: workers))
        let load = Load(.topic, publishers: 100, subscribers: 100, destinations: 10, messagesPerPublisher: 1_000)
        #expect(load.deliveryCount == 1_000_000)
        try load.run(on: broker)
        #expect(try broker.terminate() == .exited(0))
    }
}
