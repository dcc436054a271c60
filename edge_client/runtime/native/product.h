/* Linear and convolution layers with sparse weights: forward and input gradient are one kernel on
 * two indices, the weight gradient is computed at the kept positions only. */

/* One tile, `width` vectors of every output row; `ways` entries of a row are summed apart, so that
 * a narrow tile does not wait for its own additions. */
INLINE void product_tile(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                         const float *input, float *output, const int64_t *at, const int width,
                         const int ways, const int ordered) {
    const int64_t channel = a->output_channel * batch;
    const int32_t *const offset = a->offset, *const order = a->order;
    const float *const values = a->values;
    for (int64_t row = from; row < to; row++) {
        lanes sums[4][8];
        for (int i = 0; i < width; i++) /* the next row's output: stores to memory are slow to begin */
            __builtin_prefetch(output + (row + 1) * channel + at[i], 1);
        float bias = a->bias ? a->bias[row] : 0.0f;
        for (int j = 0; j < ways; j++)
            for (int i = 0; i < width; i++) sums[j][i] = (lanes){0} + (j ? 0.0f : bias);
        int64_t k = a->row_start[row], end = a->row_start[row + 1];
        for (; k + ways <= end; k += ways)
            for (int j = 0; j < ways; j++) {
                const float *x = input + offset[k + j] * batch;
                float value = values[ordered ? order[k + j] : k + j];
                for (int i = 0; i < width; i++) sums[j][i] += value * LOAD(x + i * LANES);
            }
        for (; k < end; k++) {
            const float *x = input + offset[k] * batch;
            float value = values[ordered ? order[k] : k];
            for (int i = 0; i < width; i++) sums[0][i] += value * LOAD(x + i * LANES);
        }
        for (int i = 0; i < width; i++) {
            lanes sum = sums[0][i];
            for (int j = 1; j < ways; j++) sum += sums[j][i];
            STORE(output + row * channel + at[i], sum);
        }
    }
}

/* The same for `count` < LANES floats, which lie together. */
INLINE void product_rest(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                         const float *input, float *output, int64_t count) {
    for (int64_t row = from; row < to; row++) {
        float sums[LANES];
        for (int64_t i = 0; i < count; i++) sums[i] = a->bias ? a->bias[row] : 0.0f;
        for (int64_t k = a->row_start[row]; k < a->row_start[row + 1]; k++) {
            const float *x = input + a->offset[k] * batch;
            float value = a->values[a->order ? a->order[k] : k];
            for (int64_t i = 0; i < count; i++) sums[i] += value * x[i];
        }
        memcpy(output + row * a->output_channel * batch, sums, sizeof(float) * (size_t)count);
    }
}

/* A run of `length` floats. */
INLINE void product_run(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                        const float *input, float *output, int64_t length, int64_t step,
                        const int ordered) {
    int64_t t = 0, at[8];
#define TILES(width, ways)                                                                        \
    for (; t + width * LANES <= length; t += width * LANES) {                                     \
        place(at, t, batch, step, width);                                                         \
        product_tile(a, batch, from, to, input + t, output, at, width, ways, ordered);            \
    }
    TILES(8, 1)
    TILES(4, 2)
    TILES(2, 4)
    TILES(1, 4)
#undef TILES
    if (t == length) return;
    if (length > LANES) { /* the last vector once more, ending where the run ends */
        place(at, t = length - LANES, batch, step, 1);
        product_tile(a, batch, from, to, input + t, output, at, 1, 4, ordered);
    } else {
        product_rest(a, batch, from, to, input, output, length);
    }
}

INLINE void product_lines(const product_arguments *a, int64_t batch, int64_t from, int64_t to,
                          const int ordered) {
    const int whole = a->walk.output_step == 1 || batch % LANES == 0; /* no vector spans two positions */
    for (int64_t line = 0; line < a->walk.lines; line++) {
        const float *input = a->input + line * a->walk.input_line * batch;
        float *output = a->output + (a->walk.output_start + line * a->walk.output_line) * batch;
        if (whole) {
            product_run(a, batch, from, to, input, output, a->walk.run * batch, a->walk.output_step, ordered);
            continue;
        }
        for (int64_t p = 0; p < a->walk.run; p++)
            product_run(a, batch, from, to, input + p * batch, output + p * a->walk.output_step * batch,
                        batch, 1, ordered);
    }
}

KERNEL(product, product_arguments) {
    if (a->order)
        product_lines(a, batch, from, to, 1);
    else
        product_lines(a, batch, from, to, 0);
}

/* A piece of the walk that stays in the first-level cache: `lines` of `length` floats. */
typedef struct {
    const float *input, *gradient;
    int64_t lines, input_line, gradient_line, length;
} piece;

enum { PIECE = 1024 };

/* The piece that begins with float `t` of line `line`. */
INLINE piece piece_at(const float *input, const float *gradient, const walk *w, int64_t batch,
                      int64_t line, int64_t lines, int64_t t) {
    const int64_t length = w->run * batch;
    return (piece){
        .input = input + line * w->input_line * batch + t,
        .gradient = gradient + line * w->output_line * batch + t,
        .lines = w->lines - line < lines ? w->lines - line : lines,
        .input_line = w->input_line * batch,
        .gradient_line = w->output_line * batch,
        .length = length - t < PIECE ? length - t : PIECE,
    };
}

/* How many lines make a piece. */
INLINE int64_t piece_lines(const walk *w, int64_t batch) {
    const int64_t length = w->run * batch;
    return length < PIECE ? (PIECE + length - 1) / length : 1;
}

INLINE void add_products(const piece *p, const int32_t *offset, int64_t batch, int64_t row_base,
                         float *result, const int ways) {
    lanes sums[8];
    float rest[8] = {0};
    const float *x[8];
    for (int j = 0; j < 8; j++) sums[j] = (lanes){0};
    for (int j = 0; j < ways; j++) x[j] = p->input + offset[j] * batch;
    const float *g = p->gradient + row_base;
    for (int64_t w = 0; w < p->lines; w++) {
        int64_t t = w * p->input_line, u = w * p->gradient_line, end = t + p->length;
        for (; t + LANES <= end; t += LANES, u += LANES) {
            lanes gradient = LOAD(g + u);
            for (int j = 0; j < ways; j++) sums[j] += gradient * LOAD(x[j] + t);
        }
        for (; t < end; t++, u++)
            for (int j = 0; j < ways; j++) rest[j] += g[u] * x[j][t];
    }
    if (ways == 8) {
        for (int j = 0; j < 8; j++) result[j] += rest[j];
        add_sums(sums, result);
    } else {
        for (int j = 0; j < ways; j++) result[j] += rest[j] + lane_sum(sums[j]);
    }
}

INLINE float gradient_sum(const piece *p, int64_t row_base) {
    lanes sums = {0};
    float rest = 0;
    for (int64_t w = 0; w < p->lines; w++) {
        const float *g = p->gradient + row_base + w * p->gradient_line, *end = g + p->length;
        for (; g + LANES <= end; g += LANES) sums += LOAD(g);
        for (; g < end; g++) rest += *g;
    }
    return rest + lane_sum(sums);
}

INLINE void weight_gradient_piece(const weight_gradient_arguments *a, const piece *p,
                                  int64_t batch, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
        int64_t k = a->row_start[row], end = a->row_start[row + 1];
        int64_t base = row * a->gradient_channel * batch;
        for (; k + 8 <= end; k += 8)
            add_products(p, a->offset + k, batch, base, a->result + k, 8);
        if (k + 4 <= end) {
            add_products(p, a->offset + k, batch, base, a->result + k, 4);
            k += 4;
        }
        if (k + 2 <= end) {
            add_products(p, a->offset + k, batch, base, a->result + k, 2);
            k += 2;
        }
        if (k < end) add_products(p, a->offset + k, batch, base, a->result + k, 1);
        if (a->bias_result) a->bias_result[row] += gradient_sum(p, base);
    }
}

KERNEL(weight_gradient, weight_gradient_arguments) {
    const int64_t lines = piece_lines(&a->walk, batch), length = a->walk.run * batch;
    if (!a->accumulate) {
        int64_t first = a->row_start[from], last = a->row_start[to];
        memset(a->result + first, 0, sizeof(float) * (size_t)(last - first));
        if (a->bias_result) memset(a->bias_result + from, 0, sizeof(float) * (size_t)(to - from));
    }
    for (int64_t line = 0; line < a->walk.lines; line += lines)
        for (int64_t t = 0; t < length; t += PIECE) {
            piece p = piece_at(a->input, a->gradient, &a->walk, batch, line, lines, t);
            weight_gradient_piece(a, &p, batch, from, to);
        }
}
