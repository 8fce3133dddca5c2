#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H
/* Nothing to call: the library is preloaded (LD_PRELOAD) into a process and counts its allocations. */
#endif
