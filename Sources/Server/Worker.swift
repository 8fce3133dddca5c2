import Broker
import Drivers
import Glibc
import IO
import Logging
import Slabs

/// One worker: a thread with a shard and a driver of its own.
final class Worker: @unchecked Sendable {
    private let index: Int
    private let kind: DriverChoice.Kind
    private let driverOptions: DriverOptions
    private let broker: BrokerOptions
    private let fabric: Fabric
    private let peers: WakeDirectory
    private let listeners: [Int32]
    private let control: Control
    private let logger: Logger
    private var thread = pthread_t()

    init(
        index: Int, kind: DriverChoice.Kind, driverOptions: DriverOptions, broker: BrokerOptions, fabric: Fabric,
        peers: WakeDirectory, listeners: [Int32], control: Control, logger: Logger
    ) {
        self.index = index
        self.kind = kind
        self.driverOptions = driverOptions
        self.broker = broker
        self.fabric = fabric
        self.peers = peers
        self.listeners = listeners
        self.control = control
        var logger = logger
        logger[metadataKey: "worker"] = "\(index)"
        self.logger = logger
    }

    func start() {
        let result = pthread_create(
            &thread, nil,
            { argument in
                let worker = Unmanaged<Worker>.fromOpaque(argument!).takeRetainedValue()
                worker.main()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        invariant(result == 0, "a worker's thread can be started")
    }

    func join() { pthread_join(thread, nil) }

    private func main() {
        switch kind {
        case .epoll: main(EpollDriver.self)
        case .uring:
            #if URing
                main(URingDriver.self)
            #else
                control.didFail(DriverError(.notSupported, "built without io_uring"))
            #endif
        }
    }

    /// Compiled once for each driver: nothing in the loop is dynamic.
    private func main<D: Driver & ~Copyable>(_ type: D.Type) {
        do throws(DriverError) {
            let driver = try D(
                options: driverOptions, listeners: listeners, wake: peers[index], peers: peers)
            do throws(SlabError) {
                let shard = try Shard(
                    index: index, options: broker, fabric: fabric, connectionCountMax: driver.connectionCountMax,
                    now: Clock.monotonicNanoseconds, wallMilliseconds: Clock.wallMilliseconds)
                control.didStart(level: driver.level)
                guard control.mayServe() else { return driver.shutDown() }
                loop(shard, driver)
            } catch {
                driver.shutDown()
                throw DriverError(.other, "no address space for the tables of worker \(index): \(error)")
            }
        } catch {
            control.didFail(error)
        }
    }

    private func loop<D: Driver & ~Copyable>(_ shard: consuming Shard, _ driver: consuming D) {
        let mailbox = fabric.mailbox(index)
        var completions = Batch<Completion>(capacity: 4096)
        var reportCount = 0
        while true {
            var deadline = shard.deadline
            // A letter that came since the turn is seen here, or its sender sees that this worker sleeps and wakes it.
            if deadline != 0, !mailbox.prepareToSleep() { deadline = 0 }
            driver.exchange(shard.submissions, deadline: deadline, completions: &completions)
            mailbox.didWake()
            if control.isDraining { shard.beginDrain() }
            shard.turn(
                completions, now: Clock.monotonicNanoseconds, wallMilliseconds: Clock.wallMilliseconds)
            completions.removeAll()
            if shard.hasNotices { log(shard.takeNotices()) }
            if control.reportCount != reportCount {
                reportCount = control.reportCount
                var metadata = shard.counters.metadata(with: driver.counters)
                metadata["connections-now"] = "\(shard.connectionCount)"
                metadata["memory"] = "\(shard.blockByteCount)"
                logger.notice("counters", metadata: metadata)
            }
            if shard.isDrained { break }
        }
        control.add(shard.counters, driver.counters)
        driver.shutDown()
    }

    private func log(_ notices: [Notice]) {
        for notice in notices {
            let connection: Logger.Metadata = notice.connection == 0 ? [:] : ["connection": "\(notice.connection)"]
            switch notice.kind {
            case .undelivered:
                logger.warning(
                    "undelivered messages are lost",
                    metadata: ["queue": "\(notice.text)", "messages": "\(notice.messageCount)"])
            case .protocolError, .connectionFailed:
                logger.info("\(notice.kind.rawValue): \(notice.text)", metadata: connection)
            case .connectionRefused, .slowConsumer, .acceptFailed, .messagesDropped, .memoryLimit, .notPersistent:
                logger.warning("\(notice.kind.rawValue): \(notice.text)", metadata: connection)
            }
        }
    }
}

/// The clocks that the core does not read.
enum Clock {
    static var monotonicNanoseconds: UInt64 { read(CLOCK_MONOTONIC) }
    static var wallMilliseconds: UInt64 { read(CLOCK_REALTIME) / 1_000_000 }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
