/* The limits of the machine, in the vectors that the kernels use: what they reach is held against
 * these. Every kernel repeats its loop `rounds` times, so that a call takes long enough to time. One unit. */

enum { LIMIT_SUMS = 12 }; /* independent chains: more than latency times units of any processor */

/* Fused (or, where the variant has none, separate) multiply-adds, in registers:
 * LIMIT_SUMS * LANES a round. The result goes to `output` (LANES floats). */
KERNEL(fma_limit, limit_arguments) {
    (void)batch, (void)from, (void)to;
    lanes sums[LIMIT_SUMS];
    const lanes factor = LOAD(a->input), term = LOAD(a->input + LANES);
    for (int j = 0; j < LIMIT_SUMS; j++) sums[j] = factor + (float)j;
    for (int64_t r = 0; r < a->rounds; r++)
        for (int j = 0; j < LIMIT_SUMS; j++) sums[j] = sums[j] * factor + term;
    lanes sum = sums[0];
    for (int j = 1; j < LIMIT_SUMS; j++) sum += sums[j];
    STORE(a->output, sum);
}

/* Read `count` floats (a multiple of 8 * LANES). */
KERNEL(load_limit, limit_arguments) {
    (void)batch, (void)from, (void)to;
    lanes sums[8];
    for (int j = 0; j < 8; j++) sums[j] = (lanes){0};
    for (int64_t r = 0; r < a->rounds; r++) {
        for (int64_t i = 0; i + 8 * LANES <= a->count; i += 8 * LANES)
            for (int j = 0; j < 8; j++) sums[j] += LOAD(a->input + i + j * LANES);
        __asm__ volatile("" ::: "memory");
    }
    for (int j = 1; j < 8; j++) sums[0] += sums[j];
    STORE(a->output, sums[0]);
}

/* Copy `count` floats (a multiple of 8 * LANES). */
KERNEL(copy_limit, limit_arguments) {
    (void)batch, (void)from, (void)to;
    for (int64_t r = 0; r < a->rounds; r++) {
        for (int64_t i = 0; i + 8 * LANES <= a->count; i += 8 * LANES)
            for (int j = 0; j < 8; j++)
                STORE(a->output + i + j * LANES, LOAD(a->input + i + j * LANES));
        __asm__ volatile("" ::: "memory");
    }
}
