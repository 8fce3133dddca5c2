// Searches octets sixteen at a time. C, because Swift's vectors have no way to gather the top bits of their lanes.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/// Marks, in bit i, the i-th of the sixteen octets at `octets` if it is a colon, a backslash or below 0x0E: NUL, LF, CR,
/// and control characters that mean nothing to STOMP.
static inline uint32_t octets_significant(const void *_Nonnull octets) {
#if defined(__SSE2__)
    __m128i lanes = _mm_loadu_si128((const __m128i *)octets);
    __m128i colons = _mm_cmpeq_epi8(lanes, _mm_set1_epi8(':'));
    __m128i backslashes = _mm_cmpeq_epi8(lanes, _mm_set1_epi8('\\'));
    __m128i controls = _mm_cmpeq_epi8(_mm_min_epu8(lanes, _mm_set1_epi8(0x0D)), lanes);
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(colons, backslashes), controls));
#else
    // The lower seven bits of an octet never carry into the next one when a constant below 0x80 is added, so the top
    // bit tells exactly: (x ^ c) + 0x7F reaches 0x80 unless x is c, and x + 0x72 reaches it from 0x0E on.
    uint32_t marks = 0;
    for (int half = 0; half < 2; half++) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)octets + 8 * half, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        const uint64_t low_bits = 0x7F7F7F7F7F7F7F7F;
        uint64_t low = word & low_bits;
        uint64_t colons = (low ^ 0x3A3A3A3A3A3A3A3A) + low_bits;
        uint64_t backslashes = (low ^ 0x5C5C5C5C5C5C5C5C) + low_bits;
        uint64_t controls = low + 0x7272727272727272;
        uint64_t tops = ~((colons & backslashes & controls) | word) & 0x8080808080808080;
        // The multiplication gathers the eight top bits, each a bit apart from the next, in the upper octet.
        marks |= (uint32_t)(((tops >> 7) * 0x0102040810204080) >> 56) << (8 * half);
    }
    return marks;
#endif
}
