/* Products of two values. */

/* May run in place of either input. Units: positions. */
KERNEL(multiply, map_arguments) {
    const float *x = a->input, *z = a->other;
    float *y = a->output;
    for (int64_t i = from * batch; i < to * batch; i++) y[i] = x[i] * z[i];
}

/* Every position of a channel times the channel's one value in `other`, may run in place. */
KERNEL(gate, gate_arguments) {
    for (int64_t c = from; c < to; c++)
        for (int64_t p = c * a->positions; p < (c + 1) * a->positions; p++)
            for (int64_t b = 0; b < batch; b++)
                a->output[p * batch + b] = a->input[p * batch + b] * a->other[c * batch + b];
}

/* The gate's gradient: the sum of input times gradient (`other`) over the channel's positions. */
KERNEL(gate_gradient, gate_arguments) {
    for (int64_t c = from; c < to; c++)
        for (int64_t b = 0; b < batch; b += LANES) {
            const int64_t start = c * a->positions * batch + b, count = batch - b;
            lanes sum = {0};
            for (int64_t p = 0; p < a->positions; p++)
                sum += take(a->input + start + p * batch, count) *
                       take(a->other + start + p * batch, count);
            give(a->output + c * batch + b, sum, count);
        }
}
