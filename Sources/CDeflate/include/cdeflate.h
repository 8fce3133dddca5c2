// The C part of compression: functions over zlib that Swift can call. No other file includes <zlib.h>.
//
// Both ends work on raw DEFLATE (RFC 1951), without the headers of zlib and gzip, as WebSocket messages have it
// (RFC 7692). Nothing here keeps a pointer to the caller's bytes after a function has returned.
#ifndef CDEFLATE_H
#define CDEFLATE_H

#include <stdbool.h>
#include <stddef.h>

// ---- Inflating -----------------------------------------------------------------------------------------------------

typedef struct inflate_stream inflate_stream;

enum {
    /// All input was taken, and all that it stands for was written.
    INFLATE_NEEDS_INPUT = 0,
    /// The room is used up. More output may follow without more input.
    INFLATE_NEEDS_ROOM = 1,
    /// The input is not DEFLATE, or refers to bytes before the window.
    INFLATE_MALFORMED = 2,
    INFLATE_NO_MEMORY = 3,
};

/// The most memory that a stream takes.
size_t inflate_stream_byte_count(int window_bits);

/// - Parameter window_bits: 8 to 15. References go back 2^window_bits bytes at most.
/// - Returns: NULL if there is no memory.
inflate_stream *_Nullable inflate_stream_make(int window_bits);
void inflate_stream_free(inflate_stream *_Nonnull stream);
/// Forgets what was inflated: what follows refers to none of it.
void inflate_stream_reset(inflate_stream *_Nonnull stream);

/// Inflates as much as the room holds. A block that is marked as the last one does not end the stream: another one may
/// follow it, and may refer to what is before it (RFC 7692, section 7.2.3.4).
///
/// - Parameters:
///   - input_count: the bytes at `input`. Afterwards: those that were not taken.
///   - output_count: the room at `output`. Afterwards: the bytes that were written.
/// - Returns: one of the values above.
int inflate_stream_run(
    inflate_stream *_Nonnull stream, const void *_Nullable input, size_t *_Nonnull input_count,
    void *_Nonnull output, size_t *_Nonnull output_count);

/// Whether all that was taken is whole blocks, and no bits are left.
bool inflate_stream_is_between_blocks(const inflate_stream *_Nonnull stream);

// ---- Deflating -----------------------------------------------------------------------------------------------------

typedef struct deflate_stream deflate_stream;

/// The most memory that a stream takes.
size_t deflate_stream_byte_count(int window_bits, int memory_level);

/// - Parameters:
///   - window_bits: 9 to 15. zlib makes no raw DEFLATE with a window of 2^8 bytes.
///   - memory_level: 1 to 9.
///   - level: 1 (quick) to 9 (small).
/// - Returns: NULL if there is no memory.
deflate_stream *_Nullable deflate_stream_make(int window_bits, int memory_level, int level);
void deflate_stream_free(deflate_stream *_Nonnull stream);
/// Forgets what was deflated: what follows refers to none of it.
void deflate_stream_reset(deflate_stream *_Nonnull stream);

/// Room for what `deflate_stream_run` writes of so many bytes, in one or several calls of which the last one flushes.
size_t deflate_stream_bound(deflate_stream *_Nonnull stream, size_t byte_count);

/// Deflates all of the input.
///
/// - Parameters:
///   - flushes: all of it is written, up to the end of a byte, with an empty block behind: 00 00 FF FF are the last
///     bytes. Without it the stream may keep bytes for the next call.
///   - output_count: the room at `output`. Afterwards: the bytes that were written.
/// - Returns: false if there was not room enough.
bool deflate_stream_run(
    deflate_stream *_Nonnull stream, const void *_Nonnull input, size_t input_count, bool flushes,
    void *_Nonnull output, size_t *_Nonnull output_count);

#endif
