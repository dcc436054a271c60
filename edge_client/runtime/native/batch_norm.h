/* Batch normalisation over batch and positions; the channel's values are contiguous. */

INLINE void normalise(const batch_norm_arguments *a, int64_t channel, int64_t count, float mean,
                      float inverse) {
    const float *x = a->input + channel * count;
    float *y = a->output + channel * count;
    const float factor = inverse * a->scale[channel], shift = a->shift[channel];
    for (int64_t i = 0; i < count; i++) y[i] = (x[i] - mean) * factor + shift;
}

INLINE float inverse_root(double variance, double eps) {
    return (float)(1.0 / __builtin_sqrt(variance + eps));
}

/* With the batch's statistics; the running ones follow with momentum, the variance unbiased. */
KERNEL(batch_norm, batch_norm_arguments) {
    const int64_t count = a->positions * batch;
    for (int64_t c = from; c < to; c++) {
        const float *x = a->input + c * count;
        double mean = shifted_sum(x, 0.0f, NULL, 0.0f, count) / (double)count;
        double squares = shifted_sum(x, (float)mean, x, (float)mean, count);
        double unbiased = squares / (double)(count - 1);
        a->mean[c] = (float)mean;
        a->inverse[c] = inverse_root(squares / (double)count, a->eps);
        a->running_mean[c] += (float)(a->momentum * (mean - a->running_mean[c]));
        a->running_var[c] += (float)(a->momentum * (unbiased - a->running_var[c]));
        normalise(a, c, count, a->mean[c], a->inverse[c]);
    }
}

KERNEL(batch_norm_inference, batch_norm_arguments) {
    for (int64_t c = from; c < to; c++)
        normalise(a, c, a->positions * batch, a->running_mean[c],
                  inverse_root(a->running_var[c], a->eps));
}

KERNEL(batch_norm_backward, batch_norm_arguments) {
    const int64_t count = a->positions * batch;
    for (int64_t c = from; c < to; c++) {
        const float *x = a->input + c * count;
        float *g = a->output + c * count;
        const float mean = a->mean[c], inverse = a->inverse[c];
        double sum = shifted_sum(g, 0.0f, NULL, 0.0f, count);
        double product = shifted_sum(g, 0.0f, x, mean, count);
        a->shift_gradient[c] = (float)sum + (a->accumulate ? a->shift_gradient[c] : 0.0f);
        a->scale_gradient[c] =
            (float)(product * inverse) + (a->accumulate ? a->scale_gradient[c] : 0.0f);
        const float factor = a->scale[c] * inverse, constant = (float)(sum / (double)count);
        const float slope = (float)(product * inverse * inverse / (double)count);
        for (int64_t i = 0; i < count; i++)
            g[i] = factor * (g[i] - constant - (x[i] - mean) * slope);
    }
}
