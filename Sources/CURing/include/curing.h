// The C part of the drivers: system calls that return what io_uring returns (a count or -errno), and functions over
// liburing, with the constants that liburing 2.3 lacks. No other file includes <liburing.h>.
#ifndef CURING_H
#define CURING_H

// This header must not define _GNU_SOURCE: Swift's Glibc module is built without it, and fields of structs would
// differ. Functions that need it are in curing.c.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// ---- System calls: a count, or -errno ------------------------------------------------------------------------------

static inline long socket_send(int fd, const void *bytes, size_t byte_count) {
    ssize_t count = send(fd, bytes, byte_count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return count < 0 ? -errno : count;
}

static inline long socket_send_vector(int fd, const void *vectors, size_t vector_count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = vector_count};
    ssize_t count = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return count < 0 ? -errno : count;
}

static inline long socket_receive(int fd, void *bytes, size_t byte_count) {
    ssize_t count = recv(fd, bytes, byte_count, MSG_DONTWAIT);
    return count < 0 ? -errno : count;
}

/// Accepts a non-blocking socket without waiting. With `address`, the peer's address is stored there.
int socket_accept(int listener, struct sockaddr_storage *address);

/// Whether a socket is a Unix socket.
static inline bool socket_is_unix(int fd) {
    int domain = 0;
    socklen_t byte_count = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &byte_count) == 0 && domain == AF_UNIX;
}

/// What SO_PEERCRED stores, `struct ucred` (unix(7)).
struct socket_peer {
    int32_t process;
    uint32_t user, group;
};

/// The process at the other end of a Unix socket. On other sockets user and group are UINT32_MAX. Returns 0 or -errno.
static inline int socket_peer_credentials(int fd, struct socket_peer *peer) {
    socklen_t byte_count = sizeof *peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &byte_count) < 0 ? -errno : 0;
}

/// Creates a socket and starts to connect it, without Nagle's delay. Returns 0 or -errno. After an error `fd` is -1 or
/// a socket that can only be closed.
static inline int socket_connect(const void *address, socklen_t byte_count, int *fd) {
    const struct sockaddr *target = address;
    int one = 1;
    *fd = socket(target->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0) return -errno;
    setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return connect(*fd, target, byte_count) < 0 && errno != EINPROGRESS && errno != EINTR ? -errno : 0;
}

/// Makes close(2) reset the connection and drop unsent bytes.
static inline int socket_set_reset_on_close(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) < 0 ? -errno : 0;
}

static inline int socket_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }

static inline int socket_close(int fd) { return close(fd) < 0 ? -errno : 0; }

static inline int socket_set_int(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

/// The IPv4 address in host order, or a hash of the IPv6 address (FNV-1a, folded to 47 bits; bit 47 is set). An IPv6
/// address that maps an IPv4 address counts as IPv4. Of a global address (2000::/3) the first 64 bits count: the rest is the
/// subscriber's to choose (RFC 6177), and would be a new client each time. 0 for other families. The result has 48 bits, as many as
/// `ConnectionOrigin` has room for.
static inline uint64_t socket_address_key(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
    if (address->ss_family != AF_INET6) return 0;
    const uint8_t *byte = ((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)address)->sin6_addr))
        return (uint64_t)byte[12] << 24 | (uint64_t)byte[13] << 16 | (uint64_t)byte[14] << 8 | byte[15];
    uint64_t hash = 0xcbf29ce484222325u;
    int count = (byte[0] & 0xe0) == 0x20 ? 8 : 16;
    for (int i = 0; i < count; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    return ((hash ^ hash >> 47) & ((1ull << 47) - 1)) | 1ull << 47;
}

// Files. The helper thread of the epoll driver calls these. `file_write_durable` is a flag of pwritev2(2).

static const int file_write_durable = 0x2;  // RWF_DSYNC, which <sys/uio.h> names only with _GNU_SOURCE
static const int file_direct = __O_DIRECT;  // O_DIRECT, which <fcntl.h> names only with _GNU_SOURCE

/// The mode of a new file: only its owner may read and write it.
static const unsigned file_mode = 0600;

/// openat(2). With AT_FDCWD as the directory, the name is a path.
int file_open(int directory, const void *name, int flags);
long file_write_vector(int fd, const void *vectors, int vector_count, int64_t offset, int flags);
long file_read(int fd, void *bytes, size_t byte_count, int64_t offset);
/// fallocate(2); it may make the file longer. EOPNOTSUPP if the file system does not support it.
int file_allocate(int fd, int64_t offset, int64_t byte_count);
int file_sync_data(int fd);
int file_sync(int fd);
int file_delete(int directory, const void *name);
int file_rename(int directory, const void *name, const void *new_name);
static inline int file_close(int fd) { return close(fd) < 0 ? -errno : 0; }

static inline uint64_t clock_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/// CLOCK_MONOTONIC as of the last scheduler tick: 1 to 10 ms late, at a third of the cost.
static inline uint64_t clock_coarse_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/// Adds 1 to an eventfd. EAGAIN (the counter is full) is ignored: the reader will wake up anyway.
static inline void eventfd_wake(int fd) {
    uint64_t one = 1;
    ssize_t count = write(fd, &one, sizeof one);
    (void)count;
}

static inline void eventfd_clear(int fd) {
    uint64_t value;
    ssize_t count = read(fd, &value, sizeof value);
    (void)count;
}

// ---- epoll ---------------------------------------------------------------------------------------------------------

static const uint32_t event_in = EPOLLIN;
static const uint32_t event_out = EPOLLOUT;
static const uint32_t event_read_hangup = EPOLLRDHUP;
static const uint32_t event_broken = EPOLLHUP | EPOLLERR;
static const uint32_t event_error = EPOLLERR;
static const uint32_t event_edge_triggered = EPOLLET;
/// Only one of several epoll instances that wait for a descriptor is woken (epoll_ctl(2), Linux 4.5 and later).
static const uint32_t event_exclusive = EPOLLEXCLUSIVE;

static inline int epoll_add(int epoll, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static inline int epoll_remove(int epoll, int fd) {
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

static inline uint64_t epoll_event_data(const struct epoll_event *event) { return event->data.u64; }

/// Waits at most `nanoseconds` (UINT64_MAX: no limit). Kernels before 5.11 have no epoll_pwait2(2); there the time is
/// rounded up to milliseconds.
int epoll_wait_nanoseconds(int epoll, struct epoll_event *events, int event_count, uint64_t nanoseconds);

// ---- io_uring ------------------------------------------------------------------------------------------------------

// The define of the trait is set for the C files but not for the Swift import of this header. So in a build without
// io_uring, Swift sees these declarations if liburing is installed, but does not use them.
#if __has_include(<liburing.h>)
#include <liburing.h>
#include <sys/syscall.h>

// Missing in liburing 2.3; the values are the kernel's ABI (include/uapi/linux/io_uring.h).
enum {
    CURING_ENTER_ABS_TIMER = 1u << 5,
    CURING_FEAT_MIN_TIMEOUT = 1u << 15,
    CURING_SOCKET_OP_GETSOCKOPT = 2,
    CURING_SOCKET_OP_SETSOCKOPT = 3,
    CURING_OP_FIXED_FD_INSTALL = 54,
};

static const unsigned curing_setup_disabled = IORING_SETUP_R_DISABLED;
static const unsigned curing_setup_common =
    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG;
static const unsigned curing_setup_deferred = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
static const unsigned curing_setup_single_cooperative = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN;
static const unsigned curing_setup_cooperative = IORING_SETUP_COOP_TASKRUN;

static const unsigned curing_cqe_buffer = IORING_CQE_F_BUFFER;
static const unsigned curing_cqe_more = IORING_CQE_F_MORE;
static const unsigned curing_cqe_nonempty = IORING_CQE_F_SOCK_NONEMPTY;
static const unsigned curing_cqe_notification = IORING_CQE_F_NOTIF;

// The poll bits are those of epoll; <poll.h> names POLLRDHUP only with _GNU_SOURCE.
static const uint32_t curing_poll_in = EPOLLIN;
static const uint32_t curing_poll_hangup = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
static const uint32_t curing_poll_error = EPOLLERR;

/// The arguments of a wait. Layout: `struct io_uring_getevents_arg` with the field that Linux 6.12 added.
struct curing_wait {
    uint64_t signal_mask;
    uint32_t signal_mask_byte_count;
    uint32_t min_wait_microseconds;
    uint64_t timeout;
};

/// Creates a ring and fills the index array of the submission queue once, with entry i at index i. After that,
/// publishing entries is one store of the tail. (liburing 2.3 writes the array at each submit; later versions do the
/// same as here.)
int curing_create(struct io_uring *ring, unsigned entries, unsigned completion_entries, unsigned flags);

/// Unmaps and closes the ring.
void curing_destroy(struct io_uring *ring);

/// Whether the kernel has `opcode` (IORING_REGISTER_PROBE). It does not tell which flags the opcode supports.
bool curing_supports(struct io_uring *ring, int opcode);

/// Registers `count` sparse file slots. If the kernel refuses, tries half as many, down to `least`. Returns the count
/// or -errno.
int curing_register_files(struct io_uring *ring, unsigned count, unsigned least);

/// Restricts a disabled ring to the operations that the driver uses. If `file_flags` is 0, requests cannot use slots of
/// a file table.
int curing_restrict(struct io_uring *ring, const uint8_t *opcodes, unsigned opcode_count, uint8_t file_flags);

/// Enables a disabled ring. From now on only the calling thread may submit.
int curing_enable(struct io_uring *ring);

static inline int curing_put_file(struct io_uring *ring, unsigned slot, int fd) {
    return io_uring_register_files_update(ring, slot, &fd, 1);
}

/// The next free submission entry, cleared. NULL: the queue is full.
static inline struct io_uring_sqe *curing_next(struct io_uring *ring) {
    struct io_uring_sq *queue = &ring->sq;
    if (queue->sqe_tail - io_uring_smp_load_acquire(queue->khead) >= queue->ring_entries) return NULL;
    struct io_uring_sqe *sqe = &queue->sqes[queue->sqe_tail++ & queue->ring_mask];
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

/// The number of entries that are prepared or published and not taken by the kernel yet.
static inline unsigned curing_pending(struct io_uring *ring) {
    return ring->sq.sqe_tail - io_uring_smp_load_acquire(ring->sq.khead);
}

static inline bool curing_has_task_work(struct io_uring *ring) {
    return IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_TASKRUN;
}

static inline bool curing_has_overflow(struct io_uring *ring) {
    return IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_CQ_OVERFLOW;
}

/// Submits all prepared entries. With `gets_events`, also runs deferred work and waits for `completion_count`
/// completions until the time-out (relative or absolute; NULL: none). Returns the number of entries taken, or -errno.
static inline int curing_enter(
    struct io_uring *ring, bool is_registered, bool gets_events, bool is_absolute, unsigned completion_count,
    unsigned min_wait_microseconds, const struct __kernel_timespec *timeout) {
    io_uring_smp_store_release(ring->sq.ktail, ring->sq.sqe_tail);
    unsigned flags = is_registered ? IORING_ENTER_REGISTERED_RING : 0;
    if (!gets_events)
        return io_uring_enter2((unsigned)ring->enter_ring_fd, curing_pending(ring), 0, flags, NULL, 0);
    struct curing_wait wait = {.min_wait_microseconds = min_wait_microseconds, .timeout = (uint64_t)(uintptr_t)timeout};
    flags |= IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | (is_absolute ? CURING_ENTER_ABS_TIMER : 0);
    return io_uring_enter2(
        (unsigned)ring->enter_ring_fd, curing_pending(ring), completion_count, flags, (sigset_t *)&wait, sizeof wait);
}

static inline unsigned curing_completion_head(struct io_uring *ring) { return *ring->cq.khead; }
static inline unsigned curing_completion_tail(struct io_uring *ring) {
    return io_uring_smp_load_acquire(ring->cq.ktail);
}
static inline struct io_uring_cqe *curing_completion(struct io_uring *ring, unsigned position) {
    return &ring->cq.cqes[position & ring->cq.ring_mask];
}
static inline void curing_set_completion_head(struct io_uring *ring, unsigned head) {
    io_uring_smp_store_release(ring->cq.khead, head);
}

// Submission entries. Each function fills an entry that `curing_next` has cleared. `file_flags` tells whether `file` is
// a slot of the ring's file table or a plain descriptor.

static const uint8_t curing_file_direct = IOSQE_FIXED_FILE;
static const uint8_t curing_file_plain = 0;

static inline void curing_prepare(struct io_uring_sqe *sqe, int opcode, int fd, uint8_t flags, uint64_t user_data) {
    sqe->opcode = (uint8_t)opcode;
    sqe->fd = fd;
    sqe->flags = flags;
    sqe->user_data = user_data;
}

static inline void curing_prepare_nop(struct io_uring_sqe *sqe, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_NOP, -1, 0, user_data);
}

/// Puts a new socket into a free slot of the file table, or makes it a plain descriptor. For a slot, SOCK_CLOEXEC would
/// be EINVAL. A plain socket stays blocking; otherwise requests would return -EAGAIN instead of waiting.
static inline void curing_place_accepted(struct io_uring_sqe *sqe, uint8_t file_flags) {
    bool is_direct = file_flags & IOSQE_FIXED_FILE;
    sqe->file_index = is_direct ? IORING_FILE_INDEX_ALLOC : 0;
    sqe->accept_flags = is_direct ? 0 : SOCK_CLOEXEC;
}

/// Multishot accept.
static inline void curing_prepare_accept_multishot(
    struct io_uring_sqe *sqe, int listener, uint8_t file_flags, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_ACCEPT, listener, 0, user_data);
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    curing_place_accepted(sqe, file_flags);
}

/// Accepts one connection, with the peer's address. (io_uring_prep_accept_direct of liburing 2.3 is not used because it
/// adds 1 to FILE_INDEX_ALLOC.)
static inline void curing_prepare_accept_address(
    struct io_uring_sqe *sqe, int listener, uint8_t file_flags, struct sockaddr_storage *address,
    socklen_t *byte_count, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_ACCEPT, listener, 0, user_data);
    *byte_count = sizeof *address;
    sqe->addr = (uint64_t)(uintptr_t)address;
    sqe->addr2 = (uint64_t)(uintptr_t)byte_count;
    curing_place_accepted(sqe, file_flags);
}

static inline void curing_prepare_poll(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, uint32_t events, bool is_multishot, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_POLL_ADD, file, file_flags, user_data);
#if __BYTE_ORDER == __BIG_ENDIAN
    events = events << 16 | events >> 16;
#endif
    sqe->poll32_events = events;
    sqe->len = is_multishot ? IORING_POLL_ADD_MULTI : 0;
}

static inline void curing_prepare_poll_receive(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, uint64_t user_data) {
    curing_prepare_poll(sqe, file, file_flags, EPOLLIN | EPOLLRDHUP, true, user_data);
}

/// A POLL that asks for no readiness. It reports only what every POLL of a ring reports: end, hang-up and error, each
/// once.
static inline void curing_prepare_poll_failure(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, uint64_t user_data) {
    curing_prepare_poll(sqe, file, file_flags, 0, true, user_data);
}

static inline void curing_prepare_poll_writable(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, uint64_t user_data) {
    curing_prepare_poll(sqe, file, file_flags, EPOLLOUT, false, user_data);
}

static inline void curing_prepare_receive(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, uint16_t group, uint32_t byte_count,
    uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_RECV, file, file_flags | IOSQE_BUFFER_SELECT, user_data);
    sqe->msg_flags = MSG_DONTWAIT;
    sqe->len = byte_count;
    sqe->buf_group = group;
}

/// With `polls_first` the kernel waits before it tries to receive; use it for a socket that was just read empty. The
/// entry has no length: each receive may fill its buffer, and Linux 6.1 refuses a length.
static inline void curing_prepare_receive_multishot(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, uint16_t group, bool polls_first, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_RECV, file, file_flags | IOSQE_BUFFER_SELECT, user_data);
    sqe->ioprio = IORING_RECV_MULTISHOT | (polls_first ? IORING_RECVSEND_POLL_FIRST : 0);
    sqe->buf_group = group;
}

/// A silent send needs MSG_WAITALL. Without it a short send would also be silent, and bytes would be lost. A send that
/// always posts a completion must not use it: before Linux 6.1 a short send with MSG_WAITALL may return -EAGAIN, as if
/// nothing had been taken, and its bytes would be sent twice.
static inline uint32_t curing_send_flags(bool is_silent) {
    return MSG_DONTWAIT | MSG_NOSIGNAL | (is_silent ? MSG_WAITALL : 0);
}

/// A send. The result is the count of bytes taken or -errno. If `is_silent`, there is no completion when the socket takes
/// all bytes.
static inline void curing_prepare_send(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, const void *bytes, uint32_t byte_count, bool is_silent,
    uint64_t user_data) {
    uint8_t flags = (uint8_t)(file_flags | (is_silent ? IOSQE_CQE_SKIP_SUCCESS : 0));
    curing_prepare(sqe, IORING_OP_SEND, file, flags, user_data);
    sqe->addr = (uint64_t)(uintptr_t)bytes;
    sqe->len = byte_count;
    sqe->msg_flags = curing_send_flags(is_silent);
}

/// As above, from several buffers. `message` must stay valid until the entry is submitted.
static inline void curing_prepare_send_vector(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, struct msghdr *message, const void *vectors,
    size_t vector_count, bool is_silent, uint64_t user_data) {
    memset(message, 0, sizeof *message);
    message->msg_iov = (struct iovec *)vectors;
    message->msg_iovlen = vector_count;
    uint8_t flags = (uint8_t)(file_flags | (is_silent ? IOSQE_CQE_SKIP_SUCCESS : 0));
    curing_prepare(sqe, IORING_OP_SENDMSG, file, flags, user_data);
    sqe->addr = (uint64_t)(uintptr_t)message;
    sqe->len = 1;
    sqe->msg_flags = curing_send_flags(is_silent);
}

static inline void curing_prepare_send_zero_copy(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, const void *bytes, uint32_t byte_count,
    uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_SEND_ZC, file, file_flags, user_data);
    sqe->addr = (uint64_t)(uintptr_t)bytes;
    sqe->len = byte_count;
    sqe->msg_flags = curing_send_flags(false);
}

static inline void curing_prepare_shutdown_write(struct io_uring_sqe *sqe, int file, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_SHUTDOWN, file, IOSQE_FIXED_FILE, user_data);
    sqe->len = SHUT_WR;
}

/// Makes a plain descriptor (close-on-exec) for a direct one, which stays open. The result is the descriptor. The
/// caller closes it. Linux 6.8 and later.
static inline void curing_prepare_install(struct io_uring_sqe *sqe, int file, uint64_t user_data) {
    curing_prepare(sqe, CURING_OP_FIXED_FD_INSTALL, file, IOSQE_FIXED_FILE, user_data);
}

/// Cancels the request whose user_data is `target`. Posts no completion if the request was found.
static inline void curing_prepare_cancel(struct io_uring_sqe *sqe, uint64_t target, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_ASYNC_CANCEL, -1, IOSQE_CQE_SKIP_SUCCESS, user_data);
    sqe->addr = target;
}

static inline void curing_prepare_cancel_everything(struct io_uring_sqe *sqe, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_ASYNC_CANCEL, -1, 0, user_data);
    sqe->cancel_flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
}

static inline void curing_prepare_close(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, bool is_silent, uint64_t user_data) {
    bool is_direct = file_flags & IOSQE_FIXED_FILE;
    curing_prepare(sqe, IORING_OP_CLOSE, is_direct ? 0 : file, is_silent ? IOSQE_CQE_SKIP_SUCCESS : 0, user_data);
    sqe->file_index = is_direct ? (uint32_t)file + 1 : 0;
}

/// setsockopt(2) on a direct descriptor, Linux 6.7 and later. Posts no completion on success. `value` must stay valid
/// until the entry is submitted. liburing 2.3 has no names for the fields: `addr` holds level and option, `file_index`
/// the length of the value, `addr3` its address.
static inline void curing_prepare_set_option(
    struct io_uring_sqe *sqe, int file, uint32_t level, uint32_t option, const void *value, uint32_t byte_count,
    uint64_t user_data) {
    struct { uint32_t level, option; } name = {level, option};
    curing_prepare(sqe, IORING_OP_URING_CMD, file, IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS, user_data);
    sqe->cmd_op = CURING_SOCKET_OP_SETSOCKOPT;
    memcpy(&sqe->addr, &name, sizeof name);
    sqe->file_index = byte_count;
    sqe->addr3 = (uint64_t)(uintptr_t)value;
}

/// getsockopt(2) with level SOL_SOCKET on a direct descriptor, Linux 6.7 and later. It completes within the submit.
static inline void curing_prepare_get_option(
    struct io_uring_sqe *sqe, int file, uint32_t option, void *value, uint32_t byte_count, uint64_t user_data) {
    struct { uint32_t level, option; } name = {SOL_SOCKET, option};
    curing_prepare(sqe, IORING_OP_URING_CMD, file, IOSQE_FIXED_FILE, user_data);
    sqe->cmd_op = CURING_SOCKET_OP_GETSOCKOPT;
    memcpy(&sqe->addr, &name, sizeof name);
    sqe->file_index = byte_count;
    sqe->addr3 = (uint64_t)(uintptr_t)value;
}

/// The peer's address, as getpeername(2) returns it. `byte_count` must not exceed the size of the address.
static const uint32_t curing_peer_name = SO_PEERNAME;
/// A `struct socket_peer`.
static const uint32_t curing_peer_credentials = SO_PEERCRED;

/// Makes the close reset the connection: SO_LINGER with 0 s.
static inline void curing_prepare_reset_on_close(struct io_uring_sqe *sqe, int file, uint64_t user_data) {
    static const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    curing_prepare_set_option(sqe, file, SOL_SOCKET, SO_LINGER, &linger, sizeof linger, user_data);
}

/// Switches Nagle's delay off.
static inline void curing_prepare_no_delay(struct io_uring_sqe *sqe, int file, uint64_t user_data) {
    static const int one = 1;
    curing_prepare_set_option(sqe, file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one, user_data);
}

/// Creates a TCP socket of the family of the address.
static inline void curing_prepare_socket(
    struct io_uring_sqe *sqe, uint8_t file_flags, const void *address, uint64_t user_data) {
    bool is_direct = file_flags & IOSQE_FIXED_FILE;
    curing_prepare(sqe, IORING_OP_SOCKET, ((const struct sockaddr *)address)->sa_family, 0, user_data);
    sqe->off = is_direct ? SOCK_STREAM : SOCK_STREAM | SOCK_CLOEXEC;
    sqe->file_index = is_direct ? IORING_FILE_INDEX_ALLOC : 0;
}

/// `address` must stay valid until the entry is submitted.
static inline void curing_prepare_connect(
    struct io_uring_sqe *sqe, int file, uint8_t file_flags, const void *address, socklen_t byte_count,
    uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_CONNECT, file, file_flags, user_data);
    sqe->addr = (uint64_t)(uintptr_t)address;
    sqe->off = byte_count;
}

// Files are plain descriptors on every kernel, so that a log can open its next segment even if the file table is full
// of sockets. The look-up that a slot would save is small compared with a write. The kernel moves operations that wait
// for a disk to its worker threads.

/// openat(2) in the directory `directory`. With AT_FDCWD the name is a path. It must stay valid until the entry is
/// submitted.
static inline void curing_prepare_file_open(
    struct io_uring_sqe *sqe, int directory, const void *name, int flags, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_OPENAT, directory, 0, user_data);
    sqe->addr = (uint64_t)(uintptr_t)name;
    sqe->len = file_mode;
    sqe->open_flags = (uint32_t)flags;
}

/// pwritev2(2) with `write_flags`. The vectors and their bytes must stay valid until the completion.
static inline void curing_prepare_file_write_vector(
    struct io_uring_sqe *sqe, int fd, const void *vectors, uint32_t vector_count, uint64_t offset, int write_flags,
    uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_WRITEV, fd, 0, user_data);
    sqe->addr = (uint64_t)(uintptr_t)vectors;
    sqe->len = vector_count;
    sqe->off = offset;
    sqe->rw_flags = write_flags;
}

static inline void curing_prepare_file_write(
    struct io_uring_sqe *sqe, int fd, const void *bytes, uint32_t byte_count, uint64_t offset, int write_flags,
    uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_WRITE, fd, 0, user_data);
    sqe->addr = (uint64_t)(uintptr_t)bytes;
    sqe->len = byte_count;
    sqe->off = offset;
    sqe->rw_flags = write_flags;
}

static inline void curing_prepare_file_read(
    struct io_uring_sqe *sqe, int fd, const void *bytes, uint32_t byte_count, uint64_t offset, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_READ, fd, 0, user_data);
    sqe->addr = (uint64_t)(uintptr_t)bytes;
    sqe->len = byte_count;
    sqe->off = offset;
}

static inline void curing_prepare_file_allocate(
    struct io_uring_sqe *sqe, int fd, uint64_t offset, uint64_t byte_count, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_FALLOCATE, fd, 0, user_data);
    sqe->off = offset;
    sqe->addr = byte_count;
}

static inline void curing_prepare_file_sync(struct io_uring_sqe *sqe, int fd, bool is_data_only, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_FSYNC, fd, 0, user_data);
    sqe->fsync_flags = is_data_only ? IORING_FSYNC_DATASYNC : 0;
}

static inline void curing_prepare_file_delete(
    struct io_uring_sqe *sqe, int directory, const void *name, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_UNLINKAT, directory, 0, user_data);
    sqe->addr = (uint64_t)(uintptr_t)name;
}

static inline void curing_prepare_file_rename(
    struct io_uring_sqe *sqe, int directory, const void *name, const void *new_name, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_RENAMEAT, directory, 0, user_data);
    sqe->addr = (uint64_t)(uintptr_t)name;
    sqe->len = (uint32_t)directory;
    sqe->off = (uint64_t)(uintptr_t)new_name;
}

/// Posts the completion (`remote_user_data`, 0) to another ring. Posts none to this ring on success.
static inline void curing_prepare_wake(
    struct io_uring_sqe *sqe, int ring_fd, uint64_t remote_user_data, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_MSG_RING, ring_fd, IOSQE_CQE_SKIP_SUCCESS, user_data);
    sqe->addr = IORING_MSG_DATA;
    sqe->off = remote_user_data;
}

/// Installs a direct descriptor of this ring in a free slot of another ring's file table, and posts the completion
/// (`remote_user_data`, slot) to that ring.
static inline void curing_prepare_send_file(
    struct io_uring_sqe *sqe, int ring_fd, int file, uint64_t remote_user_data, uint64_t user_data) {
    curing_prepare(sqe, IORING_OP_MSG_RING, ring_fd, 0, user_data);
    sqe->addr = IORING_MSG_SEND_FD;
    sqe->off = remote_user_data;
    sqe->addr3 = (uint64_t)(unsigned)file;
    sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

// Provided-buffer rings. `entries` is a power of two.

int curing_register_buffers(struct io_uring *ring, struct io_uring_buf_ring *buffers, unsigned entries, uint16_t group);

static inline void curing_buffer_put(
    struct io_uring_buf_ring *buffers, unsigned entries, uint16_t tail, void *bytes, uint32_t byte_count,
    uint16_t identifier) {
    struct io_uring_buf *buffer = &buffers->bufs[tail & (entries - 1)];
    buffer->addr = (uint64_t)(uintptr_t)bytes;
    buffer->len = byte_count;
    buffer->bid = identifier;
}

static inline void curing_buffers_publish(struct io_uring_buf_ring *buffers, uint16_t tail) {
    io_uring_smp_store_release(&buffers->tail, tail);
}

#endif
#endif
