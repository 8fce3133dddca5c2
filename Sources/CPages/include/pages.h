// A call that Swift's Glibc does not show, for it is variadic and declared with _GNU_SOURCE only.
#ifndef PAGES_H
#define PAGES_H

#include <stddef.h>

/// mremap(2), which may move the mapping. The address, or NULL with errno set: the mapping is as it was.
void *pages_remap(void *address, size_t byte_count, size_t new_byte_count);

#endif
