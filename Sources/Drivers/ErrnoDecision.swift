import Glibc
import Slabs

/// What a driver does about an errno. This file decides about every errno of every operation, for both drivers.
enum ErrnoDecision: Equatable {
    /// Nothing to do now. The kernel reports when the operation is possible. (The socket is full, or empty.)
    case wait
    /// The operation failed but may succeed the next time. Try again at once.
    case retry
    /// No memory, descriptor, buffer or disk space at the moment. Try again after some was released. (A file operation
    /// reports it to the core, and the core tries again.)
    case exhausted
    /// The driver itself cancelled the operation.
    case cancelled
    /// The connection or the file operation has failed. Report it.
    case failed
    /// No effect on the outcome: the connection or file is closed, or no longer usable.
    case harmless
    /// Only a programmer error can cause it, such as a wrong descriptor or an invalid pointer.
    case misuse
}

/// Stops the process if the result shows a programmer error. Other errors are ignored.
///
/// - Parameter result: 0 or more, or -errno.
func expectNoMisuse(_ operation: KernelOperation, _ result: Int32) {
    guard result < 0 else { return }
    invariant(
        decision(for: operation, errorNumber: -result) != .misuse,
        "the kernel refused a request on a descriptor that should be ours")
}

/// The operation that returned an errno.
enum KernelOperation: CaseIterable {
    case accept, receive, send, poll, shutdown, close, cancel, setOption, handOff, wake, wait
    case openFile, writeFile, readFile, allocateFile, syncFile, deleteFile, renameFile
}

/// - Parameter errorNumber: positive, as in `errno`.
func decision(for operation: KernelOperation, errorNumber: Int32) -> ErrnoDecision {
    switch operation {
    case .accept: acceptDecision(errorNumber)
    case .receive: receiveDecision(errorNumber)
    case .send: sendDecision(errorNumber)
    case .poll: pollDecision(errorNumber)
    case .shutdown, .setOption, .close: endingDecision(errorNumber)
    case .cancel: cancelDecision(errorNumber)
    case .handOff: handOffDecision(errorNumber)
    case .wake: wakeDecision(errorNumber)
    case .wait: waitDecision(errorNumber)
    case .openFile, .deleteFile, .renameFile: nameDecision(errorNumber)
    case .writeFile, .readFile, .allocateFile: transferDecision(errorNumber)
    case .syncFile: syncDecision(errorNumber)
    }
}

/// accept(2): "reliable applications treat already-pending network errors on the new socket as EAGAIN, by retrying".
/// EPERM comes from a firewall, for one connection. An unknown error is handled like a lack of resources: the driver
/// stops accepting for a while.
private func acceptDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EAGAIN: .wait
    case EINTR, ECONNABORTED, EPERM, EPROTO, ENOPROTOOPT, EOPNOTSUPP, ETIMEDOUT, ENETDOWN, ENETUNREACH, EHOSTDOWN,
        EHOSTUNREACH, ENONET:
        .retry
    case EMFILE, ENFILE, ENOBUFS, ENOMEM: .exhausted
    case ECANCELED: .cancelled
    case EBADF, EFAULT, EINVAL, ENOTSOCK: .misuse
    default: .exhausted
    }
}

/// io_uring returns ENOBUFS if no provided buffer is free. recv(2) returns ENOMEM if the kernel is short of memory.
private func receiveDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EAGAIN: .wait
    case EINTR: .retry
    case ENOBUFS, ENOMEM: .exhausted
    case ECANCELED: .cancelled
    case EBADF, EFAULT, EINVAL, ENOTSOCK: .misuse
    default: .failed
    }
}

/// A kernel that is short of memory takes no bytes, like a full socket. The connection stays open and sends again. Only
/// a full socket reports when it has room; after the other errors the send is tried again.
private func sendDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EAGAIN: .wait
    case EINTR: .retry
    case ENOBUFS, ENOMEM: .exhausted
    case EBADF, EFAULT, ENOTSOCK, EMSGSIZE: .misuse
    default: .failed
    }
}

private func pollDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case ECANCELED: .cancelled
    case ENOMEM, EAGAIN: .exhausted
    case EINTR: .retry
    case EBADF, EFAULT, EINVAL: .misuse
    default: .failed
    }
}

/// The peer may have ended or reset the connection before; the next receive or send reports that. Before Linux 6.7,
/// setsockopt in a ring returns EOPNOTSUPP; then the close does not reset the connection. After close(2) the descriptor
/// is closed whatever the result.
private func endingDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EBADF, EFAULT, ENOTSOCK: .misuse
    default: .harmless
    }
}

/// ENOENT: the request has completed, or the kernel is between two attempts of it and does not find it. EALREADY: it is
/// running. In both cases it may still be armed, so the driver cancels again if the last completion does not come.
private func cancelDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case ENOENT, EALREADY: .retry
    case EINVAL: .misuse
    default: .retry
    }
}

/// After every error the connection is closed: the other worker has no room or has ended, or the kernel is too old
/// (EINVAL before Linux 6.0).
private func handOffDecision(_ errorNumber: Int32) -> ErrnoDecision { .failed }

/// EBADF and EBADFD: the ring of the worker is closed or not ready yet. The driver then writes to its eventfd.
private func wakeDecision(_ errorNumber: Int32) -> ErrnoDecision { .retry }

/// io_uring_enter(2) and epoll_wait(2). EBUSY: completions must be taken first. EAGAIN: the kernel is short of memory.
private func waitDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR: .retry
    case ETIME: .wait
    case EAGAIN, EBUSY, ENOMEM: .exhausted
    default: .misuse
    }
}

/// openat(2), unlinkat(2) and renameat(2). ENOENT, EEXIST, EACCES, EROFS and similar errors are reported to the core. So is
/// EINVAL, which some file systems return for an invalid name.
private func nameDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR, EAGAIN: .retry
    case EMFILE, ENFILE, ENOMEM, ENOSPC, EDQUOT: .exhausted
    case EBADF, EFAULT: .misuse
    default: .failed
    }
}

/// pwritev2(2), pread(2), fallocate(2). After a full disk, a quota or a size limit (EFBIG) the same operation succeeds
/// when there is room again. EOPNOTSUPP: the file system does not support fallocate(2). EBADF is also the result of a
/// write to a file that was opened for reading.
private func transferDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR, EAGAIN: .retry
    case ENOSPC, EDQUOT, EFBIG, ENOMEM, ENOBUFS: .exhausted
    case EBADF, EFAULT: .misuse
    default: .failed
    }
}

/// fsync(2), fdatasync(2). ENOSPC and EDQUOT also mean that bytes which the kernel had taken are lost. So only a call
/// that was not carried out is tried again. EINVAL: the file system cannot sync such a file.
private func syncDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR, EAGAIN: .retry
    case EBADF, EFAULT: .misuse
    default: .failed
    }
}
