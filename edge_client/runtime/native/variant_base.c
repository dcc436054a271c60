/* What every processor of the platform can run: SSE2 on x86-64, NEON on aarch64. */
#define VARIANT base
#define TARGET
#define LANES 4
#include "kernels.h"
