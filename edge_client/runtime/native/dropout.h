/* Dropout without a stored mask: whether a float is dropped follows from the step's seed, the node,
 * the position and the sample alone, so that the way back, and any number of threads, find the same.
 */

/* Source: G. Steele, D. Lea & C. Flood, Fast Splittable Pseudorandom Number Generators, 2014
 * (SplitMix64, with the constants of its reference implementation). */
INLINE uint64_t scrambled(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Source: C. Wellons, hash-prospector, lowbias32. */
INLINE naturals mixed(naturals x) {
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0xd35a2d97u;
    return x ^ (x >> 15);
}

KERNEL(dropout, dropout_arguments) {
    const uint64_t key = scrambled(*a->seed ^ scrambled((uint64_t)a->node));
    const int32_t limit = (int32_t)(a->rate * 16777216.0);
    const lanes scale = (lanes){0} + (float)(a->rate < 1.0 ? 1.0 / (1.0 - a->rate) : 0.0);
    naturals first;
    for (int i = 0; i < LANES; i++) first[i] = (uint32_t)i;
    for (int64_t p = from; p < to; p++) {
        const uint64_t row = scrambled(key ^ (uint64_t)p);
        for (int64_t b = 0; b < batch; b += LANES) {
            const naturals sample = first + (uint32_t)(*a->sample + b);
            const naturals chance = mixed(mixed(sample ^ (uint32_t)row) + (uint32_t)(row >> 32));
            const lanes factor = (lanes)((bits)scale & ((bits)(chance >> 8) >= limit));
            const int64_t i = p * batch + b;
            give(a->output + i, take(a->input + i, batch - b) * factor, batch - b);
        }
    }
}

KERNEL(dropout_inference, dropout_arguments) {
    if (a->output == a->input) return;
    memcpy(a->output + from * batch, a->input + from * batch,
           sizeof(float) * (size_t)((to - from) * batch));
}
