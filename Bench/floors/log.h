// The log of floor_log: a file that groups are written to, one at a time.
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

/// Bytes that grow. The memory begins at a block, as O_DIRECT wants it.
struct bytes { char *base; size_t count, capacity; };

/// Makes room for `count` bytes more, and counts them. Returns where they begin.
char *extend(struct bytes *bytes, size_t count);

/// Ends the program, with the text of errno.
_Noreturn void die(const char *what);

/// Makes the file in the folder, filled with zeros. Returns a descriptor that is readable when a group is written.
///
/// - Parameter with_ring: the kernel's io_uring writes. Otherwise, or if that is not compiled in, a thread does.
int log_open(const char *folder, bool with_ring);

/// Starts to write a group to stable storage, filled up with zeros to whole blocks. It is the log's until then.
void log_write(struct bytes *group);

/// Whether the group is on stable storage. It ends the program if the write failed.
bool log_has_written(void);

#endif
