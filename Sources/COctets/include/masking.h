// Undoes the masking of WebSocket payloads (RFC 6455, section 5.3) sixteen octets at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/// Stores at `to` the `count` octets at `from`, each combined by exclusive or with an octet of `key`: octet i with the
/// bits 8 * (i mod 4) and up. `to` may be `from`, or lie before it and overlap it, so that payloads move together while
/// they are unmasked.
static inline void octets_unmask(void *_Nonnull to, const void *_Nonnull from, size_t count, uint32_t key) {
    uint8_t *target = (uint8_t *)to;
    const uint8_t *source = (const uint8_t *)from;
    size_t place = 0;
#if defined(__SSE2__)
    __m128i keys = _mm_set1_epi32((int)key);
    for (; place + 16 <= count; place += 16) {
        // Loaded before the store, which may reach into what was loaded and not beyond.
        __m128i lanes = _mm_loadu_si128((const __m128i *)(source + place));
        _mm_storeu_si128((__m128i *)(target + place), _mm_xor_si128(lanes, keys));
    }
#else
    uint8_t pattern[8];
    for (int i = 0; i < 8; i++) pattern[i] = (uint8_t)(key >> (8 * (i & 3)));
    uint64_t keys;
    memcpy(&keys, pattern, 8);
    for (; place + 8 <= count; place += 8) {
        uint64_t word;
        memcpy(&word, source + place, 8);
        word ^= keys;
        memcpy(target + place, &word, 8);
    }
#endif
    for (; place < count; place++) target[place] = source[place] ^ (uint8_t)(key >> (8 * (place & 3)));
}
