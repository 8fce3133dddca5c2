#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

int process_bind(int cpu) {
    cpu_set_t cpus;
    if (cpu < 0 || cpu >= CPU_SETSIZE) return -EINVAL;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    return sched_setaffinity(0, sizeof cpus, &cpus) < 0 ? -errno : 0;
}

int process_yield_to_all(void) {
    const struct sched_param none = {0};
    return sched_setscheduler(0, SCHED_IDLE, &none) < 0 ? -errno : 0;
}

static void unbind(void) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) CPU_SET(cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
}

int process_start(const char *path, char *const arguments[], int cpu, int log_fd) {
    pid_t process = fork();
    if (process != 0) return process < 0 ? -errno : process;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // What the parent ignores, or the calling thread blocks, would be ignored or blocked for good.
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (cpu >= 0) process_bind(cpu); else unbind();
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execv(path, arguments);
    _exit(127);
}

int process_limit_data(int process, unsigned long long byte_count) {
    const struct rlimit limit = {byte_count, byte_count};
    return prlimit(process, RLIMIT_DATA, &limit, NULL) < 0 ? -errno : 0;
}
