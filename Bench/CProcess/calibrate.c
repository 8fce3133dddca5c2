#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

// As much as a core's first cache holds.
enum { WORDS = 32 * 1024 / sizeof(uint64_t), ROUNDS = 40000, WIDTH = 6 };

static uint64_t words[WORDS] __attribute__((aligned(64)));

static int64_t own_nanoseconds(void) {
    struct timespec time;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) < 0) return -errno;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

// Six sums that do not wait for each other: as many adds and loads at a time as the core can do, unless another thread
// does its own with the same units. The compiler has to take each sum for used after each step, so that it can neither
// leave a step out nor put several into one instruction.
static void work(void) {
    uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (const uint64_t *word = words; word + WIDTH <= words + WORDS; word += WIDTH) {
            a += word[0];
            b += word[1];
            c += word[2];
            d += word[3];
            e += word[4];
            f += word[5];
            __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
        }
    }
}

int64_t process_calibrate(int cpu) {
    cpu_set_t before;
    if (cpu >= 0) {
        if (sched_getaffinity(0, sizeof before, &before) < 0) return -errno;
        int error = process_bind(cpu);
        if (error < 0) return error;
    }
    int64_t start = own_nanoseconds();
    work();
    int64_t time = own_nanoseconds() - start;
    if (cpu >= 0 && sched_setaffinity(0, sizeof before, &before) < 0) return -errno;
    return time;
}
