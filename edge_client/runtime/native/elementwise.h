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
