import Glibc
import Testing

@testable import Drivers

struct ErrnoDecisionTests {
    static let decided: [(KernelOperation, ErrnoDecision, [Int32])] = [
        (.accept, .wait, [EAGAIN]),
        (
            .accept, .retry,
            [
                EINTR, ECONNABORTED, EPERM, EPROTO, ENOPROTOOPT, EOPNOTSUPP, ETIMEDOUT, ENETDOWN, ENETUNREACH,
                EHOSTDOWN, EHOSTUNREACH, ENONET,
            ]
        ),
        (.accept, .exhausted, [EMFILE, ENFILE, ENOBUFS, ENOMEM, EIO]),
        (.accept, .cancelled, [ECANCELED]),
        (.accept, .misuse, [EBADF, EFAULT, EINVAL, ENOTSOCK]),
        (.receive, .wait, [EAGAIN]),
        (.receive, .retry, [EINTR]),
        (.receive, .exhausted, [ENOBUFS, ENOMEM]),
        (.receive, .cancelled, [ECANCELED]),
        (.receive, .failed, [ECONNRESET, ETIMEDOUT, EPIPE, ECONNREFUSED, EHOSTUNREACH, ENETDOWN, ENOTCONN, EIO]),
        (.receive, .misuse, [EBADF, EFAULT, EINVAL, ENOTSOCK]),
        (.send, .wait, [EAGAIN]),
        (.send, .retry, [EINTR]),
        (.send, .exhausted, [ENOBUFS, ENOMEM]),
        (.send, .failed, [EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOTCONN, EINVAL, EACCES, EIO]),
        (.send, .misuse, [EBADF, EFAULT, ENOTSOCK, EMSGSIZE]),
        (.poll, .cancelled, [ECANCELED]),
        (.poll, .exhausted, [ENOMEM, EAGAIN]),
        (.poll, .retry, [EINTR]),
        (.poll, .failed, [EIO]),
        (.poll, .misuse, [EBADF, EFAULT, EINVAL]),
        (.shutdown, .harmless, [ENOTCONN, EINVAL, ECONNRESET]),
        (.shutdown, .misuse, [EBADF, ENOTSOCK]),
        (.close, .harmless, [EINTR, EIO]),
        (.close, .misuse, [EBADF]),
        (.setOption, .harmless, [EOPNOTSUPP, EINVAL, ENOPROTOOPT]),
        (.setOption, .misuse, [EBADF, EFAULT]),
        (.cancel, .retry, [ENOENT, EALREADY, EIO]),
        (.cancel, .misuse, [EINVAL]),
        (.handOff, .failed, [ENFILE, EBADF, EBADFD, EOVERFLOW, ENOMEM, EINVAL]),
        (.wake, .retry, [EBADF, EBADFD, EOVERFLOW, ENOMEM]),
        (.wait, .retry, [EINTR]),
        (.wait, .wait, [ETIME]),
        (.wait, .exhausted, [EAGAIN, EBUSY, ENOMEM]),
        (.wait, .misuse, [EBADF, EFAULT, EINVAL, EEXIST, EBADFD]),
        (.openFile, .retry, [EINTR, EAGAIN]),
        (.openFile, .exhausted, [EMFILE, ENFILE, ENOMEM, ENOSPC, EDQUOT]),
        (
            .openFile, .failed,
            [ENOENT, EEXIST, EACCES, EPERM, EROFS, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, ETXTBSY, EINVAL, EIO]
        ),
        (.openFile, .misuse, [EBADF, EFAULT]),
        (.deleteFile, .retry, [EINTR, EAGAIN]),
        (.deleteFile, .exhausted, [ENOMEM, ENOSPC, EDQUOT]),
        (.deleteFile, .failed, [ENOENT, EACCES, EPERM, EBUSY, EROFS, EISDIR, EIO]),
        (.deleteFile, .misuse, [EBADF, EFAULT]),
        (.renameFile, .retry, [EINTR, EAGAIN]),
        (.renameFile, .exhausted, [ENOMEM, ENOSPC, EDQUOT]),
        (.renameFile, .failed, [ENOENT, EEXIST, EACCES, EPERM, EXDEV, EROFS, EIO]),
        (.renameFile, .misuse, [EBADF, EFAULT]),
        (.writeFile, .retry, [EINTR, EAGAIN]),
        (.writeFile, .exhausted, [ENOSPC, EDQUOT, EFBIG, ENOMEM, ENOBUFS]),
        (.writeFile, .failed, [EIO, EROFS, EPERM, EINVAL, EOPNOTSUPP, ECANCELED]),
        (.writeFile, .misuse, [EBADF, EFAULT]),
        (.readFile, .retry, [EINTR, EAGAIN]),
        (.readFile, .exhausted, [ENOMEM]),
        (.readFile, .failed, [EIO, EINVAL, ESTALE, ECANCELED]),
        (.readFile, .misuse, [EBADF, EFAULT]),
        (.allocateFile, .retry, [EINTR]),
        (.allocateFile, .exhausted, [ENOSPC, EDQUOT, EFBIG]),
        (.allocateFile, .failed, [EOPNOTSUPP, ENODEV, EIO, EPERM]),
        (.allocateFile, .misuse, [EBADF]),
        (.syncFile, .retry, [EINTR, EAGAIN]),
        (.syncFile, .failed, [EIO, ENOSPC, EDQUOT, EROFS, EINVAL, ENOMEM]),
        (.syncFile, .misuse, [EBADF, EFAULT]),
    ]

    @Test(arguments: decided.indices)
    func `each errno of each operation has its decision`(_ index: Int) {
        let (operation, expected, errorNumbers) = Self.decided[index]
        for errorNumber in errorNumbers {
            #expect(decision(for: operation, errorNumber: errorNumber) == expected, "\(operation) \(errorNumber)")
        }
    }

    @Test func `every operation is in the table`() {
        #expect(Set(Self.decided.map { "\($0.0)" }) == Set(KernelOperation.allCases.map { "\($0)" }))
    }
}
