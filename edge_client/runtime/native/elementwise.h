/* Elementwise kernels, copies and sums; `output` may be `input` where that is said. */

/* Samples [batch][count] to [count][batch]. */
KERNEL(load)(const map_arguments *a, int64_t batch) {
    enum { STRIP = 16 };
    for (int64_t start = 0; start < a->count; start += STRIP) {
        int64_t end = start + STRIP < a->count ? start + STRIP : a->count;
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = start; i < end; i++)
                a->output[i * batch + b] = a->input[b * a->count + i];
    }
}

KERNEL(pad)(const pad_arguments *a, int64_t batch) {
    const size_t unit = sizeof(float) * (size_t)batch, row = (size_t)a->width * unit;
    const size_t left = (size_t)a->left * unit, full = (size_t)a->padded_width * unit;
    const char *input = (const char *)a->input;
    char *output = (char *)a->output;
    for (int64_t c = 0; c < a->channels; c++)
        for (int64_t h = 0; h < a->padded_height; h++, output += full) {
            if (h < a->top || h >= a->top + a->height) {
                memset(output, 0, full);
                continue;
            }
            memset(output, 0, left);
            memcpy(output + left, input, row);
            memset(output + left + row, 0, full - left - row);
            input += row;
        }
}

/* NaN passes, as in torch; may run in place. */
KERNEL(relu)(const map_arguments *a, int64_t batch) {
    const int64_t count = a->count * batch;
    const float *x = a->input;
    float *y = a->output;
    for (int64_t i = 0; i < count; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

/* `input` is what relu gave, `output` the gradient, changed in place. */
KERNEL(relu_backward)(const map_arguments *a, int64_t batch) {
    const int64_t count = a->count * batch;
    const float *y = a->input;
    float *g = a->output;
    for (int64_t i = 0; i < count; i++) g[i] = y[i] > 0.0f ? g[i] : 0.0f;
}

/* May run in place of either input. */
KERNEL(add)(const map_arguments *a, int64_t batch) {
    const int64_t count = a->count * batch;
    const float *x = a->input, *z = a->other;
    float *y = a->output;
    for (int64_t i = 0; i < count; i++) y[i] = x[i] + z[i];
}

KERNEL(copy)(const map_arguments *a, int64_t batch) {
    memcpy(a->output, a->input, sizeof(float) * (size_t)(a->count * batch));
}

KERNEL(bias_gradient)(const channel_arguments *a, int64_t batch) {
    const int64_t count = a->positions * batch;
    for (int64_t c = 0; c < a->channels; c++)
        a->output[c] = (float)shifted_sum(a->input + c * count, 0.0f, NULL, 0.0f, count);
}

KERNEL(sgd)(const sgd_arguments *a, int64_t batch) {
    (void)batch;
    const float rate = (float)*a->learning_rate, decay = (float)a->weight_decay;
    const float momentum = (float)a->momentum;
    const float *gradient = a->gradient;
    float *value = a->value, *velocity = a->velocity;
    if (velocity == NULL) {
        for (int64_t i = 0; i < a->count; i++)
            value[i] -= rate * (gradient[i] + decay * value[i]);
        return;
    }
    for (int64_t i = 0; i < a->count; i++) {
        velocity[i] = momentum * velocity[i] + (gradient[i] + decay * value[i]);
        value[i] -= rate * velocity[i];
    }
}
