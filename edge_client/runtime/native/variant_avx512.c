#if defined(__x86_64__)
#define VARIANT avx512
#define TARGET __attribute__((target("avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")))
#define LANES 16
#include "kernels.h"
#else
typedef int no_avx512_here;
#endif
