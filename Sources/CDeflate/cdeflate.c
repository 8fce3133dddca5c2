#include "cdeflate.h"

#if !__has_include(<zlib.h>)
#error "zlib.h is missing: install zlib1g-dev; Config/setup does"
#endif

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

struct inflate_stream {
    z_stream z;
    /// See `inflate_stream_is_between_blocks`. zlib forgets it in a call that does nothing.
    bool is_between_blocks;
};

struct deflate_stream {
    z_stream z;
};

// ---- Inflating -----------------------------------------------------------------------------------------------------

/// What zconf.h says of the memory of inflate: some 7 KiB and the window; allocations are rounded up.
size_t inflate_stream_byte_count(int window_bits) { return 8192 + ((size_t)1 << window_bits); }

inflate_stream *inflate_stream_make(int window_bits) {
    inflate_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return NULL;
    if (inflateInit2(&stream->z, -window_bits) == Z_OK) return stream;
    free(stream);
    return NULL;
}

void inflate_stream_free(inflate_stream *stream) {
    inflateEnd(&stream->z);
    free(stream);
}

void inflate_stream_reset(inflate_stream *stream) {
    inflateReset(&stream->z);
    stream->is_between_blocks = false;
}

int inflate_stream_run(
    inflate_stream *stream, const void *input, size_t *input_count, void *output, size_t *output_count) {
    z_stream *z = &stream->z;
    // Chunks and rooms are far below 4 GiB; what is above waits for the next call.
    uInt taken = *input_count > UINT_MAX ? UINT_MAX : (uInt)*input_count;
    uInt room = *output_count > UINT_MAX ? UINT_MAX : (uInt)*output_count;
    z->next_in = (z_const Bytef *)input;
    z->avail_in = taken;
    z->next_out = output;
    z->avail_out = room;
    int answer = INFLATE_NEEDS_ROOM;
    while (z->avail_out > 0) {
        uInt in = z->avail_in, out = z->avail_out;
        int result = inflate(z, Z_SYNC_FLUSH);
        if (in != z->avail_in || out != z->avail_out) stream->is_between_blocks = z->data_type == 128;
        if (result == Z_STREAM_END) {
            // The window stays.
            inflateResetKeep(z);
            if (z->avail_in > 0) continue;
            answer = z->avail_out > 0 ? INFLATE_NEEDS_INPUT : INFLATE_NEEDS_ROOM;
            break;
        }
        if (result == Z_OK && z->avail_in > 0) continue;
        if (result == Z_OK || result == Z_BUF_ERROR) {
            // Without room left zlib may still hold output.
            answer = z->avail_out > 0 ? INFLATE_NEEDS_INPUT : INFLATE_NEEDS_ROOM;
            break;
        }
        answer = result == Z_MEM_ERROR ? INFLATE_NO_MEMORY : INFLATE_MALFORMED;
        break;
    }
    *input_count -= taken - z->avail_in;
    *output_count = room - z->avail_out;
    z->next_in = NULL;
    z->next_out = NULL;
    return answer;
}

/// zlib.h: `data_type` is the count of unused bits of the last byte, plus 64 within the last block of a stream, plus 128
/// right after a block.
bool inflate_stream_is_between_blocks(const inflate_stream *stream) { return stream->is_between_blocks; }

// ---- Deflating -----------------------------------------------------------------------------------------------------

/// What zconf.h says of the memory of deflate; its state and rounding are within the last term.
size_t deflate_stream_byte_count(int window_bits, int memory_level) {
    return ((size_t)1 << (window_bits + 2)) + ((size_t)1 << (memory_level + 9)) + 8192;
}

deflate_stream *deflate_stream_make(int window_bits, int memory_level, int level) {
    deflate_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return NULL;
    if (deflateInit2(&stream->z, level, Z_DEFLATED, -window_bits, memory_level, Z_DEFAULT_STRATEGY) == Z_OK) {
        return stream;
    }
    free(stream);
    return NULL;
}

void deflate_stream_free(deflate_stream *stream) {
    deflateEnd(&stream->z);
    free(stream);
}

void deflate_stream_reset(deflate_stream *stream) { deflateReset(&stream->z); }

/// deflateBound is for one call that ends the stream. A flush writes an empty block besides; each block that a full
/// buffer of symbols ends costs bytes that the bound counts already.
size_t deflate_stream_bound(deflate_stream *stream, size_t byte_count) {
    return deflateBound(&stream->z, (uLong)byte_count) + 64;
}

bool deflate_stream_run(
    deflate_stream *stream, const void *input, size_t input_count, bool flushes, void *output, size_t *output_count) {
    z_stream *z = &stream->z;
    uInt room = *output_count > UINT_MAX ? UINT_MAX : (uInt)*output_count;
    z->next_in = (z_const Bytef *)input;
    z->avail_in = (uInt)input_count;
    z->next_out = output;
    z->avail_out = room;
    deflate(z, flushes ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    *output_count = room - z->avail_out;
    // A flush that has used up the room may not be complete.
    bool is_done = z->avail_in == 0 && (!flushes || z->avail_out > 0);
    z->next_in = NULL;
    z->next_out = NULL;
    return is_done;
}
