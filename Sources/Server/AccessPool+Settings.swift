import Access
import Broker
import Configuration
import Drivers
import Logging
import Transports

extension AccessPool {
    /// For a broker that asks who clients are; its options say so from now on.
    convenience init(
        _ authenticator: Authenticator, _ settings: Settings, _ broker: inout BrokerOptions, _ peers: WakeDirectory,
        _ logger: Logger
    ) throws(DriverError) {
        let context: TLSContext?
        do throws(TLSProblem) {
            context = try settings.serviceContext(nowSeconds: Clock.wallSeconds)
        } catch {
            throw DriverError(.other, "access.http.ca: \(error.description)")
        }
        broker.authentication = .external
        broker.access = authenticator.table
        self.init(
            authenticator, settings.access, patienceMilliseconds: broker.limits.connectMillisecondsMax, peers: peers,
            context, logger)
    }

    /// Reads all files of access again. Where one is wrong, all stays as it was, and the log says why.
    func reload(_ settings: Settings, _ logger: Logger) {
        var problems: [String] = []
        do throws(AccessError) {
            let authenticator = try Authenticator.load(settings.access, settings.patternLimits)
            for warning in authenticator.warnings { logger.warning("\(warning)") }
            do throws(TLSProblem) {
                replace(authenticator, try settings.serviceContext(nowSeconds: Clock.wallSeconds))
                logger.notice("users and roles are read again", metadata: ["file": "\(settings.access.usersFile)"])
            } catch {
                problems = ["access.http.ca: \(error.description)"]
            }
        } catch {
            problems = error.problems.map(\.description)
        }
        if problems.isEmpty { return }
        for problem in problems { logger.error("\(problem)") }
        logger.error("users and roles stay as they were: correct the errors above, and send SIGHUP again")
    }
}
