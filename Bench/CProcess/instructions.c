#define _GNU_SOURCE
#include "process.h"

#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int instructions_open(void) {
    struct perf_event_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

int64_t instructions_read(int counter) {
    uint64_t count;
    return read(counter, &count, sizeof count) == sizeof count ? (int64_t)count : -1;
}

// Not empty for the compiler, or a call of it might be left out.
__attribute__((noinline)) void instructions_mark(void) { __asm__ volatile("" ::: "memory"); }
