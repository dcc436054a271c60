/* Vectors at the end of a run: `count` floats are there, the other lanes hold zeros. */

INLINE lanes take(const float *from, int64_t count) {
    if (count >= LANES) return LOAD(from);
    float all[LANES] = {0};
    for (int64_t i = 0; i < count; i++) all[i] = from[i];
    return LOAD(all);
}

INLINE void give(float *to, lanes value, int64_t count) {
    if (count >= LANES) {
        STORE(to, value);
        return;
    }
    float all[LANES];
    STORE(all, value);
    for (int64_t i = 0; i < count; i++) to[i] = all[i];
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
