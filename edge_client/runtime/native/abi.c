/* What the loader asks before anything else. */
#include <stdint.h>

enum { ABI_VERSION = 1 }; /* raise with every change to operations.h or to a kernel's name */

int32_t fedsparse_abi_version(void) { return ABI_VERSION; }

/* The suffix of the kernels that suit this processor best. */
const char *fedsparse_best_variant(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "base";
}
