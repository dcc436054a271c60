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

KERNEL(pad, pad_arguments) {
    const size_t unit = sizeof(float) * (size_t)batch, row = (size_t)a->width * unit;
    const size_t left = (size_t)a->left * unit, full = (size_t)a->padded_width * unit;
    const char *input = (const char *)a->input + from * a->height * (int64_t)row;
    char *output = (char *)a->output + from * a->padded_height * (int64_t)full;
    for (int64_t c = from; c < to; c++)
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
KERNEL(relu, map_arguments) {
    const float *x = a->input;
    float *y = a->output;
    for (int64_t i = from * batch; i < to * batch; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

/* `input` is what relu gave, `output` the gradient, changed in place. */
KERNEL(relu_backward, map_arguments) {
    const float *y = a->input;
    float *g = a->output;
    for (int64_t i = from * batch; i < to * batch; i++) g[i] = y[i] > 0.0f ? g[i] : 0.0f;
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
