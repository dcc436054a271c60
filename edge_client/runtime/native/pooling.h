/* Pooling over windows, with padding. */

/* The part of a window that lies on the input: rows [from, to) of it, likewise columns. */
INLINE void clip(int64_t corner, int64_t kernel, int64_t size, int64_t *from, int64_t *to) {
    *from = corner < 0 ? -corner : 0;
    *to = corner + kernel > size ? size - corner : kernel;
}

typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

enum { MAX_TILE = 4 }; /* vectors of maxima that are looked for side by side */

/* The position in a window, relative to its corner, and what stands there, if it is larger or NaN:
 * the first of equals wins, padding never does, and NaN is passed on, all as in torch. */
INLINE void take_larger(lanes x, int64_t position, lanes *best, bits *where) {
    bits wins = (bits)(x > *best) | (bits)(x != x);
    *best = (lanes)(((bits)x & wins) | ((bits)*best & ~wins));
    *where = (*where & ~wins) | (((bits){0} + (int32_t)position) & wins);
}

/* Maxima of `width` vectors of windows, all of which reach over rows [from, to) and every column;
 * vector v begins at corner + at[v]. */
INLINE void max_tile(const pool_arguments *a, int64_t batch, int64_t from, int64_t to,
                     const float *corner, const int64_t *at, float *output, uint16_t *index,
                     const int width) {
    lanes best[MAX_TILE];
    bits where[MAX_TILE];
    for (int v = 0; v < width; v++) {
        best[v] = (lanes){0} - __builtin_inff();
        where[v] = (bits){0} + (int32_t)(from * a->width);
    }
    for (int64_t i = from; i < to; i++)
        for (int64_t j = 0; j < a->kernel_width; j++)
            for (int v = 0; v < width; v++) {
                const int64_t position = i * a->width + j;
                take_larger(LOAD(corner + position * batch + at[v]), position, best + v, where + v);
            }
    for (int v = 0; v < width; v++) {
        STORE(output + v * LANES, best[v]);
        *(halves *)(index + v * LANES) = __builtin_convertvector(where[v], halves);
    }
}

/* Maxima of one window, wherever it lies, for `batch` samples. No window may lie wholly on padding. */
INLINE void max_window(const pool_arguments *a, int64_t batch, const float *channel, int64_t h,
                       int64_t w, float *output, uint16_t *index) {
    int64_t from_i, to_i, from_j, to_j;
    clip(h, a->kernel_height, a->height, &from_i, &to_i);
    clip(w, a->kernel_width, a->width, &from_j, &to_j);
    const float *corner = channel + (h * a->width + w) * batch;
    for (int64_t b = 0; b < batch; b++) {
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

/* The windows [first, last) of a row, whose columns all lie on the input, as far as vectors go;
 * returns the first one that is left. */
INLINE int64_t max_run(const pool_arguments *a, int64_t batch, const float *channel, int64_t h,
                       int64_t first, int64_t last, float *output, uint16_t *index) {
    const int64_t step = a->stride_width, length = (last - first) * batch;
    int64_t from, to, t = 0, at[MAX_TILE];
    if (step != 1 && batch % LANES != 0) return first; /* a vector would span two windows */
    clip(h, a->kernel_height, a->height, &from, &to);
    const float *corner = channel + (h * a->width + first * step - a->left) * batch;
    output += first * batch;
    index += first * batch;
#define TILES(width)                                                                              \
    for (; t + width * LANES <= length; t += width * LANES) {                                     \
        place(at, t, batch, step, width);                                                         \
        max_tile(a, batch, from, to, corner, at, output + t, index + t, width);                   \
    }
    TILES(MAX_TILE)
    TILES(1)
#undef TILES
    return first + t / batch;
}

/* The windows of an axis that lie wholly on the input: [first, last). */
INLINE void inner(int64_t kernel, int64_t stride, int64_t before, int64_t size, int64_t output,
                  int64_t *first, int64_t *last) {
    *first = (before + stride - 1) / stride;
    *last = size + before >= kernel ? (size + before - kernel) / stride + 1 : 0;
    if (*last > output) *last = output;
    if (*first > *last) *first = *last;
}

KERNEL(max_pool, pool_arguments) {
    int64_t first, last;
    inner(a->kernel_width, a->stride_width, a->left, a->width, a->output_width, &first, &last);
    for (int64_t c = from; c < to; c++) {
        const float *channel = a->input + c * a->height * a->width * batch;
        for (int64_t oh = 0; oh < a->output_height; oh++) {
            const int64_t o = (c * a->output_height + oh) * a->output_width * batch;
            const int64_t h = oh * a->stride_height - a->top;
            float *output = a->output + o;
            uint16_t *index = a->index + o;
            int64_t done = max_run(a, batch, channel, h, first, last, output, index);
            for (int64_t ow = 0; ow < a->output_width; ow++)
                if (ow < first || ow >= done)
                    max_window(a, batch, channel, h, ow * a->stride_width - a->left,
                               output + ow * batch, index + ow * batch);
        }
    }
}

/* The windows of an axis that position `p` of the input lies in: [first, last). */
INLINE void covering(int64_t p, int64_t kernel, int64_t stride, int64_t before, int64_t output,
                     int64_t *first, int64_t *last) {
    int64_t begin = p + before - kernel + 1;
    *first = begin > 0 ? (begin + stride - 1) / stride : 0;
    *last = (p + before) / stride + 1;
    if (*last > output) *last = output;
}

/* Where the output of window (i, j) begins, in floats, and its corner, in padded positions. */
INLINE int64_t window_at(const pool_arguments *a, int64_t batch, int64_t channel, int64_t i,
                         int64_t j) {
    return ((channel * a->output_height + i) * a->output_width + j) * batch;
}

INLINE int64_t window_corner(const pool_arguments *a, int64_t i, int64_t j) {
    return i * a->stride_height * a->width + j * a->stride_width;
}

/* The gradient of input position (h, w): of those windows that found their maximum there. */
INLINE void max_gather(const pool_arguments *a, int64_t batch, int64_t channel, int64_t h,
                       int64_t w, float *output) {
    int64_t from_i, to_i, from_j, to_j, b = 0;
    covering(h, a->kernel_height, a->stride_height, a->top, a->output_height, &from_i, &to_i);
    covering(w, a->kernel_width, a->stride_width, a->left, a->output_width, &from_j, &to_j);
    const int64_t corner = (h + a->top) * a->width + w + a->left;
    for (; b <= batch - LANES; b += LANES) {
        lanes sum = {0};
        for (int64_t i = from_i; i < to_i; i++)
            for (int64_t j = from_j; j < to_j; j++) {
                int64_t o = window_at(a, batch, channel, i, j) + b;
                int32_t here = (int32_t)(corner - window_corner(a, i, j));
                bits where = __builtin_convertvector(*(const halves *)(a->index + o), bits);
                sum += (lanes)((bits)LOAD(a->input + o) & (bits)(where == here));
            }
        STORE(output + b, sum);
    }
    for (; b < batch; b++) {
        float sum = 0;
        for (int64_t i = from_i; i < to_i; i++)
            for (int64_t j = from_j; j < to_j; j++) {
                int64_t o = window_at(a, batch, channel, i, j) + b;
                if (a->index[o] == corner - window_corner(a, i, j)) sum += a->input[o];
            }
        output[b] = sum;
    }
}

/* The same for `width` vectors from input position (h, w) on, where the stride across is 1 and every
 * column of the windows counts: the n-th column before the position lies n windows back. */
INLINE void max_gather_tile(const pool_arguments *a, int64_t batch, int64_t channel, int64_t h,
                            int64_t start, float *output, const int width) {
    int64_t from, to;
    covering(h, a->kernel_height, a->stride_height, a->top, a->output_height, &from, &to);
    lanes sums[MAX_TILE];
    for (int v = 0; v < width; v++) sums[v] = (lanes){0};
    for (int64_t i = from; i < to; i++)
        for (int64_t n = 0; n < a->kernel_width; n++) {
            const int64_t o = window_at(a, batch, channel, i, a->left - n) + start;
            const int32_t here = (int32_t)((h + a->top - i * a->stride_height) * a->width + n);
            for (int v = 0; v < width; v++) {
                const halves *index = (const halves *)(a->index + o + v * LANES);
                bits hit = (bits)(__builtin_convertvector(*index, bits) == here);
                sums[v] += (lanes)((bits)LOAD(a->input + o + v * LANES) & hit);
            }
        }
    for (int v = 0; v < width; v++) STORE(output + start + v * LANES, sums[v]);
}

/* The row (channel, h) of the input's gradient from position `first` to `last`, as far as vectors
 * go; returns the first position that is left. */
INLINE int64_t max_gather_run(const pool_arguments *a, int64_t batch, int64_t channel, int64_t h,
                              int64_t first, int64_t last, float *output) {
    int64_t t = first * batch, end = last * batch;
    for (; t + MAX_TILE * LANES <= end; t += MAX_TILE * LANES)
        max_gather_tile(a, batch, channel, h, t, output, MAX_TILE);
    for (; t + LANES <= end; t += LANES) max_gather_tile(a, batch, channel, h, t, output, 1);
    return t / batch;
}

KERNEL(max_pool_backward, pool_arguments) {
    int64_t first = a->kernel_width - 1 - a->left, last = a->output_width - a->left;
    if (first < 0) first = 0;
    if (last > a->width) last = a->width;
    if (a->stride_width != 1 || last < first) last = first;
    float *output = a->output + from * a->height * a->width * batch;
    for (int64_t c = from; c < to; c++)
        for (int64_t h = 0; h < a->height; h++, output += a->width * batch) {
            int64_t done = max_gather_run(a, batch, c, h, first, last, output);
            for (int64_t w = 0; w < a->width; w++)
                if (w < first || w >= done) max_gather(a, batch, c, h, w, output + w * batch);
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
