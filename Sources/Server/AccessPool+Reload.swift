import Access
import Configuration
import Logging

extension AccessPool {
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
