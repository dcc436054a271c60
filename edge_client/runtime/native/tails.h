/* Vectors at the end of a run, of which the first `count` lanes are of use. */

/* What lies behind them is read all the same: after the last buffer there is room for that
 * (execution.py). Another thread may be writing there, which is nothing to the lanes of use; the
 * thread sanitizer cannot know that, and gets a read that stops in time. */
INLINE lanes take(const float *from, int64_t count) {
#if defined(__SANITIZE_THREAD__)
    float all[LANES] = {0};
    memcpy(all, from, sizeof(float) * (size_t)(count < LANES ? count : LANES));
    return LOAD(all);
#else
    (void)count;
    return LOAD(from);
#endif
}

INLINE void give(float *to, lanes value, int64_t count) {
    if (count >= LANES) {
        STORE(to, value);
        return;
    }
    float all[LANES], *from = all;
    STORE(all, value);
    for (int size = LANES / 2; size > 0; size /= 2)
        if (count & size) {
            memcpy(to, from, sizeof(float) * (size_t)size);
            to += size, from += size;
        }
}

/* The first `count` lanes; the others become zeros. */
INLINE lanes part(lanes value, int64_t count) {
    if (count >= LANES) return value;
    float all[LANES] = {0};
    give(all, value, count);
    return LOAD(all);
}

/* Lane by lane `yes` where `condition` holds (all bits set), else `no`. */
INLINE lanes choose(bits condition, lanes yes, lanes no) {
    return (lanes)(((bits)yes & condition) | ((bits)no & ~condition));
}

/* NaN passes. */
INLINE lanes clamp(lanes x, float low, float high) {
    const lanes least = (lanes){0} + low, most = (lanes){0} + high;
    x = choose((bits)(x < least), least, x);
    return choose((bits)(x > most), most, x);
}
