// Checks that octets are UTF-8, piece by piece. Runs of ASCII are passed over sixteen octets at a time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/// How many octets at `octets` are ASCII before the first that is not, or nearly so many: whole sixteens (eights) only.
static inline size_t octets_ascii_prefix(const uint8_t *_Nonnull octets, size_t count) {
    size_t place = 0;
#if defined(__SSE2__)
    for (; place + 16 <= count; place += 16)
        if (_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(octets + place))) != 0) break;
#else
    for (; place + 8 <= count; place += 8) {
        uint64_t word;
        memcpy(&word, octets + place, 8);
        if (word & 0x8080808080808080) break;
    }
#endif
    return place;
}

/// Checks `count` octets that continue the text whose state is `state`. False: they are not UTF-8 (RFC 3629: no overlong
/// forms, no surrogates, nothing beyond U+10FFFF); `state` means nothing then.
///
/// The state is 0 between characters, also at the start. Within a character it is
///
///     bits 0 ... 7    octets of the character that are still to come
///     bits 8 ... 11   the upper half of the least value that the next one may have; the lower is 0
///     bits 12 ... 15  the upper half of the greatest; the lower is F
static inline bool octets_are_utf8(const void *_Nonnull octets, size_t count, uint16_t *_Nonnull state) {
    const uint8_t *place = (const uint8_t *)octets;
    const uint8_t *end = place + count;
    uint32_t left = *state & 0xFF;
    uint32_t least = (*state >> 4) & 0xF0;
    uint32_t greatest = (*state >> 8) | 0x0F;
    while (place < end) {
        if (left == 0) {
            place += octets_ascii_prefix(place, (size_t)(end - place));
            if (place == end) break;
        }
        uint32_t octet = *place++;
        if (left > 0) {
            if (octet < least || octet > greatest) return false;
            left--;
            least = 0x80;
            greatest = 0xBF;
        } else if (octet >= 0x80) {
            // Unicode, table 3-7: well-formed UTF-8 byte sequences.
            if (octet < 0xC2 || octet > 0xF4) return false;
            left = octet < 0xE0 ? 1 : octet < 0xF0 ? 2 : 3;
            least = octet == 0xE0 ? 0xA0 : octet == 0xF0 ? 0x90 : 0x80;
            greatest = octet == 0xED ? 0x9F : octet == 0xF4 ? 0x8F : 0xBF;
        }
    }
    *state = left == 0 ? 0 : (uint16_t)(left | least << 4 | (greatest & 0xF0) << 8);
    return true;
}
