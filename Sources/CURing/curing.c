#define _GNU_SOURCE
#include "curing.h"
#include <fcntl.h>
#include <stdio.h>

int socket_accept(int listener, struct sockaddr_storage *address) {
    socklen_t byte_count = sizeof *address;
    int fd = accept4(listener, (struct sockaddr *)address, address ? &byte_count : NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int epoll_wait_nanoseconds(int epoll, struct epoll_event *events, int event_count, uint64_t nanoseconds) {
    static volatile bool lacks_pwait2;
    if (!lacks_pwait2) {
        struct timespec timeout = {
            .tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
        int count = epoll_pwait2(epoll, events, event_count, nanoseconds == UINT64_MAX ? NULL : &timeout, NULL);
        if (count >= 0) return count;
        if (errno != ENOSYS && errno != EPERM) return -errno;
        lacks_pwait2 = true;
    }
    int milliseconds = -1;
    if (nanoseconds != UINT64_MAX) {
        uint64_t rounded = nanoseconds / 1000000u + (nanoseconds % 1000000u != 0);
        milliseconds = rounded > INT32_MAX ? INT32_MAX : (int)rounded;
    }
    int count = epoll_wait(epoll, events, event_count, milliseconds);
    return count < 0 ? -errno : count;
}

int file_open(int directory, const void *name, int flags) {
    int fd = openat(directory, name, flags, file_mode);
    return fd < 0 ? -errno : fd;
}

long file_write_vector(int fd, const void *vectors, int vector_count, int64_t offset, int flags) {
    ssize_t count = pwritev2(fd, vectors, vector_count, offset, flags);
    return count < 0 ? -errno : count;
}

long file_read(int fd, void *bytes, size_t byte_count, int64_t offset) {
    ssize_t count = pread(fd, bytes, byte_count, offset);
    return count < 0 ? -errno : count;
}

int file_allocate(int fd, int64_t offset, int64_t byte_count) {
    return fallocate(fd, 0, offset, byte_count) < 0 ? -errno : 0;
}

int file_sync_data(int fd) { return fdatasync(fd) < 0 ? -errno : 0; }

int file_sync(int fd) { return fsync(fd) < 0 ? -errno : 0; }

int file_rename(int directory, const void *name, const void *new_name) {
    return renameat(directory, name, directory, new_name) < 0 ? -errno : 0;
}

int file_delete(int directory, const void *name) { return unlinkat(directory, name, 0) < 0 ? -errno : 0; }

#ifdef STAMPEDE_URING
#if !__has_include(<liburing.h>)
#error "liburing.h is missing: install liburing-dev, or build with --disable-default-traits for epoll alone"
#endif

// liburing 2.3 declares io_uring_register_restrictions and io_uring_enable_rings but does not export them.
static int register_ring(struct io_uring *ring, unsigned opcode, const void *argument, unsigned count) {
    long result = syscall(__NR_io_uring_register, ring->ring_fd, opcode, argument, count);
    return result < 0 ? -errno : (int)result;
}

// liburing makes system calls without the C library, so Thread Sanitizer does not see that the memory of a ring is
// unmapped before another ring is mapped at the same address. The kernel orders the two; these macros tell Thread
// Sanitizer.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
static char address_space;
#define MEMORY_MAPPED() __tsan_acquire(&address_space)
#define MEMORY_UNMAPPED() __tsan_release(&address_space)
#endif
#endif
#ifndef MEMORY_MAPPED
#define MEMORY_MAPPED() ((void)0)
#define MEMORY_UNMAPPED() ((void)0)
#endif

int curing_create(struct io_uring *ring, unsigned entries, unsigned completion_entries, unsigned flags) {
    struct io_uring_params parameters = {.flags = flags, .cq_entries = completion_entries};
    memset(ring, 0, sizeof *ring);
    int result = io_uring_queue_init_params(entries, ring, &parameters);
    if (result < 0) return result;
    MEMORY_MAPPED();
    for (unsigned i = 0; i < ring->sq.ring_entries; i++) ring->sq.array[i] = i;
    return 0;
}

void curing_destroy(struct io_uring *ring) {
    MEMORY_UNMAPPED();
    io_uring_queue_exit(ring);
}

bool curing_supports(struct io_uring *ring, int opcode) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (!probe) return false;
    bool is_supported = opcode <= probe->last_op && (probe->ops[opcode].flags & IO_URING_OP_SUPPORTED);
    io_uring_free_probe(probe);
    return is_supported;
}

int curing_register_files(struct io_uring *ring, unsigned count, unsigned least) {
    int result = -EINVAL;
    for (; count >= least; count /= 2) {
        result = io_uring_register_files_sparse(ring, count);
        if (result >= 0) return (int)count;
        if (result != -EMFILE && result != -ENOMEM && result != -EINVAL) break;
    }
    return result;
}

int curing_restrict(struct io_uring *ring, const uint8_t *opcodes, unsigned opcode_count, uint8_t file_flags) {
    struct io_uring_restriction restrictions[64] = {0};
    static const uint8_t registers[] = {
        IORING_UNREGISTER_FILES, IORING_UNREGISTER_PBUF_RING, IORING_UNREGISTER_RING_FDS, IORING_REGISTER_ENABLE_RINGS};
    unsigned count = 0;
    if (opcode_count > 48) return -EINVAL;
    for (unsigned i = 0; i < opcode_count; i++, count++) {
        restrictions[count].opcode = IORING_RESTRICTION_SQE_OP;
        restrictions[count].sqe_op = opcodes[i];
    }
    for (unsigned i = 0; i < sizeof registers; i++, count++) {
        restrictions[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        restrictions[count].register_op = registers[i];
    }
    restrictions[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    restrictions[count++].sqe_flags = file_flags | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
    return register_ring(ring, IORING_REGISTER_RESTRICTIONS, restrictions, count);
}

int curing_enable(struct io_uring *ring) { return register_ring(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0); }

int curing_register_buffers(
    struct io_uring *ring, struct io_uring_buf_ring *buffers, unsigned entries, uint16_t group) {
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)buffers, .ring_entries = entries, .bgid = group};
    return io_uring_register_buf_ring(ring, &registration, 0);
}
#endif
