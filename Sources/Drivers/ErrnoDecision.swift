import Glibc
import Slabs

/// What a driver does about an errno. Every errno of every operation is decided here and nowhere else; both drivers
/// ask.
enum ErrnoDecision: Equatable {
    /// Nothing to do now: the kernel will report when there is. (A full socket, an empty socket.)
    case wait
    /// This attempt is lost, the next one may succeed: try again at once.
    case retry
    /// No memory, descriptor, buffer or disk space at the moment: try again after something was given back. (Of a
    /// file the core is told, and it is the core that tries again.)
    case exhausted
    /// We cancelled it ourselves.
    case cancelled
    /// The connection is gone, or the file operation has failed; report it.
    case failed
    /// It makes no difference: the thing is closed, or as good as.
    case harmless
    /// Only an error of the programmer can cause it: a descriptor that is not ours, a pointer to nowhere.
    case misuse
}

/// For the outcomes that change nothing: stops the process if only an error of the programmer explains one.
/// - Parameter result: 0 or more, or -errno.
func expectNoMisuse(_ operation: KernelOperation, _ result: Int32) {
    guard result < 0 else { return }
    invariant(
        decision(for: operation, errorNumber: -result) != .misuse,
        "the kernel refused a request on a descriptor that should be ours")
}

/// What was attempted when the kernel answered with an errno.
enum KernelOperation: CaseIterable {
    case accept, receive, send, poll, shutdown, close, cancel, setOption, handOff, wake, wait
    case openFile, writeFile, readFile, allocateFile, syncFile, deleteFile
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
    case .openFile, .deleteFile: nameDecision(errorNumber)
    case .writeFile, .readFile, .allocateFile: transferDecision(errorNumber)
    case .syncFile: syncDecision(errorNumber)
    }
}

/// accept(2): "reliable applications treat already-pending network errors on the new socket as EAGAIN, by retrying".
/// EPERM is a firewall's answer for one connection. Unknown errors back off, as a lack of resources does.
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

/// ENOBUFS is io_uring's "no provided buffer is free". recv(2) itself answers ENOMEM when the kernel is short.
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

/// A kernel short of memory takes nothing, as a full socket does: who is in stays in, and sends again. But only a full
/// socket tells when there is room; after the others it has to be tried.
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

/// The peer may have ended or reset the connection first; the next receive or send says so. setsockopt in a ring
/// answers EOPNOTSUPP before kernel 6.7: the close is then a plain one. After close(2) the descriptor is gone whatever
/// it says.
private func endingDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EBADF, EFAULT, ENOTSOCK: .misuse
    default: .harmless
    }
}

/// ENOENT: it has completed, or is between two attempts and cannot be found; EALREADY: it is running. In both cases it
/// may still be armed afterwards, so the driver looks again when it sees no last completion.
private func cancelDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case ENOENT, EALREADY: .retry
    case EINVAL: .misuse
    default: .retry
    }
}

/// Whatever prevents a hand-off, the connection is closed: nobody has room for it, the worker has gone, or the kernel is
/// too old for it (EINVAL before 6.0).
private func handOffDecision(_ errorNumber: Int32) -> ErrnoDecision { .failed }

/// EBADF and EBADFD: the worker's ring is gone or not there yet. Its eventfd is written instead.
private func wakeDecision(_ errorNumber: Int32) -> ErrnoDecision { .retry }

/// io_uring_enter(2) and epoll_wait(2). EBUSY and EAGAIN: reap first, or the kernel is short of memory.
private func waitDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR: .retry
    case ETIME: .wait
    case EAGAIN, EBUSY, ENOMEM: .exhausted
    default: .misuse
    }
}

/// openat(2) and unlinkat(2). ENOENT, EEXIST, EACCES, EROFS and the like are answers for the core. So is EINVAL,
/// which some file systems give for a name.
private func nameDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR, EAGAIN: .retry
    case EMFILE, ENFILE, ENOMEM, ENOSPC, EDQUOT: .exhausted
    case EBADF, EFAULT: .misuse
    default: .failed
    }
}

/// pwritev2(2), pread(2), fallocate(2). A full disk, a quota or a limit (EFBIG) takes the same bytes when there is room
/// again. EOPNOTSUPP: the file system knows no fallocate(2). EBADF is also what a file that was opened for reading says
/// to a write.
private func transferDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR, EAGAIN: .retry
    case ENOSPC, EDQUOT, EFBIG, ENOMEM, ENOBUFS: .exhausted
    case EBADF, EFAULT: .misuse
    default: .failed
    }
}

/// fsync(2), fdatasync(2). ENOSPC and EDQUOT too mean that bytes which the kernel had taken are lost, so nothing but
/// a call that was not carried out is tried again. EINVAL: the file system cannot sync such a file.
private func syncDecision(_ errorNumber: Int32) -> ErrnoDecision {
    switch errorNumber {
    case EINTR, EAGAIN: .retry
    case EBADF, EFAULT: .misuse
    default: .failed
    }
}
