// What Swift's Glibc module does not offer, because it is declared with _GNU_SOURCE only.
#ifndef AFFINITY_H
#define AFFINITY_H

/// Binds the calling thread, and what it will start, to one CPU. 0, or -errno.
int affinity_bind(int cpu);

#endif
