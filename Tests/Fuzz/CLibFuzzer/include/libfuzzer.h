// libFuzzer as a library (LLVM, "Using libFuzzer as a library"): Swift's entry point stays `main`.
#ifndef STAMPEDE_LIBFUZZER_H
#define STAMPEDE_LIBFUZZER_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*check)(const uint8_t *octets, size_t count));

#endif
