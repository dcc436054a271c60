/* Pooling over windows, with padding. */

/* The part of a window that lies on the input: rows [from, to) of it, likewise columns. */
INLINE void clip(int64_t corner, int64_t kernel, int64_t size, int64_t *from, int64_t *to) {
    *from = corner < 0 ? -corner : 0;
    *to = corner + kernel > size ? size - corner : kernel;
}

typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* Maximum of one window for `batch` samples; padding never wins, the first of equals does, and NaN
 * is passed on, all as in torch. No window may lie wholly on padding. */
INLINE void max_window(const pool_arguments *a, int64_t batch, const float *channel, int64_t h,
                       int64_t w, float *output, uint16_t *index) {
    int64_t from_i, to_i, from_j, to_j, b = 0;
    clip(h, a->kernel_height, a->height, &from_i, &to_i);
    clip(w, a->kernel_width, a->width, &from_j, &to_j);
    const float *corner = channel + (h * a->width + w) * batch;
    for (; b + LANES <= batch; b += LANES) {
        lanes best = (lanes){0} - __builtin_inff();
        bits where = (bits){0} + (int32_t)(from_i * a->width + from_j);
        for (int64_t i = from_i; i < to_i; i++)
            for (int64_t j = from_j; j < to_j; j++) {
                lanes x = LOAD(corner + (i * a->width + j) * batch + b);
                bits wins = (bits)(x > best) | (bits)(x != x);
                best = (lanes)(((bits)x & wins) | ((bits)best & ~wins));
                where = (where & ~wins) | (((bits){0} + (int32_t)(i * a->width + j)) & wins);
            }
        STORE(output + b, best);
        *(halves *)(index + b) = __builtin_convertvector(where, halves);
    }
    for (; b < batch; b++) {
        float best = -__builtin_inff();
        int64_t where = from_i * a->width + from_j;
        for (int64_t i = from_i; i < to_i; i++)
            for (int64_t j = from_j; j < to_j; j++) {
                float x = corner[(i * a->width + j) * batch + b];
                if (x > best || x != x) best = x, where = i * a->width + j;
            }
        output[b] = best;
        index[b] = (uint16_t)where;
    }
}

KERNEL(max_pool, pool_arguments) {
    int64_t o = from * a->output_height * a->output_width * batch;
    for (int64_t c = from; c < to; c++) {
        const float *channel = a->input + c * a->height * a->width * batch;
        for (int64_t h = 0; h < a->output_height; h++)
            for (int64_t w = 0; w < a->output_width; w++, o += batch)
                max_window(a, batch, channel, h * a->stride_height - a->top,
                           w * a->stride_width - a->left, a->output + o, a->index + o);
    }
}

KERNEL(max_pool_backward, pool_arguments) {
    const int64_t size = a->height * a->width * batch;
    int64_t o = from * a->output_height * a->output_width * batch;
    memset(a->output + from * size, 0, sizeof(float) * (size_t)((to - from) * size));
    for (int64_t c = from; c < to; c++)
        for (int64_t h = 0; h < a->output_height; h++)
            for (int64_t w = 0; w < a->output_width; w++, o += batch) {
                int64_t row = h * a->stride_height - a->top, column = w * a->stride_width - a->left;
                int64_t corner = c * size + (row * a->width + column) * batch;
                for (int64_t b = 0; b < batch; b++)
                    a->output[corner + a->index[o + b] * batch + b] += a->input[o + b];
            }
}

KERNEL(avg_pool, pool_arguments) {
    const float share = 1.0f / (float)(a->kernel_height * a->kernel_width);
    float *output = a->output + from * a->output_height * a->output_width * batch;
    for (int64_t c = from; c < to; c++)
        for (int64_t h = 0; h < a->output_height; h++)
            for (int64_t w = 0; w < a->output_width; w++, output += batch) {
                int64_t row = h * a->stride_height - a->top, column = w * a->stride_width - a->left;
                int64_t from_i, to_i, from_j, to_j;
                clip(row, a->kernel_height, a->height, &from_i, &to_i);
                clip(column, a->kernel_width, a->width, &from_j, &to_j);
                memset(output, 0, sizeof(float) * (size_t)batch);
                for (int64_t i = row + from_i; i < row + to_i; i++)
                    for (int64_t j = column + from_j; j < column + to_j; j++) {
                        const float *x = a->input + ((c * a->height + i) * a->width + j) * batch;
                        for (int64_t b = 0; b < batch; b++) output[b] += x[b];
                    }
                for (int64_t b = 0; b < batch; b++) output[b] *= share;
            }
}

KERNEL(avg_pool_backward, pool_arguments) {
    const float share = 1.0f / (float)(a->kernel_height * a->kernel_width);
    const int64_t size = a->height * a->width * batch;
    const float *gradient = a->input + from * a->output_height * a->output_width * batch;
    memset(a->output + from * size, 0, sizeof(float) * (size_t)((to - from) * size));
    for (int64_t c = from; c < to; c++)
        for (int64_t h = 0; h < a->output_height; h++)
            for (int64_t w = 0; w < a->output_width; w++, gradient += batch) {
                int64_t row = h * a->stride_height - a->top, column = w * a->stride_width - a->left;
                int64_t from_i, to_i, from_j, to_j;
                clip(row, a->kernel_height, a->height, &from_i, &to_i);
                clip(column, a->kernel_width, a->width, &from_j, &to_j);
                for (int64_t i = row + from_i; i < row + to_i; i++)
                    for (int64_t j = column + from_j; j < column + to_j; j++) {
                        float *x = a->output + ((c * a->height + i) * a->width + j) * batch;
                        for (int64_t b = 0; b < batch; b++) x[b] += share * gradient[b];
                    }
            }
}

KERNEL(global_avg_pool, channel_arguments) {
    const float share = 1.0f / (float)a->positions;
    memset(a->output + from * batch, 0, sizeof(float) * (size_t)((to - from) * batch));
    for (int64_t c = from; c < to; c++) {
        const float *x = a->input + c * a->positions * batch;
        float *y = a->output + c * batch;
        for (int64_t p = 0; p < a->positions; p++)
            for (int64_t b = 0; b < batch; b++) y[b] += x[p * batch + b];
        for (int64_t b = 0; b < batch; b++) y[b] *= share;
    }
}

KERNEL(global_avg_pool_backward, channel_arguments) {
    const float share = 1.0f / (float)a->positions;
    for (int64_t c = from; c < to; c++) {
        const float *gradient = a->input + c * batch;
        float *x = a->output + c * a->positions * batch;
        for (int64_t p = 0; p < a->positions; p++)
            for (int64_t b = 0; b < batch; b++) x[p * batch + b] = share * gradient[b];
    }
}
