// What Swift cannot do: fork(2), and calls that are declared with _GNU_SOURCE only.
#ifndef PROCESS_H
#define PROCESS_H

/// Binds the calling thread, and what it will start, to one CPU. 0, or -errno.
int process_bind(int cpu);

/// Starts `path` with its output going to `log_fd`, bound to `cpu` (-1: to none). It is killed when the calling thread
/// ends, so that no server outlives a benchmark that was interrupted. The process, or -errno.
int process_start(const char *path, char *const arguments[], int cpu, int log_fd);

/// RLIMIT_DATA of a process that runs, soft and hard. 0, or -errno.
int process_limit_data(int process, unsigned long long byte_count);

#endif
