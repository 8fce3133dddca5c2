// CRC32C (Castagnoli) of octets, by the processor's instruction where it has one.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Continues `crc`, which is 0 at the start, over `count` octets.
///
/// The polynomial is 0x1EDC6F41, reflected; initial value and final exclusive or are 0xFFFFFFFF (RFC 3720, appendix
/// B.4). So the checksum of two parts is that of the second, continued from that of the first.
uint32_t cjournal_crc32c(uint32_t crc, const void *_Nullable octets, size_t count);

/// The same without the instruction: what a processor without it computes, and what the tests compare with.
uint32_t cjournal_crc32c_software(uint32_t crc, const void *_Nullable octets, size_t count);
