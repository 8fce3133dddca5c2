#define _GNU_SOURCE
#include "pages.h"

#include <sys/mman.h>

void *pages_remap(void *address, size_t byte_count, size_t new_byte_count) {
    void *moved = mremap(address, byte_count, new_byte_count, MREMAP_MAYMOVE);
    return moved == MAP_FAILED ? NULL : moved;
}
