/// Starting and reaping the processes under test. Only the test targets link this.
#ifndef STAMPEDE_TEST_CHILD_H
#define STAMPEDE_TEST_CHILD_H

#include <stddef.h>
#include <sys/types.h>

/// What to start. The three descriptors become the child's 0, 1 and 2; every other descriptor of the tests must be
/// close-on-exec.
struct child_request {
    /// Path of the program: searched in PATH where it holds no slash.
    const char *program;
    /// Null-terminated, the program's name first.
    char *const *arguments;
    /// Null-terminated `NAME=VALUE`; null: the environment of the tests.
    char *const *environment;
    int standard_input;
    int standard_output;
    int standard_error;
    /// Not 0: io_uring_setup(2), io_uring_enter(2) and io_uring_register(2) fail with this errno in the child, as under a
    /// container's seccomp profile.
    int io_uring_errno;
    /// Not 0: the child's RLIMIT_NOFILE, soft and hard.
    unsigned long descriptor_count_max;
    /// Not 0: the child's RLIMIT_MEMLOCK, soft and hard, in bytes. It goes without CAP_IPC_LOCK, which would lift the
    /// limit.
    unsigned long locked_byte_count_max;
};

/// Starts a child that the kernel kills when the test process ends, however it ends.
///
/// Returns the process id, or -errno of fork(2). A program that cannot be executed exits with 127 and says so on its standard
/// error.
pid_t child_start(const struct child_request *request);

/// Waits up to `milliseconds` for the child's end and reaps it.
///
/// Returns 1 and fills `status` as waitpid(2) does, 0 when the time is over, or -errno.
int child_wait(pid_t child, int milliseconds, int *status);

/// pipe2(2) with O_CLOEXEC, which Swift's Glibc module lacks. 0 or -errno.
int child_pipe(int ends[2]);

/// A file without a name that holds `bytes`, positioned at its beginning, close-on-exec. Its descriptor or -errno.
int child_input(const void *bytes, size_t count);

#endif
