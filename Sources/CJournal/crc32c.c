#include "cjournal.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

// The polynomial is 0x82F63B78: 0x1EDC6F41 with its bits in reverse, because the lowest bit of an octet is the highest
// power. Half an octet at a time: sixteen values, so that nothing has to be computed at the start.
static const uint32_t half_octets[16] = {
    0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
    0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
};

uint32_t cjournal_crc32c_software(uint32_t crc, const void *octets, size_t count) {
    const uint8_t *next = octets;
    uint32_t state = ~crc;
    for (size_t index = 0; index < count; index++) {
        state ^= next[index];
        state = state >> 4 ^ half_octets[state & 15];
        state = state >> 4 ^ half_octets[state & 15];
    }
    return ~state;
}

#if defined(__x86_64__)

// The instruction answers after three cycles, and another one may begin in each. So three pieces that follow each other are
// taken at the same time, and their remainders put together.
//
// A remainder of what is followed by n octets is multiplied by x^8n. By x^(8n - 33), without carries, it becomes 64 bits,
// of which the instruction makes the remainder: it multiplies by x^32 itself, and the product of reflected values is short
// of one x. (Gopal and others, Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction, Intel 2011.)
enum { SHORT_PIECE = 64, LONG_PIECE = 256 };
static const uint64_t beyond_64 = 0x9E4ADDF8, beyond_128 = 0x0D3B6092, beyond_256 = 0xB9E02B86, beyond_512 = 0xDD7E3B0C;

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t moved(uint64_t state, uint64_t power) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)state), _mm_cvtsi64_si128((int64_t)power), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t three_pieces(
    uint64_t state, const uint8_t *next, size_t piece, uint64_t beyond_one, uint64_t beyond_two) {
    uint64_t second = 0, third = 0;
    for (size_t place = 0; place < piece; place += 8) {
        uint64_t word;
        memcpy(&word, next + place, 8);
        state = _mm_crc32_u64(state, word);
        memcpy(&word, next + piece + place, 8);
        second = _mm_crc32_u64(second, word);
        memcpy(&word, next + 2 * piece + place, 8);
        third = _mm_crc32_u64(third, word);
    }
    return moved(state, beyond_two) ^ moved(second, beyond_one) ^ third;
}

__attribute__((target("sse4.2,pclmul"))) static uint64_t whole_pieces(
    uint64_t state, const uint8_t **octets, size_t *count) {
    const uint8_t *next = *octets;
    size_t left = *count;
    for (; left >= 3 * LONG_PIECE; left -= 3 * LONG_PIECE, next += 3 * LONG_PIECE)
        state = three_pieces(state, next, LONG_PIECE, beyond_256, beyond_512);
    for (; left >= 3 * SHORT_PIECE; left -= 3 * SHORT_PIECE, next += 3 * SHORT_PIECE)
        state = three_pieces(state, next, SHORT_PIECE, beyond_64, beyond_128);
    *octets = next;
    *count = left;
    return state;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t crc, const void *octets, size_t count) {
    const uint8_t *next = octets;
    uint64_t state = (uint32_t)~crc;
    if (count >= 3 * SHORT_PIECE && __builtin_cpu_supports("pclmul")) state = whole_pieces(state, &next, &count);
    for (; count >= 8; count -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        state = _mm_crc32_u64(state, word);
    }
    for (; count > 0; count--, next++) state = _mm_crc32_u8((uint32_t)state, *next);
    return ~(uint32_t)state;
}

uint32_t cjournal_crc32c(uint32_t crc, const void *octets, size_t count) {
    // The compiler's runtime has asked the processor at the start; this is a load and a test.
    if (__builtin_cpu_supports("sse4.2")) return crc32c_hardware(crc, octets, count);
    return cjournal_crc32c_software(crc, octets, count);
}

#elif defined(__aarch64__) && defined(__linux__)

__attribute__((target("crc"))) static uint32_t crc32c_hardware(uint32_t crc, const void *octets, size_t count) {
    const uint8_t *next = octets;
    uint32_t state = ~crc;
    for (; count >= 8; count -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        state = __crc32cd(state, word);
    }
    for (; count > 0; count--, next++) state = __crc32cb(state, *next);
    return ~state;
}

uint32_t cjournal_crc32c(uint32_t crc, const void *octets, size_t count) {
    if (getauxval(AT_HWCAP) & HWCAP_CRC32) return crc32c_hardware(crc, octets, count);
    return cjournal_crc32c_software(crc, octets, count);
}

#else

uint32_t cjournal_crc32c(uint32_t crc, const void *octets, size_t count) {
    return cjournal_crc32c_software(crc, octets, count);
}

#endif
