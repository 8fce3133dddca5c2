// The log is a file of LOG_BYTES that was filled with zeros before the first group. So a group is one write into blocks
// that exist (O_DIRECT, RWF_DSYNC), and no metadata has to be written. Behind its end the log goes on at its beginning.
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef STAMPEDE_URING
#include <liburing.h>
#endif

enum { LOG_BYTES = 256 << 20, ZERO_BYTES = 4 << 20, BLOCK_BYTES_MAX = 4096, BLOCK_BYTES_MIN = 64 };

static struct bytes *group; // Under way.
static size_t block_bytes = BLOCK_BYTES_MAX;
static uint64_t log_offset; // Where the group under way ends.
static int log_fd, done_fd = -1, begin_fd = -1;
static int written_count; // Of the group under way, or -errno.

void die(const char *what) {
    fprintf(stderr, "floor_log: %s: %s\n", what, strerror(errno));
    exit(1);
}

char *extend(struct bytes *bytes, size_t count) {
    if (bytes->count + count > bytes->capacity) {
        size_t capacity = (bytes->count + count) * 2 + BLOCK_BYTES_MAX;
        void *base;
        if (posix_memalign(&base, BLOCK_BYTES_MAX, capacity)) die("memory");
        if (bytes->count) memcpy(base, bytes->base, bytes->count);
        free(bytes->base);
        bytes->base = base;
        bytes->capacity = capacity;
    }
    bytes->count += count;
    return bytes->base + bytes->count - count;
}

static int write_group(void) {
    const struct iovec all = {group->base, group->count};
    ssize_t count = pwritev2(log_fd, &all, 1, (off_t)(log_offset - group->count), RWF_DSYNC);
    return count < 0 ? -errno : (int)count;
}

static void *write_groups(void *unused) {
    (void)unused;
    for (uint64_t count = 1;; count = 1) {
        if (read(begin_fd, &count, sizeof count) < 0) die("eventfd");
        written_count = write_group();
        count = 1;
        if (write(done_fd, &count, sizeof count) < 0) die("eventfd");
    }
}

static void start_thread(void) {
    pthread_t thread;
    begin_fd = eventfd(0, EFD_CLOEXEC);
    done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (begin_fd < 0 || done_fd < 0 || pthread_create(&thread, NULL, write_groups, NULL)) die("thread");
}

#ifdef STAMPEDE_URING
static struct io_uring ring;
static bool uses_ring;

static void start_ring(void) {
    int error = io_uring_queue_init(8, &ring, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER);
    if (error == -EINVAL) error = io_uring_queue_init(8, &ring, 0);
    if (error) {
        errno = -error;
        die("io_uring");
    }
    done_fd = ring.ring_fd;
    uses_ring = true;
}
#endif

int log_open(const char *folder, bool with_ring) {
    static char zeros[ZERO_BYTES] __attribute__((aligned(BLOCK_BYTES_MAX)));
    char path[4096];
    snprintf(path, sizeof path, "%s/floor.log", folder);
    log_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (log_fd < 0) die(path);
    struct statx status;
    if (!statx(log_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) && status.stx_mask & STATX_DIOALIGN
        && status.stx_dio_offset_align >= BLOCK_BYTES_MIN && status.stx_dio_offset_align < BLOCK_BYTES_MAX)
        block_bytes = status.stx_dio_offset_align;
    for (off_t offset = 0; offset < LOG_BYTES; offset += ZERO_BYTES)
        if (pwrite(log_fd, zeros, ZERO_BYTES, offset) != ZERO_BYTES) die(path);
    if (fsync(log_fd)) die(path);
#ifdef STAMPEDE_URING
    if (with_ring) start_ring();
#else
    (void)with_ring;
#endif
    if (done_fd < 0) start_thread();
    return done_fd;
}

void log_write(struct bytes *next) {
    const uint64_t one = 1;
    size_t padding = (block_bytes - next->count % block_bytes) % block_bytes;
    memset(extend(next, padding), 0, padding);
    group = next;
    if (group->count > LOG_BYTES) {
        errno = EFBIG;
        die("a group");
    }
    if (log_offset + group->count > LOG_BYTES) log_offset = 0;
    log_offset += group->count;
#ifdef STAMPEDE_URING
    if (uses_ring) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        io_uring_prep_write(sqe, log_fd, group->base, (unsigned)group->count, log_offset - group->count);
        sqe->rw_flags = RWF_DSYNC;
        if (io_uring_submit(&ring) < 0) die("io_uring_submit");
        return;
    }
#endif
    if (write(begin_fd, &one, sizeof one) < 0) die("eventfd");
}

static bool has_ended(void) {
    uint64_t count;
#ifdef STAMPEDE_URING
    struct io_uring_cqe *cqe;
    if (uses_ring) {
        if (io_uring_peek_cqe(&ring, &cqe)) return false;
        written_count = cqe->res;
        io_uring_cqe_seen(&ring, cqe);
        return true;
    }
#endif
    return read(done_fd, &count, sizeof count) == sizeof count;
}

bool log_has_written(void) {
    if (!group || !has_ended()) return false;
    if (written_count < 0 || (size_t)written_count != group->count) {
        errno = written_count < 0 ? -written_count : EIO;
        die("write");
    }
    group = NULL;
    return true;
}
