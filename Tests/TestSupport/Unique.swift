import Glibc
import Synchronization

/// A name that no other test uses.
public func unique(_ prefix: String) -> String {
    "\(prefix)-\(getpid())-\(uniqueCount.add(1, ordering: .relaxed).newValue)"
}

private let uniqueCount = Atomic(0)
