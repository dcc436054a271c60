/* Elementary functions of vectors, the same on every processor: no calls, no tables, no branches.
 *
 * NaN gives NaN. The errors that are stated are relative, measured against double precision with
 * and without fused multiply-adds (tests/edge_client/runtime/test_elementary.py).
 * Source of the polynomials of exp and tanh: S. Moshier, Cephes (expf, tanhf); the others are
 * minimax fits.
 */

typedef uint32_t naturals __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE lanes magnitude(lanes x) { return (lanes)((bits)x & 0x7fffffff); }

/* 2^n for -126 <= n <= 127. */
INLINE lanes power_of_two(bits n) { return (lanes)((naturals)(n + 127) << 23); }

/* e^x, error 2e-7; infinity and zero beyond the range, denormal numbers at its lower end. */
INLINE lanes exponential(lanes x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    x = clamp(x, -104.0f, 89.0f);
    const lanes shifted = x * 1.44269504f + round, whole = shifted - round;
    const bits n = (bits)shifted - 0x4b400000, half = n >> 1;
    const lanes r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * power_of_two(half) * power_of_two(n - half);
}

/* 1 / (1 + e^-x), error 3e-7. */
INLINE lanes logistic(lanes x) {
    const lanes e = exponential(-magnitude(x));
    return choose((bits)(x < 0.0f), e, (lanes){0} + 1.0f) / (1.0f + e);
}

/* Error 2e-7. */
INLINE lanes hyperbolic_tangent(lanes x) {
    const lanes size = magnitude(x), square = x * x;
    const bits sign = (bits)x & INT32_MIN;
    const lanes far = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
    lanes p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const lanes near = p * square * x + x;
    return choose((bits)(size < 0.625f), near, (lanes)((bits)far | sign));
}

/* ln(1 + e) for 0 <= e <= 1, error 2e-7. */
INLINE lanes logarithm_beyond_one(lanes e) {
    const lanes s = e / (2.0f + e), square = s * s;
    lanes p = square * 0.2817833512f + 0.2796060351f;
    p = p * square + 0.4002491015f;
    p = p * square + 0.6666631469f;
    return p * square * s + 2.0f * s;
}

/* e^(-x^2 / 2), from which the two functions of the normal distribution follow. */
INLINE lanes bell(lanes x) { return exponential(x * x * -0.5f); }

/* The share of the normal distribution below x, given bell(x); error 2e-6 for |x| <= 6. */
INLINE lanes normal_below(lanes x, lanes bell_of_x) {
    const lanes t = 1.0f / (1.0f + 0.2121320344f * magnitude(x));
    lanes p = t * -0.06477802616f + 0.2428686547f;
    p = p * t - 0.2563350423f;
    p = p * t + 0.2741067361f;
    p = p * t - 0.04751497854f;
    p = p * t + 0.1075539909f;
    p = p * t + 0.07414302851f;
    p = p * t + 0.08536192114f;
    p = p * t + 0.08459370579f;
    const lanes tail = p * t * bell_of_x;
    return choose((bits)(x < 0.0f), tail, 1.0f - tail);
}
