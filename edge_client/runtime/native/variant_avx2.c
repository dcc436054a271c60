#if defined(__x86_64__)
#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "kernels.h"
#else
typedef int no_avx2_here;
#endif
