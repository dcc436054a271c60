/* What the loader asks before anything else. */
#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { ABI_VERSION = 3 }; /* raise with every change to operations.h or to a kernel's name */

int32_t fedsparse_abi_version(void) { return ABI_VERSION; }

#if defined(__x86_64__)
/* Not __builtin_cpu_supports: the runtime library that zig links answers no to everything.
 * Source: Intel SDM volume 1, 14.3 (AVX, FMA), 14.7 (AVX2) and 15.2 (AVX-512). */
static int has(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

static uint32_t saved_state(void) { /* which registers the operating system saves */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
#endif

/* The suffix of the kernels that suit this processor best. */
const char *fedsparse_best_variant(void) {
#if defined(__x86_64__)
    const uint32_t osxsave = 1u << 27, avx = 1u << 28, fma = 1u << 12;            /* leaf 1 ecx */
    const uint32_t avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* 7 ebx */
    const uint32_t ymm = 0x06, zmm = 0xe6;                                        /* XCR0 */
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, osxsave | avx | fma)) return "base";
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, avx2)) return "base";
    if (has(saved_state(), zmm) && has(b, avx512)) return "avx512";
    if (has(saved_state(), ymm)) return "avx2";
#endif
    return "base";
}
