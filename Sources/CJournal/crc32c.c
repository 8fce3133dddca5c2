#include "cjournal.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
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

__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t crc, const void *octets, size_t count) {
    const uint8_t *next = octets;
    uint64_t state = ~crc;
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
