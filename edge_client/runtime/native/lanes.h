/* Vectors of the width that this variant was compiled for, and sums over them.
 *
 * A file variant_*.c defines VARIANT (suffix of every kernel), TARGET (attribute of every function)
 * and LANES (floats in a vector), then includes the kernels: GCC and Clang vector extensions, no
 * intrinsics, so that the same source serves SSE2, AVX2, AVX-512, NEON and whatever comes.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "operations.h"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define INLINE TARGET static inline __attribute__((always_inline))

/* Heads the definition of a kernel: `a` points at its arguments, [from, to) are its units. */
#define KERNEL(name, arguments)                                                               \
    INLINE void JOIN(name, VARIANT)(const arguments *a, int64_t batch, int64_t from, int64_t to); \
    TARGET void JOIN(fedsparse_##name, VARIANT)(const void *a, int64_t batch, int64_t from,       \
                                                int64_t to) {                                     \
        JOIN(name, VARIANT)(a, batch, from, to);                                                  \
    }                                                                                             \
    INLINE void JOIN(name, VARIANT)(const arguments *a, int64_t batch, int64_t from, int64_t to)

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define LOAD(pointer) (*(const lanes *)(pointer))
#define STORE(pointer, value) (*(lanes *)(pointer) = (value))

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLE 1
#endif
#endif

/* Sums of eight vectors, added to result[0..7]. */
#if defined(HAS_SHUFFLE) && LANES == 16
#define HALVES(a, b)                                                                            \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +    \
     __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define QUARTERS(a, b)                                                                          \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +  \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define PAIRS(a)                                                                                \
    (__builtin_shufflevector(a, a, 0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13) +        \
     __builtin_shufflevector(a, a, 2, 3, 6, 7, 10, 11, 14, 15, 2, 3, 6, 7, 10, 11, 14, 15))
#define ONES(a)                                                                                 \
    (__builtin_shufflevector(a, a, 0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14) +      \
     __builtin_shufflevector(a, a, 1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15))
INLINE void add_sums(const lanes *sums, float *result) {
    lanes low = QUARTERS(HALVES(sums[0], sums[1]), HALVES(sums[2], sums[3]));
    lanes high = QUARTERS(HALVES(sums[4], sums[5]), HALVES(sums[6], sums[7]));
    lanes pairs = __builtin_shufflevector(PAIRS(low), PAIRS(high), 0, 1, 2, 3, 4, 5, 6, 7, 16, 17,
                                          18, 19, 20, 21, 22, 23);
    lanes ones = ONES(pairs);
    for (int j = 0; j < 8; j++) result[j] += ones[j];
}
#elif defined(HAS_SHUFFLE) && LANES == 8
#define HALVES(a, b)                                                \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +      \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define PAIRS(a, b)                                                 \
    (__builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +      \
     __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15))
#define ONES(a, b)                                                  \
    (__builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +     \
     __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15))
INLINE void add_sums(const lanes *sums, float *result) {
    lanes low = PAIRS(HALVES(sums[0], sums[4]), HALVES(sums[1], sums[5]));
    lanes high = PAIRS(HALVES(sums[2], sums[6]), HALVES(sums[3], sums[7]));
    STORE(result, LOAD(result) + ONES(low, high));
}
#elif defined(HAS_SHUFFLE) && LANES == 4
#define PAIRS(a, b) \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7))
#define ONES(a, b) \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7))
INLINE void add_sums(const lanes *sums, float *result) {
    for (int j = 0; j < 8; j += 4)
        STORE(result + j, LOAD(result + j) + ONES(PAIRS(sums[j], sums[j + 1]),
                                                  PAIRS(sums[j + 2], sums[j + 3])));
}
#else
INLINE void add_sums(const lanes *sums, float *result) {
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < LANES; i++) result[j] += sums[j][i];
}
#endif

/* Where `width` vectors lie that begin with float `t` of a run of positions, which are `step`
 * positions apart; unless that is 1, no vector may span two. */
INLINE void place(int64_t *at, int64_t t, int64_t batch, int64_t step, const int width) {
    for (int i = 0; i < width; i++) {
        int64_t u = t + i * LANES;
        at[i] = step == 1 ? u : u / batch * step * batch + u % batch;
    }
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

INLINE float lane_sum(lanes value) {
    float all[LANES];
    STORE(all, value);
    four sum = *(const four *)all;
    for (int i = 4; i < LANES; i += 4) sum += *(const four *)(all + i);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

enum { BLOCK = 4096 }; /* floats that are summed in single precision before going to double */

/* Sum of (a[i] - shift) * (b[i] - shift_b); with b == NULL, of a[i] - shift. */
INLINE double shifted_sum(const float *a, float shift, const float *b, float shift_b,
                          int64_t count) {
    double total = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = start + BLOCK < count ? start + BLOCK : count, i = start;
        lanes sums[4] = {{0}, {0}, {0}, {0}};
        for (; i + 4 * LANES <= end; i += 4 * LANES)
            for (int j = 0; j < 4; j++) {
                lanes term = LOAD(a + i + j * LANES) - shift;
                if (b) term *= LOAD(b + i + j * LANES) - shift_b;
                sums[j] += term;
            }
        float sum = lane_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
        for (; i < end; i++) sum += (a[i] - shift) * (b ? b[i] - shift_b : 1.0f);
        total += sum;
    }
    return total;
}
