// What Swift cannot do: fork(2), calls that are declared with _GNU_SOURCE only, and a counter of instructions.
#ifndef PROCESS_H
#define PROCESS_H

#include <stdint.h>
// Swift's Glibc leaves them out.
#include <sys/epoll.h>
#include <sys/vfs.h>

/// Binds the calling thread, and what it will start, to one CPU. 0, or -errno.
int process_bind(int cpu);

/// How fast a CPU is just now: nanoseconds of CPU time (some 8 ms) that a fixed loop of independent adds and loads takes
/// there. It takes up to 1.8 times as long while the hyperthread beside it is busy, which nothing else shows in a virtual
/// machine. The calling thread is bound to `cpu` meanwhile (-1: it stays where it is). Or -errno.
int64_t process_calibrate(int cpu);

/// Has the calling thread run only while nobody else wants its CPU (SCHED_IDLE): whoever wakes up there goes before it at
/// once, where a nice thread would finish its slice. 0, or -errno.
int process_yield_to_all(void);

/// Starts `path` with its output going to `log_fd`, bound to `cpu` (-1: to none). It is killed when the calling thread
/// ends, so that no server outlives a benchmark that was interrupted. The process, or -errno.
int process_start(const char *path, char *const arguments[], int cpu, int log_fd);

/// RLIMIT_DATA of a process that runs, soft and hard. 0, or -errno.
int process_limit_data(int process, unsigned long long byte_count);

/// A counter of the user-mode instructions of the calling thread, perf_event_open(2), or -1 where the machine or its
/// settings offer none (a virtual machine, kernel.perf_event_paranoid).
int instructions_open(void);

/// What the counter has counted since it was opened, or -1.
int64_t instructions_read(int counter);

/// Does nothing. valgrind --tool=callgrind --dump-before=instructions_mark writes out what it has counted, and begins
/// anew, each time this is called.
void instructions_mark(void);

#endif
