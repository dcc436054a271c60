/* Batch normalisation over batch and positions; the channel's values are contiguous. What follows
 * may be done with it: a ReLU (clamping), and the padding of the layer that reads it. */

/* What a channel is normalised with. */
typedef struct {
    float mean, factor, shift, low, high;
} norm;

INLINE float normal(const norm *n, float x) { return (x - n->mean) * n->factor + n->shift; }

/* NaN passes. */
INLINE void normalise(const norm *n, const float *x, float *y, int64_t count) {
    const lanes low = (lanes){0} + n->low, high = (lanes){0} + n->high;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes value = (LOAD(x + i) - n->mean) * n->factor + n->shift;
        bits below = (bits)(value < low), above = (bits)(value > high);
        value = (lanes)(((bits)low & below) | ((bits)value & ~below));
        STORE(y + i, (lanes)(((bits)high & above) | ((bits)value & ~above)));
    }
    for (; i < count; i++) {
        float value = normal(n, x[i]);
        value = value < n->low ? n->low : value;
        y[i] = value > n->high ? n->high : value;
    }
}

INLINE float inverse_root(double variance, double eps) {
    return (float)(1.0 / __builtin_sqrt(variance + eps));
}

INLINE norm norm_of(const batch_norm_arguments *a, int64_t channel) {
    return (norm){
        .mean = a->mean[channel],
        .factor = a->inverse[channel] * a->scale[channel],
        .shift = a->shift[channel],
        .low = (float)a->low,
        .high = (float)a->high,
    };
}

/* Mean and deviation of this batch; the running ones follow with momentum, the variance unbiased. */
INLINE void take_statistics(const batch_norm_arguments *a, int64_t channel, int64_t count) {
    const float *x = a->input + channel * count;
    /* from the first value on, so that a channel that is almost constant has an exact mean */
    double mean = x[0] + shifted_sum(x, x[0], NULL, 0.0f, count) / (double)count;
    double squares = shifted_sum(x, (float)mean, x, (float)mean, count);
    double unbiased = squares / (double)(count - 1);
    a->mean[channel] = (float)mean;
    a->inverse[channel] = inverse_root(squares / (double)count, a->eps);
    a->running_mean[channel] += (float)(a->momentum * (mean - a->running_mean[channel]));
    a->running_var[channel] += (float)(a->momentum * (unbiased - a->running_var[channel]));
}

INLINE void take_running(const batch_norm_arguments *a, int64_t channel) {
    a->mean[channel] = a->running_mean[channel];
    a->inverse[channel] = inverse_root(a->running_var[channel], a->eps);
}

KERNEL(batch_norm_statistics, batch_norm_arguments) {
    for (int64_t c = from; c < to; c++) take_statistics(a, c, a->positions * batch);
}

KERNEL(batch_norm_statistics_inference, batch_norm_arguments) {
    (void)batch;
    for (int64_t c = from; c < to; c++) take_running(a, c);
}

KERNEL(batch_norm, batch_norm_arguments) {
    const int64_t count = a->positions * batch;
    for (int64_t c = from; c < to; c++) {
        take_statistics(a, c, count);
        norm n = norm_of(a, c);
        normalise(&n, a->input + c * count, a->output + c * count, count);
    }
}

KERNEL(batch_norm_inference, batch_norm_arguments) {
    const int64_t count = a->positions * batch;
    for (int64_t c = from; c < to; c++) {
        take_running(a, c);
        norm n = norm_of(a, c);
        normalise(&n, a->input + c * count, a->output + c * count, count);
    }
}

/* The gradient where the output was not clamped, else zero: as torch's, zero at the bounds. */
INLINE lanes passed(const norm *n, lanes x, lanes gradient, const int clamped) {
    if (!clamped) return gradient;
    lanes y = (x - n->mean) * n->factor + n->shift;
    return (lanes)((bits)gradient & (bits)(y > n->low) & (bits)(y < n->high));
}

INLINE float passed_one(const norm *n, float x, float gradient, const int clamped) {
    float y = normal(n, x);
    return !clamped || (y > n->low && y < n->high) ? gradient : 0.0f;
}

/* Sums of the gradient that passes, and of its product with x - mean. */
INLINE void gradient_sums(const norm *n, const float *x, const float *g, int64_t count,
                          const int clamped, double *sum, double *product) {
    *sum = *product = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = start + BLOCK < count ? start + BLOCK : count, i = start;
        lanes sums[2] = {{0}, {0}}, products[2] = {{0}, {0}};
        for (; i + 2 * LANES <= end; i += 2 * LANES)
            for (int j = 0; j < 2; j++) {
                lanes at = LOAD(x + i + j * LANES);
                lanes gradient = passed(n, at, LOAD(g + i + j * LANES), clamped);
                sums[j] += gradient;
                products[j] += gradient * (at - n->mean);
            }
        float rest = 0, product_rest = 0;
        for (; i < end; i++) {
            float gradient = passed_one(n, x[i], g[i], clamped);
            rest += gradient;
            product_rest += gradient * (x[i] - n->mean);
        }
        *sum += lane_sum(sums[0] + sums[1]) + rest;
        *product += lane_sum(products[0] + products[1]) + product_rest;
    }
}

INLINE void batch_norm_backward_channel(const batch_norm_arguments *a, int64_t channel,
                                        int64_t count, const int clamped) {
    const float *x = a->input + channel * count;
    float *g = a->output + channel * count;
    const norm n = norm_of(a, channel);
    const float inverse = a->inverse[channel];
    double sum, product;
    gradient_sums(&n, x, g, count, clamped, &sum, &product);
    a->shift_gradient[channel] = (float)sum + (a->accumulate ? a->shift_gradient[channel] : 0.0f);
    a->scale_gradient[channel] =
        (float)(product * inverse) + (a->accumulate ? a->scale_gradient[channel] : 0.0f);
    const float constant = (float)(sum / (double)count);
    const float slope = (float)(product * inverse * inverse / (double)count);
    for (int64_t i = 0; i < count; i++)
        g[i] = n.factor *
               (passed_one(&n, x[i], g[i], clamped) - constant - (x[i] - n.mean) * slope);
}

KERNEL(batch_norm_backward, batch_norm_arguments) {
    const int clamped = a->low > -__builtin_inf() || a->high < __builtin_inf();
    for (int64_t c = from; c < to; c++)
        if (clamped)
            batch_norm_backward_channel(a, c, a->positions * batch, 1);
        else
            batch_norm_backward_channel(a, c, a->positions * batch, 0);
}
