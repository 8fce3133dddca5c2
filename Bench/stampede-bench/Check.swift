import ArgumentParser
import Capacity
import Drivers
import Foundation
import Load

/// `stampede-bench check N`: checks whether this machine can hold N clients, before they are started.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check whether this machine can hold N clients; print what is missing, and the command that helps.",
        discussion: "For the broker, use `stampede probe --connections N`. Exit code 1 if anything is missing.")

    @Argument(help: "How many clients.")
    var count: Int

    @Flag(help: "Count the broker in that `conns --start` starts on this machine.")
    var withBroker = false

    @Flag(help: "Print the check as JSON.")
    var json = false

    func validate() throws {
        guard 1...100_000_000 ~= count else { throw ValidationError("N: 1 to 100,000,000") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        let workers = withBroker ? Crowd.brokerWorkerCount(count) : 0
        let report = Readiness.report(
            clients: count, brokerWorkers: workers, brokerDriver: TargetOptions.bestDriver,
            clientDriver: TargetOptions.bestDriver)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            print(String(decoding: try encoder.encode(report), as: UTF8.self))
        } else {
            for line in report.lines { print(line) }
        }
        if !report.isMet { throw ExitCode(1) }
    }
}

/// The check of this machine for many clients.
enum Readiness {
    /// - Parameter brokerWorkers: the workers of a broker that is also started on this machine. 0: the broker is on
    ///   another machine.
    static func report(
        clients count: Int, brokerWorkers: Int, brokerDriver: LoadDriver, clientDriver: LoadDriver
    ) -> CapacityReport {
        let probe = URingProbe.run()
        let machine = MachineSnapshot.ofThisMachine(ringRefusal: probe.isAvailable ? nil : probe.reason)
        var parties: [Party] = []
        if brokerWorkers > 0 {
            var broker = Party(.broker, connectionCount: count, driver: brokerDriver == .uring ? .uring : .epoll)
            broker.insistsOnRing = brokerDriver == .uring
            broker.hasDirectDescriptors = brokerDriver == .uring && !probe.isPlain
            broker.workerCount = brokerWorkers
            parties.append(broker)
        }
        parties.append(
            .loadGenerator(
                connectionCount: count, usesRing: clientDriver == .uring, descriptorMax: machine.descriptors.hard))
        return CapacityCheck(parties, on: machine).report
    }
}
