import Access
import Broker
import Configuration
import Drivers
import Logging

extension AccessPool {
    /// For a broker that asks who clients are; its options say so from now on.
    convenience init(
        _ authenticator: Authenticator, _ settings: AccessSettings, _ broker: inout BrokerOptions,
        _ peers: WakeDirectory
    ) {
        broker.authentication = .external
        broker.access = authenticator.table
        self.init(
            authenticator, settings, patienceMilliseconds: broker.limits.connectMillisecondsMax, peers: peers)
    }

    /// Reads all files of access again. Where one is wrong, all stays as it was, and the log says why.
    func reload(_ settings: Settings, _ logger: Logger) {
        do throws(AccessError) {
            let authenticator = try Authenticator.load(settings.access, settings.patternLimits)
            for warning in authenticator.warnings { logger.warning("\(warning)") }
            replace(authenticator)
            logger.notice("users and roles are read again", metadata: ["file": "\(settings.access.usersFile)"])
        } catch {
            for problem in error.problems { logger.error("\(problem)") }
            logger.error("users and roles stay as they were: correct the errors above, and send SIGHUP again")
        }
    }
}
