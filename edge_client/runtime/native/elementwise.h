/* Elementwise kernels, copies and sums; `output` may be `input` where that is said. */

/* Samples [batch][count] to [count][batch]. */
KERNEL(load, map_arguments) {
    enum { STRIP = 16 };
    for (int64_t start = from; start < to; start += STRIP) {
        int64_t end = start + STRIP < to ? start + STRIP : to;
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = start; i < end; i++)
                a->output[i * batch + b] = a->input[b * a->count + i];
    }
}

/* A row of a plane: every `stride_width`-th position of an input row from `column` on. */
INLINE void pad_row(const pad_arguments *a, int64_t batch, const float *row, int64_t column,
                    float *output) {
    const int64_t step = a->stride_width, size = a->plane_width;
    int64_t first = column >= 0 ? 0 : (-column + step - 1) / step;
    int64_t last = a->width > column ? (a->width - column + step - 1) / step : 0;
    if (first > size) first = size;
    if (last > size) last = size;
    if (last < first) last = first;
    memset(output, 0, sizeof(float) * (size_t)(first * batch));
    if (step == 1)
        memcpy(output + first * batch, row + (column + first) * batch,
               sizeof(float) * (size_t)((last - first) * batch));
    else
        for (int64_t w = first; w < last; w++)
            memcpy(output + w * batch, row + (column + w * step) * batch,
                   sizeof(float) * (size_t)batch);
    memset(output + last * batch, 0, sizeof(float) * (size_t)((size - last) * batch));
}

KERNEL(pad, pad_arguments) {
    const int64_t line = a->plane_width * batch;
    const int64_t channel = a->planes_down * a->planes_across * a->plane_height * line;
    float *output = a->output + from * channel;
    for (int64_t c = from; c < to; c++)
        for (int64_t p = 0; p < a->planes_down; p++)
            for (int64_t q = 0; q < a->planes_across; q++)
                for (int64_t h = 0; h < a->plane_height; h++, output += line) {
                    int64_t row = h * a->stride_height + p - a->top;
                    if (row < 0 || row >= a->height)
                        memset(output, 0, sizeof(float) * (size_t)line);
                    else
                        pad_row(a, batch, a->input + (c * a->height + row) * a->width * batch,
                                q - a->left, output);
                }
}

/* May run in place of either input. */
KERNEL(add, map_arguments) {
    const float *x = a->input, *z = a->other;
    float *y = a->output;
    for (int64_t i = from * batch; i < to * batch; i++) y[i] = x[i] + z[i];
}

KERNEL(copy, map_arguments) {
    memcpy(a->output + from * batch, a->input + from * batch,
           sizeof(float) * (size_t)((to - from) * batch));
}

KERNEL(sgd, sgd_arguments) {
    (void)batch;
    const float rate = (float)*a->learning_rate, decay = (float)a->weight_decay;
    const float momentum = (float)a->momentum;
    const float *gradient = a->gradient;
    float *value = a->value, *velocity = a->velocity;
    if (velocity == NULL) {
        for (int64_t i = from; i < to; i++)
            value[i] -= rate * (gradient[i] + decay * value[i]);
        return;
    }
    for (int64_t i = from; i < to; i++) {
        velocity[i] = momentum * velocity[i] + (gradient[i] + decay * value[i]);
        value[i] -= rate * velocity[i];
    }
}

/* Gradients of parameters, before the micro-batches of a step add to them. */
KERNEL(clear, map_arguments) {
    (void)batch;
    memset(a->output + from, 0, sizeof(float) * (size_t)(to - from));
}
