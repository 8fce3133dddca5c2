#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// PR_SET_PDEATHSIG fires when the *thread* that forked ends, and the threads of Swift's pool come and go. So one thread,
// which lives as long as the process, forks all children.
static pthread_once_t forker_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t forker_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t forker_changed = PTHREAD_COND_INITIALIZER;
static const struct child_request *forker_request; // Taken by the forker, which sets it to null.
static pid_t forker_answer;                         // Valid while forker_is_done.
static int forker_is_done;

/// Makes the three system calls of io_uring fail. The architecture is not checked: the child is a native program of ours.
static int forbid_io_uring(int error) {
    const unsigned int refusal = SECCOMP_RET_ERRNO | ((unsigned int)error & SECCOMP_RET_DATA);
    struct sock_filter instructions[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 425, 0, 2), // io_uring_setup
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 427, 1, 0), // io_uring_register
        BPF_STMT(BPF_RET | BPF_K, refusal),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {
        .len = sizeof instructions / sizeof instructions[0],
        .filter = instructions,
    };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

/// The child's side of fork(2): only async-signal-safe calls until exec.
_Noreturn static void become(const struct child_request *request, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127); // The parent died before the line above.

    // The test runner may ignore or block signals; a broker started by hand does not inherit that.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);

    // The given descriptors are all above 2 (close-on-exec pipes of the tests), so no dup2 overwrites a later source.
    dup2(request->standard_input, 0);
    dup2(request->standard_output, 1);
    dup2(request->standard_error, 2);
    if (request->descriptor_count_max != 0) {
        const struct rlimit limit = {request->descriptor_count_max, request->descriptor_count_max};
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (request->locked_byte_count_max != 0) {
        const struct rlimit limit = {request->locked_byte_count_max, request->locked_byte_count_max};
        setrlimit(RLIMIT_MEMLOCK, &limit);
        // Only who has the capability may drop it from what a program may get.
        prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
    }
    if (request->io_uring_errno == 0 || forbid_io_uring(request->io_uring_errno) == 0) {
        if (request->environment != NULL) {
            execvpe(request->program, request->arguments, request->environment);
        } else {
            execvp(request->program, request->arguments);
        }
    }
    const char *reason = strerrordesc_np(errno);
    (void)!write(2, request->program, strlen(request->program));
    (void)!write(2, ": ", 2);
    (void)!write(2, reason, strlen(reason));
    (void)!write(2, "\n", 1);
    _exit(127);
}

static void *forker_main(void *unused) {
    (void)unused;
    pthread_mutex_lock(&forker_mutex);
    for (;;) {
        while (forker_request == NULL) pthread_cond_wait(&forker_changed, &forker_mutex);
        const pid_t parent = getpid();
        const pid_t child = fork();
        if (child == 0) become(forker_request, parent);
        forker_answer = child < 0 ? -errno : child;
        forker_request = NULL;
        forker_is_done = 1;
        pthread_cond_broadcast(&forker_changed);
    }
}

static void forker_begin(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, forker_main, NULL) != 0) abort();
    pthread_detach(thread);
}

pid_t child_start(const struct child_request *request) {
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    pthread_once(&forker_once, forker_begin);
    pthread_mutex_lock(&one_at_a_time);
    pthread_mutex_lock(&forker_mutex);
    forker_request = request;
    forker_is_done = 0;
    pthread_cond_broadcast(&forker_changed);
    while (!forker_is_done) pthread_cond_wait(&forker_changed, &forker_mutex);
    const pid_t answer = forker_answer;
    pthread_mutex_unlock(&forker_mutex);
    pthread_mutex_unlock(&one_at_a_time);
    return answer;
}

int child_wait(pid_t child, int milliseconds, int *status) {
    const int descriptor = (int)syscall(SYS_pidfd_open, child, 0);
    if (descriptor < 0) return -errno;
    struct pollfd ended = {.fd = descriptor, .events = POLLIN};
    int ready;
    do {
        ready = poll(&ended, 1, milliseconds);
    } while (ready < 0 && errno == EINTR);
    close(descriptor);
    if (ready <= 0) return ready < 0 ? -errno : 0;
    return waitpid(child, status, 0) == child ? 1 : -errno;
}

int child_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) == 0 ? 0 : -errno; }

int child_input(const void *bytes, size_t count) {
    const int file = memfd_create("input", MFD_CLOEXEC);
    if (file < 0) return -errno;
    if (write(file, bytes, count) == (ssize_t)count && lseek(file, 0, SEEK_SET) == 0) return file;
    const int reason = errno;
    close(file);
    return -reason;
}
